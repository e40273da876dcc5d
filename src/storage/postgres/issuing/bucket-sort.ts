import { Slices } from "../../../platform/slices.js";
import {
  anyRequest,
  bucketHeadBytes,
  bucketsPerPage,
  entryLength,
  type HoldingPage,
  isOfNobody,
  maxGiven,
  userHashBytes,
} from "../../../reservation/packed-holdings.js";

/** Room that holdings of a part get at a time: at first for the shortest and the longest of them, then as much as they have. */
const leastChunk = 1_024;
const mostChunk = 16_384;

/** Bytes of holdings that all loads of a process together should have in memory at most, and what they have. */
export class SortRoom {
  taken = 0;

  constructor(private readonly maxBytes: number) {}

  get isFull(): boolean {
    return this.taken >= this.maxBytes;
  }
}

/** Holdings of some buckets that lie beside each other, in the order in which they came, each behind the hash of its user. */
interface Part {
  /** None is moved when there is more to come. */
  readonly chunks: Chunk[];
  /** For which there is room in the chunks. */
  size: number;
}

interface Chunk {
  readonly bytes: Buffer;
  length: number;
}

/**
 * Puts packed holdings into buckets: Postgres would have to sort them for that, which costs it more than to find them. Takes
 * them as pack_holdings.sql answers them. First each goes to the part in which its bucket is, and then each part is sorted by
 * itself: a million holdings would else be looked for all over the memory.
 */
export class BucketSort {
  private readonly parts: (Part | undefined)[];
  private taken = 0;

  constructor(
    /** A power of two, not less than `leastBuckets`. */
    private readonly bucketCount: number,
    private readonly room: SortRoom,
  ) {
    this.parts = Array.from({ length: bucketCount / bucketsPerPage });
  }

  /** Answers how many holdings there are. */
  add(rows: Buffer): number {
    let count = 0;
    for (let at = 0; at < rows.length; count++) {
      const length = userHashBytes + entryLength(rows, at + userHashBytes);
      const chunk = this.chunkFor(Math.floor((bucketOf(rows, at) % this.bucketCount) / bucketsPerPage), length);
      copy(rows, at, chunk.bytes, chunk.length, length);
      chunk.length += length;
      at += length;
    }
    return count;
  }

  /** All that was added and was not taken yet. */
  async *take(): AsyncGenerator<HoldingPage> {
    const slices = new Slices();
    for (const [n, part] of this.parts.entries()) {
      if (!part) continue;
      await slices.next();
      this.parts[n] = undefined;
      this.noteTaken(-part.size);
      yield pageOf(part, n * bucketsPerPage);
    }
  }

  /** To be called in the end, whether all was taken or not. */
  close(): void {
    this.parts.fill(undefined);
    this.noteTaken(-this.taken);
  }

  private chunkFor(n: number, length: number): Chunk {
    let part = this.parts[n];
    const last = part?.chunks.at(-1);
    if (last && last.length + length <= last.bytes.length) return last;
    part ??= { chunks: [], size: 0 };
    const size = Math.max(leastChunk, Math.min(part.size, mostChunk));
    const chunk = { bytes: Buffer.allocUnsafeSlow(size), length: 0 };
    part.chunks.push(chunk);
    part.size += size;
    this.parts[n] = part;
    this.noteTaken(size);
    return chunk;
  }

  private noteTaken(bytes: number): void {
    this.taken += bytes;
    this.room.taken += bytes;
  }
}

/** The hash of the user, of which the lower bits are the bucket's number. */
function bucketOf(bytes: Buffer, at: number): number {
  return ((bytes[at] as number) << 16) | ((bytes[at + 1] as number) << 8) | (bytes[at + 2] as number);
}

function pageOf({ chunks }: Part, firstBucket: number): HoldingPage {
  const lengths = new Uint32Array(bucketsPerPage);
  /** How many entries of nobody there are. */
  const given = new Uint32Array(bucketsPerPage);
  for (const chunk of chunks) {
    for (let at = 0; at < chunk.length; ) {
      const bucket = bucketOf(chunk.bytes, at) % bucketsPerPage;
      const length = entryLength(chunk.bytes, at + userHashBytes);
      lengths[bucket] = (lengths[bucket] as number) + length;
      if (isOfNobody(chunk.bytes, at + userHashBytes)) given[bucket] = (given[bucket] as number) + 1;
      at += userHashBytes + length;
    }
  }
  for (const [n, count] of given.entries()) {
    if (count > maxGiven) lengths[n] = (lengths[n] as number) - (count - 1) * anyRequest.length;
  }
  const page = Buffer.allocUnsafeSlow(
    lengths.reduce((sum, length) => sum + (length > 0 ? bucketHeadBytes + length : 0), 0),
  );
  // Where the next entry of each bucket goes.
  const places = new Uint32Array(bucketsPerPage);
  let end = 0;
  for (const [n, length] of lengths.entries()) {
    if (length === 0) continue;
    page.writeUInt32BE(firstBucket + n, end);
    page.writeUInt32BE(length, end + 4);
    places[n] = end + bucketHeadBytes;
    end += bucketHeadBytes + length;
    if ((given[n] as number) > maxGiven) places[n] = (places[n] as number) + anyRequest.copy(page, places[n]);
  }
  for (const chunk of chunks) {
    for (let at = 0; at < chunk.length; ) {
      const bucket = bucketOf(chunk.bytes, at) % bucketsPerPage;
      const length = entryLength(chunk.bytes, at + userHashBytes);
      const from = at + userHashBytes;
      at = from + length;
      if ((given[bucket] as number) > maxGiven && isOfNobody(chunk.bytes, from)) continue;
      const place = places[bucket] as number;
      copy(chunk.bytes, from, page, place, length);
      places[bucket] = place + length;
    }
  }
  return page;
}

/** So few bytes are copied sooner than the runtime is asked to. */
function copy(from: Buffer, at: number, to: Buffer, toAt: number, length: number): void {
  for (let n = 0; n < length; n++) to[toAt + n] = from[at + n] as number;
}
