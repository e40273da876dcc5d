import { type DescMessage, fromBinary, fromJson, type JsonValue, type MessageShape } from "@bufbuild/protobuf";
import { type FieldViolation, invalid, Refusal } from "../../domain/refusal.js";
import { Slices } from "../../platform/slices.js";
import { hasForms } from "./json-forms.js";
import { JsonScan } from "./json-scan.js";
import { type Bulk, type MessageBounds, maxParts, notBinary, notJson } from "./message-bounds.js";
import { WireScan } from "./wire-scan.js";
import { isObject, Misread, maxWrongFields, strict, takeWrongFields, unreadable } from "./wrong-fields.js";

/**
 * Messages out of bytes, the same for both front ends. What is wrong with the bytes is a refusal, not a fault. What a message
 * is made of is looked at first, so that what it costs is known before it is built; a large one is built in slices.
 */

export type MaybePromise<T> = T | Promise<T>;

/** Up to this length, and if it has few parts, a message is read at once. */
const maxAtOnceBytes = 64 * 1024;
/** What is scanned before the clock is looked at. */
const scannedBytes = 256 * 1024;

export function readBinary<D extends DescMessage>(
  schema: D,
  bytes: Uint8Array,
  bounds: Pick<MessageBounds, "bulk">,
): MaybePromise<MessageShape<D> | Refusal> {
  return read(new BinarySource(schema, bytes, bounds), bytes.length, bounds);
}

export function readJson<D extends DescMessage>(
  schema: D,
  bytes: Uint8Array,
  bounds: Pick<MessageBounds, "bulk">,
): MaybePromise<MessageShape<D> | Refusal> {
  return read(new JsonSource(schema, bytes, bounds), bytes.length, bounds);
}

/** A message in one of the two formats. */
interface Source<D extends DescMessage> {
  readonly scan: WireScan | JsonScan;
  whole(): MessageShape<D> | Refusal;
  /** Without the items of the bulk list. */
  frame(): MessageShape<D> | Refusal;
  /** A message that has nothing but some items of the bulk list. */
  chunk(from: number, to: number, bulk: Bulk, itemsBefore: number): MessageShape<D> | Refusal;
}

function read<D extends DescMessage>(
  source: Source<D>,
  length: number,
  { bulk }: Pick<MessageBounds, "bulk">,
): MaybePromise<MessageShape<D> | Refusal> {
  if (length > maxAtOnceBytes) return readInSlices(source, bulk);
  const refusal = source.scan.scan();
  if (refusal) return refusal;
  return source.scan.parts <= maxParts ? source.whole() : readInSlices(source, bulk);
}

async function readInSlices<D extends DescMessage>(
  source: Source<D>,
  bulk: Bulk | undefined,
): Promise<MessageShape<D> | Refusal> {
  const slices = new Slices();
  const { scan } = source;
  while (!scan.isDone) {
    await slices.next();
    const refusal = scan.scan(scannedBytes);
    if (refusal) return refusal;
  }
  await slices.next();
  const message = bulk ? source.frame() : source.whole();
  if (message instanceof Refusal || !bulk) return message;
  const items = itemsOf(message, bulk);
  for (let index = 0; index < scan.chunks.length; index += 2) {
    await slices.next();
    const [from, to] = scan.chunks.slice(index, index + 2) as [number, number];
    const part = source.chunk(from, to, bulk, items.length);
    if (part instanceof Refusal) return part;
    for (const item of itemsOf(part, bulk)) items.push(item);
  }
  return message;
}

function itemsOf(message: object, { field }: Bulk): unknown[] {
  return (message as Record<string, unknown[]>)[field.localName] as unknown[];
}

/** What a message has besides the fields of its type would be kept, and nobody reads it. */
const known = { readUnknownFields: false };

class BinarySource<D extends DescMessage> implements Source<D> {
  readonly scan: WireScan;

