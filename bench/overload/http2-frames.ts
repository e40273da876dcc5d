import hpack from "hpack.js";

/** The few parts of HTTP/2 (RFC 9113) that a client of unary gRPC calls needs. */

export const Frame = {
  data: 0,
  headers: 1,
  rstStream: 3,
  settings: 4,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
} as const;
export const endStream = 0x1;
export const ack = 0x1;
const endHeaders = 0x4;
const frameHeadBytes = 9;
const grpcHeadBytes = 5;
export const maxConcurrentStreamsSetting = 3;
const maxWindow = 0x7fffffff;
const firstWindow = 65_535;
const cancelCode = 8;

/** What a connection begins with: no table of headers to keep, and room for all answers there will ever be. */
export function opening(): Buffer {
  const setting = (id: number, value: number) => {
    const bytes = Buffer.alloc(6);
    bytes.writeUInt16BE(id);
    bytes.writeUInt32BE(value, 2);
    return bytes;
  };
  const settings = Buffer.concat([setting(1, 0), setting(2, 0), setting(4, maxWindow)]);
  const update = Buffer.alloc(4);
  update.writeUInt32BE(maxWindow - firstWindow);
  return Buffer.concat([
    Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    frame(Frame.settings, 0, 0, settings),
    frame(Frame.windowUpdate, 0, 0, update),
  ]);
}

export function frame(type: number, flags: number, streamId: number, payload: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(frameHeadBytes + payload.length);
  writeHead(bytes, 0, payload.length, type, flags, streamId);
  bytes.set(payload, frameHeadBytes);
  return bytes;
}

export function cancel(streamId: number): Buffer {
  return frame(Frame.rstStream, 0, streamId, Buffer.from([0, 0, 0, cancelCode]));
}

/** Headers as literals that no table keeps: the same bytes for each call. */
export function headerBlock(headers: Readonly<Record<string, string>>): Buffer {
  const text = (value: string) => {
    const bytes = Buffer.from(value);
    if (bytes.length > 126) throw new Error(`${value} is too long for a header of this client.`);
    return [Buffer.from([bytes.length]), bytes];
  };
  return Buffer.concat(
    Object.entries(headers).flatMap(([name, value]) => [Buffer.from([0]), ...text(name), ...text(value)]),
  );
}

/** One whole call: its headers, and its message in one frame of data. */
export function callFrames(streamId: number, block: Buffer, message: Buffer): Buffer {
  const dataLength = grpcHeadBytes + message.length;
  const bytes = Buffer.allocUnsafe(2 * frameHeadBytes + block.length + dataLength);
  writeHead(bytes, 0, block.length, Frame.headers, endHeaders, streamId);
  block.copy(bytes, frameHeadBytes);
  const dataAt = frameHeadBytes + block.length;
  writeHead(bytes, dataAt, dataLength, Frame.data, endStream, streamId);
  bytes[dataAt + frameHeadBytes] = 0;
  bytes.writeUInt32BE(message.length, dataAt + frameHeadBytes + 1);
  message.copy(bytes, dataAt + frameHeadBytes + grpcHeadBytes);
  return bytes;
}

/** What a message takes of the connection's window. */
export function dataBytes(message: Buffer): number {
  return grpcHeadBytes + message.length;
}

function writeHead(bytes: Buffer, at: number, length: number, type: number, flags: number, streamId: number): void {
  bytes.writeUIntBE(length, at, 3);
  bytes[at + 3] = type;
  bytes[at + 4] = flags;
  bytes.writeUInt32BE(streamId, at + 5);
}

export type OnFrame = (type: number, flags: number, streamId: number, payload: Buffer) => void;

/** Cuts what arrives into frames. */
export class FrameReader {
  private rest: Buffer = Buffer.alloc(0);

  constructor(private readonly onFrame: OnFrame) {}

  read(chunk: Buffer): void {
    let bytes = this.rest.length === 0 ? chunk : Buffer.concat([this.rest, chunk]);
    while (bytes.length >= frameHeadBytes) {
      const length = bytes.readUIntBE(0, 3);
      const end = frameHeadBytes + length;
      if (bytes.length < end) break;
      const streamId = bytes.readUInt32BE(5) & maxWindow;
      this.onFrame(bytes[3] as number, bytes[4] as number, streamId, bytes.subarray(frameHeadBytes, end));
      bytes = bytes.subarray(end);
    }
    this.rest = bytes;
  }
}

/** Answers have few different headers, but for the second in which they were sent. */
const maxKnownBlocks = 10_000;
const knownBlocks = new Map<string, ReadonlyMap<string, string>>();

export function readHeaders(block: Buffer): ReadonlyMap<string, string> {
  const key = block.toString("latin1");
  let headers = knownBlocks.get(key);
  if (!headers) {
    const decompressor = hpack.decompressor.create({ table: { maxSize: 0 } });
    decompressor.write(block);
    decompressor.execute();
    const found = new Map<string, string>();
    for (let one = decompressor.read(); one !== null; one = decompressor.read()) found.set(one.name, one.value);
    headers = found;
    if (knownBlocks.size >= maxKnownBlocks) knownBlocks.clear();
    knownBlocks.set(key, headers);
  }
  return headers;
}
