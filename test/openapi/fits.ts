import type { Json } from "../../scripts/openapi/rules.js";

/** What a value has against a schema, by path; as much of JSON Schema as the document uses, and it throws at anything else. */
export function misfits(document: Json, schema: Json, value: unknown, at = ""): string[] {
  const fits = (one: Json) => misfits(document, one, value, at).length === 0;
  const wrong: string[] = [];
  const claim = (holds: boolean, what: string) => holds || wrong.push(`${at}: ${what}`);
  const inside = (one: Json, part: unknown, name: string | number) =>
    wrong.push(...misfits(document, one, part, `${at}/${name}`));
  const text = typeof value === "string" ? value : undefined;
  const list = Array.isArray(value) ? value : undefined;
  const object = typeof value === "object" && value !== null && !list ? (value as Json) : undefined;
  for (const [keyword, rule] of Object.entries(schema) as [string, never][]) {
    switch (keyword) {
      case "$ref":
        wrong.push(...misfits(document, resolved(document, rule), value, at));
        break;
      case "type":
        claim(typeOf(value, rule) === rule, `is no ${rule}`);
        break;
      case "enum":
        claim((rule as unknown[]).includes(value), `is none of ${rule}`);
        break;
      case "const":
        claim(value === rule, `is not ${rule}`);
        break;
      case "pattern":
        claim(text === undefined || new RegExp(rule, "u").test(text), `does not match ${rule}`);
        break;
      case "minLength":
        claim(text === undefined || [...text].length >= rule, "is too short");
        break;
      case "maxLength":
        claim(text === undefined || [...text].length <= rule, "is too long");
        break;
      case "minimum":
        claim(typeof value !== "number" || value >= rule, `is less than ${rule}`);
        break;
      case "maximum":
        claim(typeof value !== "number" || value <= rule, `is more than ${rule}`);
        break;
      case "minItems":
        claim(!list || list.length >= rule, "has too few items");
        break;
      case "maxItems":
        claim(!list || list.length <= rule, "has too many items");
        break;
      case "uniqueItems":
        claim(!list || new Set(list.map((item) => JSON.stringify(item))).size === list.length, "has an item twice");
        break;
      case "items":
        list?.forEach((item, index) => {
          inside(rule, item, index);
        });
        break;
      case "required":
        for (const name of object ? (rule as string[]) : []) claim(name in (object as Json), `lacks ${name}`);
        break;
      case "properties":
        for (const [name, one] of Object.entries(rule as Record<string, Json>))
          if (object && name in object) inside(one, object[name], name);
        break;
      case "additionalProperties": {
        const named = Object.keys((schema.properties as Json | undefined) ?? {});
        const others = Object.keys(object ?? {}).filter((name) => !named.includes(name));
        if ((rule as unknown) === false) claim(others.length === 0, `has ${others}`);
        else for (const name of others) inside(rule, (object as Json)[name], name);
        break;
      }
      case "propertyNames":
        for (const name of Object.keys(object ?? {})) wrong.push(...misfits(document, rule, name, `${at}/${name}`));
        break;
      case "maxProperties":
        claim(!object || Object.keys(object).length <= rule, "has too many properties");
        break;
      case "oneOf":
        claim((rule as Json[]).filter(fits).length === 1, "does not fit exactly one of its kinds");
        break;
      case "anyOf":
        claim((rule as Json[]).some(fits), "fits none of its kinds");
        break;
      case "allOf":
        for (const one of rule as Json[]) wrong.push(...misfits(document, one, value, at));
        break;
      case "not":
        claim(!fits(rule), "is what it must not be");
        break;
      case "format":
        claim(text === undefined || (formats[rule as string] ?? /^/).test(text), `is no ${rule}`);
        break;
      case "description":
      case "readOnly":
      case "contentEncoding":
        break;
      default:
        throw new Error(`the keyword ${keyword} is not known here`);
    }
  }
  return wrong;
}

const formats: Readonly<Record<string, RegExp>> = {
  uuid: /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i,
  "date-time": /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/,
};

function typeOf(value: unknown, wanted: string): string {
  if (Array.isArray(value)) return "array";
  return wanted === "integer" && Number.isInteger(value) ? "integer" : typeof value;
}

export function resolved(document: Json, ref: string): Json {
  const names = ref.replace(/^#\//, "").split("/");
  const found = names.reduce<unknown>((value, name) => (value as Json | undefined)?.[name], document);
  if (!ref.startsWith("#/") || found === undefined) throw new Error(`${ref} leads nowhere`);
  return found as Json;
}
