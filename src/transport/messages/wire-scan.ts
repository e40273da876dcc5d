import type { DescMessage } from "@bufbuild/protobuf";
import { invalid, type Refusal } from "../../domain/refusal.js";
import {
  type Bulk,
  hasUnkeptKey,
  type MessageBounds,
  maxDepth,
  maxParts,
  maxTextBytes,
  notBinary,
  tooDeep,
  tooLongText,
  tooManyItems,
  tooManyParts,
  tooManyPartsOfItem,
  unkeptKey,
} from "./message-bounds.js";
import { Wire, type WireField, type WirePlan, wirePlanOf } from "./wire-plan.js";

/** What of the bulk list is decoded in one piece. */
const maxChunkParts = 500;
const maxChunkBytes = 64 * 1024;
/** A varint of more bytes is none; one of a tag or a length has at most five. */
const maxVarintBytes = 10;
const maxShortVarintBytes = 5;

/**
 * Walks through the bytes of a message as protobuf-es would, without building anything: what has too many parts is refused,
 * and the items of the bulk list are cut into chunks. A field whose wire type is not that of its type is refused, too:
 * protobuf-es would read it in its own way, and then both would see different fields.
 */
export class WireScan {
  /** Where chunks of the bulk list's items begin and end: from, to, from, to, ... */
  readonly chunks: number[] = [];
  private readonly plan: WirePlan;
  private readonly bulk: Bulk | undefined;
  private readonly bulkNumber: number;
  private readonly counts: number[] = [];
  private readonly path: (WireField | number)[] = [];
  private position = 0;
  private pauseAt = Number.POSITIVE_INFINITY;
  private partsLeft = maxParts;
  private itemCount = 0;
  private chunkParts = 0;
  private itemParts = 0;

  constructor(
    private readonly schema: DescMessage,
    private readonly bytes: Uint8Array,
    { bulk }: Pick<MessageBounds, "bulk">,
  ) {
    this.plan = wirePlanOf(schema);
    this.bulk = bulk;
    this.bulkNumber = bulk?.field.number ?? -1;
  }

  /** How many parts there are, of all that was looked at. */
  get parts(): number {
    return maxParts - this.partsLeft + this.itemParts;
  }

  get isDone(): boolean {
    return this.position >= this.bytes.length;
  }

  /** Looks at about so many more bytes. */
  scan(bytes = Number.POSITIVE_INFINITY): Refusal | undefined {
    this.pauseAt = this.position + bytes;
    return this.message(this.plan, this.bytes.length, 0);
  }

  private message(plan: WirePlan, end: number, depth: number): Refusal | undefined {
    let counts: number[] | undefined = depth === 0 ? this.counts : undefined;
    while (this.position < end) {
      const start = this.position;
      if (depth === 0 && start >= this.pauseAt) return undefined;
      const tag = this.shortVarint(end);
      if (tag < 8) return this.malformed();
      const number = tag >>> 3;
      const wireType = tag & 7;
      const field = plan.fields[number];
      if (!field) {
        if (plan.isMapEntry) return this.malformed();
        const refusal = this.unknown(number, wireType, end, depth);
        if (refusal) return refusal;
        continue;
      }
      let index = 0;
      if (field.isList || field.isMap) {
        counts ??= [];
        index = counts[number] ?? 0;
        counts[number] = index + 1;
        const isPacked = field.isPackable && wireType === Wire.length;
        if (index >= field.maxItems && !isPacked)
          return invalid(tooManyItems(this.pathTo(field), field.maxItems, field.isMap));
      }
      if (depth === 0 && number === this.bulkNumber) {
        const refusal = this.item(field, wireType, start, end);
        if (refusal) return refusal;
        continue;
      }
      const refusal = this.value(field, wireType, end, depth, index, counts);
      if (refusal) return refusal;
    }
    return undefined;
  }

  /** One item of the bulk list, with a bound of its own. */
  private item(field: WireField, wireType: number, start: number, end: number): Refusal | undefined {
    const bulk = this.bulk as Bulk;
    const outside = this.partsLeft;
    this.partsLeft = bulk.maxPartsOfItem;
    const refusal = this.value(field, wireType, end, 0, this.itemCount, this.counts);
    if (refusal) return refusal;
    const parts = bulk.maxPartsOfItem - this.partsLeft;
    this.partsLeft = outside;
    this.itemCount += 1;
    this.itemParts += parts;
    const { chunks } = this;
    const last = chunks.length - 1;
    const from = chunks[last - 1] as number;
    if (chunks[last] === start && this.chunkParts < maxChunkParts && start - from < maxChunkBytes) {
      chunks[last] = this.position;
      this.chunkParts += parts;
    } else {
      chunks.push(start, this.position);
      this.chunkParts = parts;
    }
    return undefined;
  }

