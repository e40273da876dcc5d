import { type DescField, type DescMessage, type MessageShape, ScalarType, toBinary } from "@bufbuild/protobuf";
import "./text-encoding.js";

/**
 * Bytes out of messages, the same as those of protobuf-es' `toBinary` and several times as fast. `toBinary` looks at
 * the description of each field anew for each message; here a type is compiled once, into one function for each field.
 * What is not known here, types of fields as well as values, is left to `toBinary`.
 *
 * A frozen message, when it is an answer or a large part of one, is written once, and its bytes are used again: who freezes
 * a message promises that nothing in it changes any more.
 *
 * Messages are written from their end to their beginning, so that the length of a part is known when it is written.
 */

/** Messages larger than this are left to `toBinary`. */
const scratchBytes = 256 * 1024;
/** Up to this length a string is copied by hand, which for ids is faster than a call into Node. */
const maxShortString = 64;
/** Messages of smaller types are written faster than it takes to find out whether they are frozen. */
const minFieldsToKeep = 16;
const maxInt32 = 0x7fffffff;

const scratch = Buffer.allocUnsafe(scratchBytes);
/** What has been written of the present message is what lies from here to the end of the scratch. */
let at = scratchBytes;

type Fields = Readonly<Record<string, unknown>>;
/** Writes one field of a message, if it is set. */
type WriteField = (message: Fields) => void;
/** Writes a value without its tag. Throws when it is not sure of it. */
type WriteValue = (value: never) => void;
/** In falling order of the field numbers. */
type WriteFields = WriteField[];

/** As many as there are types; null: not for here. */
const compiled = new Map<DescMessage, WriteFields | null>();

/** The bytes of frozen messages, for as long as the messages are there themselves. */
const frozen = new WeakMap<Fields, Buffer>();

class Unknown extends Error {}
/** Thrown without a stack trace of its own: it only means "ask toBinary". */
const unknown = new Unknown();

export function encode<D extends DescMessage>(schema: D, message: MessageShape<D>): Buffer {
  if (!Object.isFrozen(message)) return write(schema, message);
  const known = frozen.get(message as unknown as Fields);
  if (known) return known;
  const bytes = write(schema, message);
  frozen.set(message as unknown as Fields, bytes);
  return bytes;
}

/** What was written of a frozen message before. */
export function writtenBefore(message: object): Buffer | undefined {
  return frozen.get(message as Fields);
}

export function remember(message: object, bytes: Buffer): void {
  frozen.set(message as Fields, bytes);
}

