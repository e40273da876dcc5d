import { connect, type Socket } from "node:net";

/** HTTP/2 by hand (RFC 9113, RFC 7541): what no client library sends, or not as fast. */

export const frameType = { data: 0, headers: 1, rstStream: 3, settings: 4, ping: 6, goaway: 7 } as const;
export const flag = { endStream: 1, endHeaders: 4, ack: 1 } as const;
/** Error codes. */
export const code = { internalError: 2, refusedStream: 7, cancel: 8 } as const;

export const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

const frameHeaderBytes = 9;

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payload: Buffer;
}

export function frame(type: number, flags: number, streamId: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  const bytes = Buffer.alloc(frameHeaderBytes + payload.length);
  bytes.writeUIntBE(payload.length, 0, 3);
  bytes[3] = type;
  bytes[4] = flags;
  bytes.writeUInt32BE(streamId, 5);
  bytes.set(payload, frameHeaderBytes);
  return bytes;
}

export function rstStream(streamId: number, errorCode: number): Buffer {
  const payload = Buffer.alloc(4);
  payload.writeUInt32BE(errorCode);
  return frame(frameType.rstStream, 0, streamId, payload);
}

/** A header block in which every field is a literal with a literal name: it changes no table, so it may be sent again. */
export function headerBlock(headers: Readonly<Record<string, string>>): Buffer {
  const literal = (text: string) => {
    const bytes = Buffer.from(text, "latin1");
    return Buffer.concat([lengthPrefix(bytes.length), bytes]);
  };
  const fields = Object.entries(headers).map(([name, value]) =>
    Buffer.concat([Buffer.from([0]), literal(name), literal(value)]),
  );
  return Buffer.concat(fields);
}

/** An integer with a prefix of 7 bits. */
function lengthPrefix(value: number): Buffer {
  if (value < 0x7f) return Buffer.from([value]);
  const bytes = [0x7f];
  let rest = value - 0x7f;
  for (; rest >= 0x80; rest >>>= 7) bytes.push((rest & 0x7f) | 0x80);
  return Buffer.from([...bytes, rest]);
}

/** The header block of a call that has a body. */
export function callHeaders(path: string, contentType: string, more: Readonly<Record<string, string>> = {}): Buffer {
  return headerBlock({
    ":method": "POST",
    ":scheme": "http",
    ":authority": "127.0.0.1",
    ":path": path,
    "content-type": contentType,
    te: "trailers",
    ...more,
  });
}

/** One connection. It answers what HTTP/2 demands an answer to, and hands every frame on. */
export class RawConnection {
  readonly socket: Socket;
  #rest: Buffer = Buffer.alloc(0);

  private constructor(
    port: number,
    private readonly heard: (frame: Frame) => void,
  ) {
    this.socket = connect({ port, host: "127.0.0.1", noDelay: true });
    this.socket.on("data", (chunk: Buffer) => this.#read(chunk));
    // "close" follows, and says all that there is to know.
    this.socket.on("error", () => {});
  }

  /** Resolves when the server's first frame is here; rejects when there will be none. */
  static open(port: number, heard: (frame: Frame) => void = () => {}): Promise<RawConnection> {
    return new Promise((resolve, reject) => {
      let first = true;
      const connection = new RawConnection(port, (frame) => {
        if (first) resolve(connection);
        first = false;
        heard(frame);
      });
      connection.socket.once("close", () => reject(new Error("The connection was closed before it began.")));
      connection.socket.write(Buffer.concat([preface, frame(frameType.settings, 0, 0)]));
    });
  }

  /** How much waits to be sent. */
  get waitingBytes(): number {
    return this.socket.writableLength;
  }

  get isOpen(): boolean {
    return this.socket.writable;
  }

  write(bytes: Uint8Array): void {
    if (this.socket.writable) this.socket.write(bytes);
  }

  destroy(): void {
    this.socket.destroy();
  }

  #read(chunk: Buffer): void {
    let bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    while (bytes.length >= frameHeaderBytes) {
      const end = frameHeaderBytes + bytes.readUIntBE(0, 3);
      if (bytes.length < end) break;
      const [type, flags] = [bytes[3]!, bytes[4]!];
      const streamId = bytes.readUInt32BE(5) & 0x7fffffff;
      const payload = bytes.subarray(frameHeaderBytes, end);
      if (type === frameType.settings && (flags & flag.ack) === 0) this.write(frame(frameType.settings, flag.ack, 0));
      if (type === frameType.ping && (flags & flag.ack) === 0) this.write(frame(frameType.ping, flag.ack, 0, payload));
      this.heard({ type, flags, streamId, payload });
      bytes = bytes.subarray(end);
    }
    this.#rest = bytes;
  }
}