  private value(
    field: WireField,
    wireType: number,
    end: number,
    depth: number,
    index: number,
    counts: number[] | undefined,
  ): Refusal | undefined {
    this.partsLeft -= 1;
    if (this.partsLeft < 0) return this.tooMany(field, index);
    if (wireType !== field.wireType) {
      if (wireType === Wire.length && field.isPackable) return this.packed(field, end, counts as number[]);
      return this.malformed();
    }
    if (wireType !== Wire.length) return this.skip(wireType, end);
    const length = this.shortVarint(end);
    const valueEnd = this.position + length;
    if (length < 0 || valueEnd > end) return this.malformed();
    if (!field.plan) {
      if (field.isMapKey && this.isUnkept(valueEnd)) {
        return invalid({ field: this.pathTo(undefined), description: hasUnkeptKey });
      }
      this.position = valueEnd;
      return length > maxTextBytes ? tooLongText(this.pathTo(field, index)) : undefined;
    }
    if (depth >= maxDepth) return tooDeep();
    this.path.push(field, index);
    const refusal = this.message(field.plan, valueEnd, depth + 1);
    if (refusal) return refusal;
    this.path.length -= 2;
    return undefined;
  }

  private isUnkept(end: number): boolean {
    const { bytes, position } = this;
    return end - position === unkeptKey.length && Buffer.from(bytes.subarray(position, end)).toString() === unkeptKey;
  }

  /** Many numbers as one value. */
  private packed(field: WireField, end: number, counts: number[]): Refusal | undefined {
    const length = this.shortVarint(end);
    const valueEnd = this.position + length;
    if (length < 0 || valueEnd > end) return this.malformed();
    // The one that was counted already may be one of none.
    let items = -1;
    while (this.position < valueEnd) {
      items += 1;
      this.partsLeft -= 1;
      if (this.partsLeft < 0) return this.tooMany(field, items);
      const refusal = this.skip(field.wireType, valueEnd);
      if (refusal) return refusal;
    }
    counts[field.number] = (counts[field.number] as number) + items;
    if ((counts[field.number] as number) > field.maxItems) {
      return invalid(tooManyItems(this.pathTo(field), field.maxItems, false));
    }
    return undefined;
  }

  private unknown(number: number, wireType: number, end: number, depth: number): Refusal | undefined {
    this.partsLeft -= 1;
    if (this.partsLeft < 0) return this.tooMany(undefined, 0);
    if (wireType === Wire.length) {
      const length = this.shortVarint(end);
      this.position += length;
      return length < 0 || this.position > end ? this.malformed() : undefined;
    }
    if (wireType !== Wire.groupStart) return this.skip(wireType, end);
    if (depth >= maxDepth) return tooDeep();
    for (;;) {
      const tag = this.shortVarint(end);
      if (tag < 8) return this.malformed();
      if ((tag & 7) === Wire.groupEnd) return tag >>> 3 === number ? undefined : this.malformed();
      const refusal = this.unknown(tag >>> 3, tag & 7, end, depth + 1);
      if (refusal) return refusal;
    }
  }

  private skip(wireType: number, end: number): Refusal | undefined {
    if (wireType === Wire.varint) {
      const most = this.position + maxVarintBytes;
      while ((this.bytes[this.position] as number) >= 0x80) this.position += 1;
      this.position += 1;
      if (this.position > most) return this.malformed();
    } else if (wireType === Wire.bits64) this.position += 8;
    else if (wireType === Wire.bits32) this.position += 4;
    else return this.malformed();
    return this.position > end ? this.malformed() : undefined;
  }

  /** A varint of at most 32 bits; -1: there is none. */
  private shortVarint(end: number): number {
    const { bytes } = this;
    let byte = bytes[this.position++] as number;
    let value = byte & 0x7f;
    for (let shift = 1; byte >= 0x80; shift += 1) {
      if (shift === maxShortVarintBytes) return -1;
      byte = bytes[this.position++] as number;
      value += (byte & 0x7f) * 2 ** (7 * shift);
    }
    return this.position > end || value > 0xffffffff ? -1 : value;
  }

  private malformed(): Refusal {
    return notBinary(this.schema);
  }

  private tooMany(field: WireField | undefined, index: number): Refusal {
    const [first, itemIndex] = this.path;
    const top = (first as WireField | undefined) ?? field;
    if (this.bulk && top?.number === this.bulkNumber) {
      return tooManyPartsOfItem(`${top.name}[${(itemIndex as number | undefined) ?? index}]`, this.bulk);
    }
    return tooManyParts(field ? this.pathTo(field) : this.pathTo(undefined));
  }

  private pathTo(field: WireField | undefined, index = -1): string {
    let path = "";
    const add = (one: WireField, itemIndex: number) => {
      path += `${path && "."}${one.name}${one.isList && itemIndex >= 0 ? `[${itemIndex}]` : ""}`;
    };
    for (let at = 0; at < this.path.length; at += 2) add(this.path[at] as WireField, this.path[at + 1] as number);
    if (field) add(field, index);
    return path;
  }
}
