import { constants, type Http2Session, type ServerHttp2Stream } from "node:http2";

/** Streams that are read in one turn of the event loop. */
const maxInTurn = 600;
/** How often a connection's streams of one turn are looked at, and how many of them may have been reset already. */
const checkEvery = 64;
const maxReset = 48;

/** What libuv reads a connection by. Node keeps it to itself, so a test sees whether it is still there. */
interface Handle {
  readStart(): void;
  readStop(): void;
}

interface Reading {
  readonly handle: Handle;
  readonly destroy: Http2Session["destroy"];
  /** Of this turn. */
  readonly streams: ServerHttp2Stream[];
}

export interface TurnWatch {
  /** A turn of the event loop has begun to read streams. */
  turnBegan(): void;
  /** More had arrived than it was to read. */
  turnWasFull(): void;
}

/**
 * Bounds how many streams are read in one turn of the event loop. libuv would read up to 2 MiB of each connection before
 * anything else has its turn, and a stream costs Node some 50 us before it can be shed: under a flood answers of the
 * stores, timers and other connections would wait for half a second. What is not read waits in the system's buffers.
 */
export class ReadTurns {
  private readonly readings = new Map<Http2Session, Reading>();
  private readonly heard: Reading[] = [];
  private inTurn = 0;

  constructor(private readonly watch: TurnWatch) {}

  /** `destroy` ends it at once, within a turn. */
  opened(session: Http2Session, destroy: Http2Session["destroy"]): void {
    const { _handle: handle } = session.socket as unknown as { readonly _handle?: Handle };
    if (!handle) return;
    this.readings.set(session, { handle, destroy, streams: [] });
    session.once("close", () => this.readings.delete(session));
  }

  /** Its connection is not read any more. */
  stop(session: Http2Session): void {
    this.readings.get(session)?.handle.readStop();
    this.readings.delete(session);
  }

  /** A stream has arrived. */
  arrived(stream: ServerHttp2Stream): void {
    const { session } = stream;
    const reading = session && this.readings.get(session);
    if (!reading) return;
    if (this.inTurn === 0) {
      this.watch.turnBegan();
      setImmediate(() => this.end());
    }
    this.inTurn += 1;
    const { streams } = reading;
    if (streams.length === 0) this.heard.push(reading);
    streams.push(stream);
    // What is reset before it was even read is not given up by a caller whose time is over, but a flood (CVE-2023-44487).
    if (streams.length % checkEvery === 0 && streams.filter(wasReset).length > maxReset) {
      reading.destroy(undefined, constants.NGHTTP2_ENHANCE_YOUR_CALM);
    }
    if (this.inTurn === maxInTurn) for (const { handle } of this.readings.values()) handle.readStop();
  }

  private end(): void {
    if (this.inTurn >= maxInTurn) {
      this.watch.turnWasFull();
      // Who was not heard comes first. One that was asked to go, too, or nobody would hear that it has gone.
      const open = [...this.readings.values()];
      for (const { handle, streams } of open) if (streams.length === 0) handle.readStart();
      for (const { handle, streams } of open) if (streams.length > 0) handle.readStart();
    }
    this.inTurn = 0;
    for (const { streams } of this.heard.splice(0)) streams.length = 0;
  }
}

/** By its client, not by us: we close what is one too many. */
function wasReset({ closed, rstCode }: ServerHttp2Stream): boolean {
  return closed && rstCode !== constants.NGHTTP2_NO_ERROR && rstCode !== constants.NGHTTP2_REFUSED_STREAM;
}
