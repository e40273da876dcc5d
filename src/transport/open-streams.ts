import type { Http2Stream } from "node:http2";
import { maxOpenStreams } from "./http2-limits.js";

/** For an answer to go out: a reset that follows it at once may overtake it. */
const answerMs = 1_000;
const checkMs = 500;

/** Counts the open streams of a server over all its connections; how many one of them may have, HTTP/2 itself bounds. */
export class OpenStreams {
  private open = 0;
  /** Those whose message is not waited for any more, and when they were answered: the first comes first. */
  private readonly answeredAtMs = new Map<Http2Stream, number>();
  private timer: NodeJS.Timeout | undefined;

  constructor(private readonly max = maxOpenStreams) {}

  /** Counts a stream until it is closed; false: there are too many. */
  add(stream: Http2Stream): boolean {
    if (this.open >= this.max) return false;
    this.open += 1;
    stream.once("close", () => {
      this.open -= 1;
      this.answeredAtMs.delete(stream);
    });
    return true;
  }

  /** It was answered before its message had arrived, and its caller may never end it: so it is closed soon. */
  answered(stream: Http2Stream): void {
    this.answeredAtMs.set(stream, performance.now());
    if (this.timer) return;
    this.timer = setInterval(() => this.closeAnswered(), checkMs);
    this.timer.unref();
  }

  private closeAnswered(): void {
    const now = performance.now();
    for (const [stream, atMs] of this.answeredAtMs) {
      if (now - atMs < answerMs) return;
      stream.close();
    }
    if (this.answeredAtMs.size > 0) return;
    clearInterval(this.timer);
    this.timer = undefined;
  }
}
