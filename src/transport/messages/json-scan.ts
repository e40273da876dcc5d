import type { DescMessage } from "@bufbuild/protobuf";
import { invalid, type Refusal } from "../../domain/refusal.js";
import {
  type Bulk,
  type MessageBounds,
  maxDepth,
  maxItemsOf,
  maxParts,
  maxTextBytes,
  notJson,
  tooDeep,
  tooLongText,
  tooManyItems,
  tooManyParts,
  tooManyPartsOfItem,
} from "./message-bounds.js";

/** What of the bulk list is decoded in one piece. */
const maxChunkParts = 500;
const maxChunkBytes = 64 * 1024;
/** A longer key is that of no field. */
const maxKeyBytes = 256;

const quote = 0x22;
const comma = 0x2c;
const colon = 0x3a;
const openList = 0x5b;
const backslash = 0x5c;
const closeList = 0x5d;
const openObject = 0x7b;
const closeObject = 0x7d;
const isBlank = (byte: number) => byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
const endsScalar = (byte: number) =>
  isBlank(byte) || byte === comma || byte === closeObject || byte === closeList || byte === colon || byte === quote;

/** A field of the request itself. */
interface TopField {
  readonly name: string;
  /** Of a list or a map. */
  readonly maxItems: number;
  readonly isMap: boolean;
  readonly isBulk: boolean;
}

/**
 * Looks through JSON without building anything: what has too many parts is refused, and the items of the bulk list are cut
 * into chunks. Whether it is JSON at all is for JSON.parse to say, of each chunk and of the rest; here only that must be
 * seen which none of them can see: what stands between two chunks.
 */
export class JsonScan {
  /** Where chunks of the bulk list's items begin and end: from, to, from, to, ... */
  readonly chunks: number[] = [];
  /** The bulk list's inside; -1: there is none. */
  bulkFrom = -1;
  bulkTo = -1;
  private readonly fields: ReadonlyMap<string, TopField>;
  private readonly bulk: Bulk | undefined;
  private position = 0;
  private depth = 0;
  /** A bit for each depth: whether it is an object. */
  private objects = 0;
  private expectsKey = false;
  private key = "";
  private field: TopField | undefined;
  private listCount = 0;
  private inBulk = false;
  private wasBulk = false;
  private partsLeft = maxParts;
  private itemParts = 0;
  private chunkFrom = 0;
  private chunkParts = 0;
  private bulkParts = 0;

  constructor(
    schema: DescMessage,
    private readonly bytes: Uint8Array,
    { bulk }: Pick<MessageBounds, "bulk">,
  ) {
    this.fields = topFieldsOf(schema, bulk);
    this.bulk = bulk;
  }

  /** How many parts there are, of all that was looked at. */
  get parts(): number {
    return maxParts - this.partsLeft + this.bulkParts;
  }

  get isDone(): boolean {
    return this.position >= this.bytes.length;
  }

  /** Looks at about so many more bytes. */
  scan(bytes = Number.POSITIVE_INFINITY): Refusal | undefined {
    const end = Math.min(this.bytes.length, this.position + bytes);
    while (this.position < end) {
      const byte = this.bytes[this.position] as number;
      const refusal = isBlank(byte) ? this.skip() : this.token(byte);
      if (refusal) return refusal;
    }
    return this.isDone && this.depth > 0 ? notJson() : undefined;
  }

  private skip(): undefined {
    this.position += 1;
  }

  private token(byte: number): Refusal | undefined {
    switch (byte) {
      case quote:
        return this.text();
      case openObject:
      case openList:
        return this.open(byte === openObject);
      case closeObject:
      case closeList:
        return this.close(byte === closeObject);
      case comma:
        this.expectsKey = this.isObject();
        return this.inBulk && this.depth === 2 ? this.endItem() : this.skip();
      case colon:
        this.expectsKey = false;
        return this.skip();
      default:
        return this.scalar();
    }
  }

  private isObject(): boolean {
    return (this.objects & (1 << this.depth)) !== 0;
  }

  private text(): Refusal | undefined {
    const { bytes } = this;
    const start = this.position;
    const end = Math.min(bytes.length, start + maxTextBytes + 2);
    let at = start + 1;
    let isEscaped = false;
    for (; at < end && bytes[at] !== quote; at += 1) {
      if (bytes[at] !== backslash) continue;
      isEscaped = true;
      at += 1;
    }
    this.position = at + 1;
    if (at - start > maxTextBytes + 1) return tooLongText(this.path());
    if (!this.expectsKey) return this.part();
    this.expectsKey = false;
    return this.depth === 1 ? this.topKey(start, at, isEscaped) : undefined;
  }

