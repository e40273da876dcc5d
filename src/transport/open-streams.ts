import { constants, type Http2Stream } from "node:http2";
import { maxOpenStreams } from "./http2-limits.js";
import { type Arrival, ArrivalDeadlines } from "./messages/arrival-deadlines.js";

/** For an answer to go out: a reset that follows it at once may overtake it. */
const answerMs = 1_000;
/** An answer that is all there is taken within one to two of these, or not at all: its client may let nothing in. */
const takeMs = 30_000;
const takeCheckMs = 5_000;

/** Counts the open streams of a server over all its connections; how many one of them may have, HTTP/2 itself bounds. */
export class OpenStreams {
  private open = 0;
  /** Those whose message is not waited for any more. */
  private readonly answers = new Map<Http2Stream, Arrival>();
  private readonly deadlines = new ArrivalDeadlines(answerMs);
  private readonly takes = new ArrivalDeadlines(takeMs, takeCheckMs);

  constructor(private readonly max = maxOpenStreams) {}

  /** Counts a stream until it is said to be closed; false: there are too many. */
  add(): boolean {
    if (this.open >= this.max) return false;
    this.open += 1;
    return true;
  }

  /**
   * Resets a stream that stays open, because its client does not take the answer: whoever lets nothing in would have a place for ever. Not for
   * streams of messages, see ClientPace. To be called when it is closed: what this answers.
   */
  watch(stream: Http2Stream): () => void {
    let wasAnswered = false;
    const look = () => {
      if (wasAnswered) {
        // One that waits to be closed until all is sent does not listen to a second close.
        if (stream.closed) stream.destroy();
        else stream.close(constants.NGHTTP2_CANCEL);
        return;
      }
      // grpc-js ends a stream only when its answer was taken.
      wasAnswered = stream.writableEnded || stream.writableLength > 0;
      wait = this.takes.begin(look);
    };
    let wait = this.takes.begin(look);
    return () => this.takes.end(wait);
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
    const { NGHTTP2_NO_ERROR: well, NGHTTP2_CANCEL: untaken } = constants;
    // Closed well, one whose client takes nothing would wait for it.
    const answer = this.deadlines.begin(() => stream.close(stream.writableLength > 0 ? untaken : well));
    this.answers.set(stream, answer);
  }
}