  constructor(
    private readonly schema: D,
    private readonly bytes: Uint8Array,
    bounds: Pick<MessageBounds, "bulk">,
  ) {
    this.scan = new WireScan(schema, bytes, bounds);
  }

  whole(): MessageShape<D> | Refusal {
    return this.decode(this.bytes);
  }

  frame(): MessageShape<D> | Refusal {
    const parts: Uint8Array[] = [];
    let at = 0;
    const { chunks } = this.scan;
    for (let index = 0; index < chunks.length; index += 2) {
      if ((chunks[index] as number) > at) parts.push(this.bytes.subarray(at, chunks[index]));
      at = chunks[index + 1] as number;
    }
    parts.push(this.bytes.subarray(at));
    return this.decode(Buffer.concat(parts));
  }

  chunk(from: number, to: number): MessageShape<D> | Refusal {
    return this.decode(this.bytes.subarray(from, to));
  }

  private decode(bytes: Uint8Array): MessageShape<D> | Refusal {
    try {
      return fromBinary(this.schema, bytes, known);
    } catch {
      return notBinary(this.schema);
    }
  }
}

class JsonSource<D extends DescMessage> implements Source<D> {
  readonly scan: JsonScan;

  constructor(
    private readonly schema: D,
    private readonly bytes: Uint8Array,
    bounds: Pick<MessageBounds, "bulk">,
  ) {
    this.scan = new JsonScan(schema, bytes, bounds);
  }

  whole(): MessageShape<D> | Refusal {
    const json = parsed(() => JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(this.bytes)));
    if (json === undefined) return notJson();
    const read = this.read(json);
    if (!(read instanceof Misread) || read.violations.length >= maxWrongFields) return read;
    // What is wrong with the other fields can be told in the same answer.
    const rest = this.read(json);
    return rest instanceof Refusal ? read : new Misread(read.violations, rest);
  }

  frame(): MessageShape<D> | Refusal {
    const { bulkFrom, bulkTo } = this.scan;
    if (bulkFrom < 0) return this.whole();
    const json = parsed(() => {
      const decoder = new TextDecoder("utf-8", { fatal: true });
      const before = decoder.decode(this.bytes.subarray(0, bulkFrom));
      return JSON.parse(before + textOf(this.bytes.subarray(bulkTo)));
    });
    return json === undefined ? notJson() : this.read(json);
  }

  chunk(from: number, to: number, bulk: Bulk, itemsBefore: number): MessageShape<D> | Refusal {
    const items = parsed(() => JSON.parse(`[${textOf(this.bytes.subarray(from, to))}]`));
    return items === undefined ? notJson() : this.read({ [bulk.field.name]: items }, itemsBefore);
  }

  /** Takes out of `json` what cannot be read, if it is for some fields of it that the whole cannot be. */
  private read(json: JsonValue, itemsBefore = 0): MessageShape<D> | Refusal {
    let whole: FieldViolation = { field: "", description: "must be a JSON object" };
    if (hasForms(this.schema, json)) {
      try {
        return fromJson(this.schema, json, strict);
      } catch (error) {
        if (isObject(json)) whole = unreadable(error);
      }
    }
    const violations = takeWrongFields(this.schema, json);
    if (violations.length === 0) return invalid(whole);
    return new Misread(
      violations.map((one) => ({ ...one, field: itemsBefore > 0 ? counted(one.field, itemsBefore) : one.field })),
      undefined,
    );
  }
}

function parsed(parse: () => JsonValue): JsonValue | undefined {
  try {
    return parse();
  } catch {
    return undefined;
  }
}

/** Of text that does not begin the message: there, a byte order mark is a mistake like any other. */
function textOf(bytes: Uint8Array): string {
  return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
}

/** The path of a field of an item, when other items have gone before. */
function counted(path: string, itemsBefore: number): string {
  return path.replace(/\[(\d+)\]/, (_, index) => `[${Number(index) + itemsBefore}]`);
}
