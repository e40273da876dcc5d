import { type DescMessage, fromBinary, fromJsonString, type MessageShape } from "@bufbuild/protobuf";
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
  try {
    return fromJsonString(schema, new TextDecoder("utf-8", { fatal: true }).decode(bytes), {
      ignoreUnknownFields: false,
    });
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    // protobuf-es says where it stopped: `key "colour" is unknown`, `cannot decode field coupon.v1.Money.minor_units …`.
    const field =
      /key "(.{1,100})" is unknown/.exec(text)?.[1] ?? /cannot decode field [\w.]+\.(\w+) from JSON/.exec(text)?.[1];
    return invalid({ field: field ?? "", description: text.slice(0, 300) });
  }
}
