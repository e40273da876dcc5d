import { type DescMessage, fromJson, type JsonValue } from "@bufbuild/protobuf";

export const strict = { ignoreUnknownFields: false };
const maxNameLength = 300;

/**
 * The path of the field that makes a message unreadable, by the names of the proto file; "" when it is no single one. Found
 * by trial, so it is for small messages.
 */
export function wrongField(schema: DescMessage, json: JsonValue): string {
  if (json === null || typeof json !== "object" || Array.isArray(json)) return "";
  for (const [key, value] of Object.entries(json)) {
    if (isReadable(schema, key, value)) continue;
    const field = schema.fields.find((one) => one.name === key || one.jsonName === key);
    const name = field?.name ?? key.slice(0, maxNameLength);
    if (field?.fieldKind === "list" && Array.isArray(value)) {
      const index = value.findIndex((item) => !isReadable(schema, key, [item]));
      return index < 0 ? name : innerPath(`${name}[${index}]`, field.message, value[index] as JsonValue);
    }
    return innerPath(name, field?.fieldKind === "message" ? field.message : undefined, value);
  }
  return "";
}

function isReadable(schema: DescMessage, key: string, value: JsonValue): boolean {
  try {
    fromJson(schema, { [key]: value }, strict);
    return true;
  } catch {
    return false;
  }
}

function innerPath(path: string, message: DescMessage | undefined, value: JsonValue): string {
  const inner = message && !message.typeName.startsWith("google.protobuf.") ? wrongField(message, value) : "";
  return inner ? `${path}.${inner}` : path;
}
