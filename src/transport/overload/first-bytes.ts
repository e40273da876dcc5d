import type { ServerHttp2Stream } from "node:http2";

interface Waiting {
  readonly stream: ServerHttp2Stream;
  readonly begin: () => void;
  readonly hasBegun: boolean;
}

/**
 * Holds streams back until their messages begin to arrive. Most messages come in the same breath as their headers, so they
 * are looked at once the turn of the event loop has read all that there is. Of a stream that brings nothing more nothing is
 * made: it takes no permit, and costs no more than Node's own stream.
 */
export class FirstBytes {
  private arrived: Waiting[] = [];

  /** A stream that is closed or answered before is forgotten. */
  await(stream: ServerHttp2Stream, begin: () => void): void {
    this.add({ stream, begin, hasBegun: false });
  }

  private add(waiting: Waiting): void {
    if (this.arrived.length === 0) setImmediate(() => this.look());
    this.arrived.push(waiting);
  }

  private look(): void {
    const { arrived } = this;
    this.arrived = [];
    for (const { stream, begin, hasBegun } of arrived) {
      if (stream.closed || stream.destroyed || stream.headersSent) continue;
      if (hasBegun || isThere(stream)) begin();
      else stream.once("readable", () => this.add({ stream, begin, hasBegun: true }));
    }
  }
}

/** Some of the message is there, or its end. */
function isThere(stream: ServerHttp2Stream): boolean {
  return stream.readableLength > 0 || stream.readableEnded || stream.endAfterHeaders;
}
