import { type DescEnum, type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";
import type { Contract } from "./descriptors.js";
import { constraintsOf, type Json, requiredFields } from "./rules.js";

const int64 = { type: "string", format: "int64", pattern: "^-?(0|[1-9][0-9]{0,18})$" };
const uint64 = { type: "string", format: "uint64", pattern: "^(0|[1-9][0-9]{0,19})$" };
const int32 = { type: "integer", format: "int32", minimum: -(2 ** 31), maximum: 2 ** 31 - 1 };
const uint32 = { type: "integer", format: "int64", minimum: 0, maximum: 2 ** 32 - 1 };

/** As proto3 JSON writes them. */
const scalars: Readonly<Record<ScalarType, Json>> = {
  [ScalarType.DOUBLE]: { type: "number", format: "double" },
  [ScalarType.FLOAT]: { type: "number", format: "float" },
  [ScalarType.INT64]: int64,
  [ScalarType.UINT64]: uint64,
  [ScalarType.INT32]: int32,
  [ScalarType.FIXED64]: uint64,
  [ScalarType.FIXED32]: uint32,
  [ScalarType.BOOL]: { type: "boolean" },
  [ScalarType.STRING]: { type: "string" },
  [ScalarType.BYTES]: { type: "string", contentEncoding: "base64" },
  [ScalarType.UINT32]: uint32,
  [ScalarType.SFIXED32]: int32,
  [ScalarType.SFIXED64]: int64,
  [ScalarType.SINT32]: int32,
  [ScalarType.SINT64]: int64,
};

const wellKnown: Readonly<Record<string, Json>> = {
  "google.protobuf.Timestamp": { type: "string", format: "date-time" },
  "google.protobuf.Duration": { type: "string", pattern: "^-?[0-9]{1,12}(\\.[0-9]{1,9})?s$" },
  "google.protobuf.FieldMask": { type: "string" },
};

/** Makes schemas of messages and enums; those that have a name of their own are kept for the document's components. */
export class Schemas {
  private readonly made = new Map<string, Json>();

  /** Messages that answers have in them. A later release may add fields to these; in others a field that is not known is refused. */
  private readonly answered = new Set<DescMessage>();

  constructor(
    private readonly contract: Contract,
    answers: readonly DescMessage[],
  ) {
    for (const answer of answers) this.noteAnswered(answer);
  }

  /** All that were asked for, and all that they name, by name. */
  get components(): Json {
    return Object.fromEntries([...this.made].sort(([one], [other]) => (one < other ? -1 : 1)));
  }

  /** Puts a schema that is no message's among the components. */
  add(name: string, schema: Json): Json {
    if (this.made.has(name)) throw new Error(`two schemas are named ${name}`);
    this.made.set(name, schema);
    return refTo(name);
  }

  message(desc: DescMessage): Json {
    const known = wellKnown[desc.typeName];
    if (known) return known;
    if (desc.file.proto.package === "google.protobuf") throw new Error(`${desc.typeName} is not known here`);
    const name = nameOf(desc);
    if (!this.made.has(name)) {
      // A message may have itself in it.
      this.made.set(name, {});
      this.made.set(name, this.objectOf(desc, new Set()));
    }
    return refTo(name);
  }

  /** A message without some of its fields. What is in a oneof with one of them is left out, too: it is decided by that one. */
  rest(desc: DescMessage, name: string, without: ReadonlySet<DescField>): Json {
    return this.add(name, this.objectOf(desc, without));
  }

  field(field: DescField, isSet = false): Json {
    const { schema: constraints, words } = constraintsOf(field, isSet);
    const comment = this.contract.commentOf(field);
    const description = [comment, ...words].filter(Boolean).join("\n\n");
    return {
      ...merged(this.kindOf(field), constraints),
      ...(description && { description }),
      ...(/(^|[.:]\s)Output only\.$/.test(comment) && { readOnly: true }),
    };
  }

  private noteAnswered(desc: DescMessage): void {
    if (this.answered.has(desc)) return;
    this.answered.add(desc);
    for (const { message } of desc.fields) if (message) this.noteAnswered(message);
  }

  private objectOf(desc: DescMessage, without: ReadonlySet<DescField>): Json {
    const decided = new Set([...without].flatMap(({ oneof }) => oneof ?? []));
    const fields = desc.fields.filter((field) => !without.has(field) && !(field.oneof && decided.has(field.oneof)));
    const needed = requiredFields(desc);
    const required = fields.filter((field) => needed.fields.has(field)).map(({ jsonName }) => jsonName);
    const oneofs = desc.oneofs
      .filter((oneof) => !decided.has(oneof))
      .map((oneof) => {
        const each = oneof.fields.map(({ jsonName }) => ({ required: [jsonName] }));
        return { oneOf: needed.oneofs.has(oneof) ? each : [...each, { not: { anyOf: each } }] };
      });
    const description = this.contract.commentOf(desc);
    return {
      type: "object",
      ...(description && { description }),
      properties: Object.fromEntries(fields.map((field) => [field.jsonName, this.field(field)])),
      ...(required.length > 0 && { required }),
      ...(!this.answered.has(desc) && { additionalProperties: false }),
      ...(oneofs.length === 1 ? oneofs[0] : oneofs.length > 1 && { allOf: oneofs }),
    };
  }

  private kindOf(field: DescField): Json {
    switch (field.fieldKind) {
      case "scalar":
        return scalars[field.scalar];
      case "enum":
        return this.enumeration(field.enum);
      case "message":
        return this.message(field.message);
      case "list":
        return { type: "array", items: this.valueOf(field) };
      case "map":
        return { type: "object", additionalProperties: this.valueOf(field) };
    }
  }

  private valueOf(field: DescField & { fieldKind: "list" | "map" }): Json {
    if (field.scalar !== undefined) return scalars[field.scalar];
    return field.enum ? this.enumeration(field.enum) : this.message(field.message as DescMessage);
  }

  private enumeration(desc: DescEnum): Json {
    const name = nameOf(desc);
    if (!this.made.has(name)) {
      const said = desc.values.map((value) => `- \`${value.name}\`: ${oneLine(this.contract.commentOf(value))}`);
      const description = [this.contract.commentOf(desc), said.join("\n")].filter(Boolean).join("\n\n");
      this.made.set(name, { type: "string", enum: desc.values.map((value) => value.name), description });
    }
    return refTo(name);
  }
}

/** Names of the contract stand without their package. */
export function nameOf({ typeName }: DescMessage | DescEnum): string {
  return typeName.replace(/^coupon\.v1\./, "");
}

export function refTo(name: string): Json {
  return { $ref: `#/components/schemas/${name}` };
}

export function oneLine(text: string): string {
  return text.replace(/\s+/g, " ");
}

/** Constraints of items and values lie one deeper. */
function merged(schema: Json, constraints: Json): Json {
  const both = { ...schema, ...constraints };
  for (const name of ["items", "additionalProperties"]) {
    if (schema[name] && constraints[name]) both[name] = { ...(schema[name] as Json), ...(constraints[name] as Json) };
  }
  return both;
}