  private topKey(start: number, end: number, isEscaped: boolean): Refusal | undefined {
    this.key = end - start > maxKeyBytes ? "" : Buffer.from(this.bytes.subarray(start + 1, end)).toString("latin1");
    if (isEscaped) this.key = unescaped(this.key);
    this.field = this.fields.get(this.key);
    this.listCount = 0;
    if (!this.field?.isBulk) return undefined;
    if (this.wasBulk) return invalid({ field: this.field.name, description: "is set more than once" });
    this.wasBulk = true;
    return undefined;
  }

  private scalar(): Refusal | undefined {
    const { bytes } = this;
    const start = this.position;
    const end = Math.min(bytes.length, start + maxTextBytes + 1);
    let at = start + 1;
    while (at < end && !endsScalar(bytes[at] as number)) at += 1;
    this.position = at;
    return at - start > maxTextBytes ? tooLongText(this.path()) : this.part();
  }

  private open(isObject: boolean): Refusal | undefined {
    const refusal = this.part();
    if (refusal) return refusal;
    if (this.depth >= maxDepth) return tooDeep();
    const isBulk = this.depth === 1 && !isObject && this.field?.isBulk === true && this.bulkFrom < 0;
    this.depth += 1;
    if (isObject) this.objects |= 1 << this.depth;
    else this.objects &= ~(1 << this.depth);
    this.expectsKey = isObject;
    this.position += 1;
    if (isBulk) {
      this.inBulk = true;
      this.bulkFrom = this.position;
      this.chunkFrom = this.position;
    }
    return undefined;
  }

  private close(isObject: boolean): Refusal | undefined {
    if (this.depth === 0 || isObject !== this.isObject()) return notJson();
    if (this.inBulk && this.depth === 2) {
      if (this.itemParts === 0 && this.listCount > 0) return notJson();
      this.bulkTo = this.position;
      if (this.itemParts > 0) this.endChunk();
      this.inBulk = false;
    }
    this.depth -= 1;
    if (this.depth === 1) this.field = undefined;
    this.expectsKey = false;
    return this.skip();
  }

  /** A value begins. */
  private part(): Refusal | undefined {
    if (this.field && this.depth === 2) {
      const { name, maxItems, isMap } = this.field;
      this.listCount += 1;
      if (this.listCount > maxItems) return invalid(tooManyItems(name, maxItems, isMap));
    }
    if (!this.inBulk) {
      this.partsLeft -= 1;
      return this.partsLeft < 0 ? tooManyParts(this.path()) : undefined;
    }
    this.itemParts += 1;
    const bulk = this.bulk as Bulk;
    return this.itemParts > bulk.maxPartsOfItem ? tooManyPartsOfItem(this.path(), bulk) : undefined;
  }

  private endItem(): Refusal | undefined {
    // A comma that follows none.
    if (this.itemParts === 0) return notJson();
    this.chunkParts += this.itemParts;
    this.bulkParts += this.itemParts;
    this.itemParts = 0;
    if (this.chunkParts >= maxChunkParts || this.position - this.chunkFrom >= maxChunkBytes) this.endChunk();
    return this.skip();
  }

  private endChunk(): void {
    this.bulkParts += this.itemParts;
    this.itemParts = 0;
    this.chunks.push(this.chunkFrom, this.position);
    this.chunkFrom = this.position + 1;
    this.chunkParts = 0;
  }

  private path(): string {
    if (this.field) return this.inBulk ? `${this.field.name}[${Math.max(0, this.listCount - 1)}]` : this.field.name;
    return this.depth > 0 && (this.objects & 2) !== 0 ? this.key : "";
  }
}

const topFields = new WeakMap<DescMessage, ReadonlyMap<string, TopField>>();

function topFieldsOf(schema: DescMessage, bulk: Bulk | undefined): ReadonlyMap<string, TopField> {
  const known = topFields.get(schema);
  if (known) return known;
  const made = new Map<string, TopField>();
  for (const field of schema.fields) {
    const isMap = field.fieldKind === "map";
    const top = { name: field.name, maxItems: maxItemsOf(field), isMap, isBulk: field === bulk?.field };
    made.set(field.name, top).set(field.jsonName, top);
  }
  topFields.set(schema, made);
  return made;
}

function unescaped(key: string): string {
  try {
    return JSON.parse(`"${key}"`);
  } catch {
    return "";
  }
}
