import type { Http2Stream } from "node:http2";
import { maxOpenStreams } from "./http2-limits.js";
import { type Arrival, ArrivalDeadlines } from "./messages/arrival-deadlines.js";

/** For an answer to go out: a reset that follows it at once may overtake it. */
const answerMs = 1_000;

/** Counts the open streams of a server over all its connections; how many one of them may have, HTTP/2 itself bounds. */
export class OpenStreams {
  private open = 0;
  /** Those whose message is not waited for any more. */
  private readonly answers = new Map<Http2Stream, Arrival>();
  private readonly deadlines = new ArrivalDeadlines(answerMs);

  constructor(private readonly max = maxOpenStreams) {}

  /** Counts a stream until it is said to be closed; false: there are too many. */
  add(): boolean {
    if (this.open >= this.max) return false;
    this.open += 1;
    return true;
  }

  closed(stream: Http2Stream): void {
    this.open -= 1;
    const answer = this.answers.get(stream);
    if (!answer) return;
    this.answers.delete(stream);
    this.deadlines.end(answer);
  }

  /** It was answered before its message had arrived, and its caller may never end it: so it is closed soon. */
  answered(stream: Http2Stream): void {
    const answer = this.deadlines.begin(() => stream.close());
    this.answers.set(stream, answer);
  }
}
