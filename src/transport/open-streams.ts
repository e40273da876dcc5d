import type { Http2Stream, ServerHttp2Stream } from "node:http2";
import { maxOpenStreams } from "./http2-limits.js";

/** Counts the open streams of a server over all its connections; how many one of them may have, HTTP/2 itself bounds. */
export class OpenStreams {
  private open = 0;

  constructor(private readonly max = maxOpenStreams) {}

  /** Counts a stream until it is closed; false: there are too many. */
  add(stream: Http2Stream): boolean {
    if (this.open >= this.max) return false;
    this.open += 1;
    stream.once("close", () => {
      this.open -= 1;
    });
    return true;
  }
}

/** For an answer to go out: a reset that follows it at once may overtake it. */
const answerMs = 1_000;

/** Closes a stream that was answered before its message had arrived, for the caller may never end it. */
export function closeAnswered(stream: ServerHttp2Stream): void {
  setTimeout(() => stream.close(), answerMs).unref();
}