function write<D extends DescMessage>(schema: D, message: MessageShape<D>): Buffer {
  const fields = compiled.get(schema) ?? compile(schema);
  if (fields !== null) {
    at = scratchBytes;
    try {
      writeMessage(fields, message as unknown as Fields);
      return Buffer.from(scratch.subarray(at));
    } catch {
      // Whatever it was, toBinary writes it or says what is wrong with it.
    }
  }
  const bytes = toBinary(schema, message);
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function compile(schema: DescMessage): WriteFields | null {
  if (compiled.has(schema)) return null;
  // A type that cannot be compiled may be part of others that were begun before: then none of them counts.
  const fresh = new Map<DescMessage, WriteFields>();
  try {
    const fields = fieldsOf(schema, fresh);
    for (const [type, ofType] of fresh) compiled.set(type, ofType);
    return fields;
  } catch (error) {
    if (error !== unknown) throw error;
    compiled.set(schema, null);
    return null;
  }
}

function fieldsOf(schema: DescMessage, fresh: Map<DescMessage, WriteFields>): WriteFields {
  const begun = fresh.get(schema);
  if (begun) return begun;
  // In proto2 and in some well-known types, fields are not plain properties.
  if (schema.file.proto.syntax !== "proto3" || !isPlain(schema)) throw unknown;
  const fields: WriteFields = [];
  fresh.set(schema, fields);
  for (const field of [...schema.fields].sort((a, b) => b.number - a.number)) fields.push(fieldWriter(field, fresh));
  return fields;
}

const plainWellKnown = ["google.protobuf.Timestamp", "google.protobuf.Duration"];

function isPlain({ typeName }: DescMessage): boolean {
  return !typeName.startsWith("google.protobuf.") || plainWellKnown.includes(typeName);
}

function fieldWriter(field: DescField, fresh: Map<DescMessage, WriteFields>): WriteField {
  const { localName: name, oneof } = field;
  if (field.fieldKind === "map") return mapWriter(field);
  const { write, wireType, zero } = valueWriter(field, fresh);
  const tag = (field.number << 3) | wireType;
  const writeTagged = (value: unknown) => {
    write(value as never);
    varint(tag);
  };
  if (oneof) {
    return (message) => {
      const { case: chosen, value } = message[oneof.localName] as { case: string | undefined; value: unknown };
      if (chosen === name) writeTagged(value);
    };
  }
  if (field.fieldKind === "list") {
    return (message) => {
      const list = message[name] as unknown[];
      for (let index = list.length - 1; index >= 0; index -= 1) writeTagged(list[index]);
    };
  }
  // Without presence of its own, a field is set when it is not zero.
  const unset = field.fieldKind === "message" || field.proto.proto3Optional ? undefined : zero;
  return (message) => {
    const value = message[name];
    if (value === unset) return;
    write(value as never);
    varint(tag);
  };
}

/** Of texts by texts alone. */
function mapWriter(field: DescField & { fieldKind: "map" }): WriteField {
  if (field.mapKey !== ScalarType.STRING || field.scalar !== ScalarType.STRING) throw unknown;
  const tag = (field.number << 3) | lengthType;
  return (message) => {
    const map = message[field.localName] as Readonly<Record<string, string>>;
    const keys = Object.keys(map);
    for (let index = keys.length - 1; index >= 0; index -= 1) {
      const key = keys[index]!;
      const end = at;
      writeString(map[key]!);
      varint(mapValueTag);
      writeString(key);
      varint(mapKeyTag);
      varint(end - at);
      varint(tag);
    }
  };
}

interface ValueWriter {
  readonly write: WriteValue;
  readonly wireType: number;
  readonly zero: unknown;
}

const varintType = 0;
const lengthType = 2;
/** In an entry of a map, the key is field 1 and the value is field 2. */
const mapKeyTag = (1 << 3) | lengthType;
const mapValueTag = (2 << 3) | lengthType;

function valueWriter(field: DescField, fresh: Map<DescMessage, WriteFields>): ValueWriter {
  if (field.message && !field.delimitedEncoding && field.fieldKind !== "map") {
    const fields = fieldsOf(field.message, fresh);
    const large = field.message.fields.length >= minFieldsToKeep;
    const write = (message: Fields) => {
      const end = at;
      if (large && Object.isFrozen(message)) writeFrozen(fields, message);
      else writeMessage(fields, message);
      varint(end - at);
    };
    return { write, wireType: lengthType, zero: undefined };
  }
  if (field.fieldKind === "scalar" || (field.fieldKind === "list" && field.listKind === "scalar" && !field.packed)) {
    if (field.scalar === ScalarType.STRING) return { write: writeString, wireType: lengthType, zero: "" };
    if (field.scalar === ScalarType.BOOL) return { write: writeBoolean, wireType: varintType, zero: false };
    if (field.scalar === ScalarType.INT32) return { write: writeInt32, wireType: varintType, zero: 0 };
    if (field.scalar === ScalarType.INT64) return { write: writeInt64, wireType: varintType, zero: 0n };
  }
  if (field.fieldKind === "enum") return { write: writeInt32, wireType: varintType, zero: 0 };
  throw unknown;
}

function writeMessage(fields: WriteFields, message: Fields): void {
  if (message.$unknown !== undefined) throw unknown;
  for (let index = 0; index < fields.length; index += 1) fields[index]!(message);
}

function writeFrozen(fields: WriteFields, message: Fields): void {
  const known = frozen.get(message);
  if (known) {
    if (known.length > at) throw unknown;
    at -= known.length;
    scratch.set(known, at);
    return;
  }
  const end = at;
  writeMessage(fields, message);
  frozen.set(message, Buffer.from(scratch.subarray(at, end)));
}

function writeBoolean(value: boolean): void {
  if (typeof value !== "boolean") throw unknown;
  varint(value ? 1 : 0);
}

function writeInt32(value: number): void {
  if ((value | 0) !== value || value < 0) throw unknown;
  varint(value);
}

function writeInt64(value: bigint): void {
  const number = Number(value);
  if (typeof value !== "bigint" || number < 0 || number > Number.MAX_SAFE_INTEGER) throw unknown;
  varint(number);
}

function writeString(text: string): void {
  if (typeof text !== "string") throw unknown;
  const length = text.length <= maxShortString && copyAscii(text) ? text.length : copyUtf8(text);
  varint(length);
}

function copyAscii(text: string): boolean {
  const start = at - text.length;
  if (start < 0) throw unknown;
  for (let index = 0; index < text.length; index += 1) {
    const code = text.charCodeAt(index);
    if (code > 0x7f) return false;
    scratch[start + index] = code;
  }
  at = start;
  return true;
}

function copyUtf8(text: string): number {
  const length = Buffer.byteLength(text);
  if (length > at) throw unknown;
  at -= length;
  return scratch.write(text, at);
}

/** A whole number from 0 to 2^53 - 1, seven bits a byte, the lowest first. */
function varint(value: number): void {
  if (value < 0x80 && at > 0) {
    at -= 1;
    scratch[at] = value;
    return;
  }
  let bytes = 1;
  for (let limit = 0x80; value >= limit; limit *= 0x80) bytes += 1;
  at -= bytes;
  if (at < 0) throw unknown;
  let rest = value;
  let index = at;
  for (; rest > maxInt32; rest = Math.floor(rest / 0x80)) scratch[index++] = (rest % 0x80) | 0x80;
  for (; rest > 0x7f; rest >>>= 7) scratch[index++] = (rest & 0x7f) | 0x80;
  scratch[index] = rest;
}
