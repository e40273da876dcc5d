import { type DescMessage, fromBinary, fromJson, type JsonValue, type MessageShape } from "@bufbuild/protobuf";
import { invalid, type Refusal } from "../domain/refusal.js";

/** Messages out of bytes, the same for both front ends. What is wrong with the bytes is a refusal, not a fault. */

export function readBinary<D extends DescMessage>(schema: D, bytes: Uint8Array): MessageShape<D> | Refusal {
  try {
    return fromBinary(schema, bytes);
  } catch {
    return invalid({ field: "", description: `the bytes are not a protobuf message of type ${schema.typeName}` });
  }
}

export function readJson<D extends DescMessage>(schema: D, bytes: Uint8Array): MessageShape<D> | Refusal {
  let json: JsonValue;
  try {
    json = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    return invalid({ field: "", description: "the body is not JSON in UTF-8" });
  }
  try {
    return fromJson(schema, json, strict);
  } catch (error) {
    const description = (error instanceof Error ? error.message : String(error)).slice(0, maxDescriptionLength);
    return invalid({ field: wrongField(schema, json), description });
  }
}

const strict = { ignoreUnknownFields: false };
const maxDescriptionLength = 300;

/** The path of the field that makes a message unreadable, by the names of the proto file; "" when it is no single one. */
function wrongField(schema: DescMessage, json: JsonValue): string {
  if (json === null || typeof json !== "object" || Array.isArray(json)) return "";
  for (const [key, value] of Object.entries(json)) {
    if (isReadable(schema, key, value)) continue;
    const field = schema.fields.find((one) => one.name === key || one.jsonName === key);
    const name = field?.name ?? key.slice(0, maxDescriptionLength);
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
