import type { IncomingHttpHeaders, OutgoingHttpHeaders, ServerHttp2Stream } from "node:http2";
import { Refusal } from "../../domain/refusal.js";
import { type Failure, failureOf } from "../error-table.js";
import type { Arrival, ArrivalDeadlines } from "../messages/arrival-deadlines.js";
import type { OpenStreams } from "../open-streams.js";
import { refuseStream } from "./refuse.js";

/** A stream that has arrived, before anything is made of it. */
export class ArrivingStream {
  /** What is to be done when it is closed: one listener does it all, for each costs every call. */
  onClose: (() => void) | undefined;
  private arrival: Arrival | undefined;

  constructor(
    readonly stream: ServerHttp2Stream,
    /** They may be changed: the library sees what is left of them. */
    readonly headers: IncomingHttpHeaders,
    private readonly handOver: () => void,
    private readonly open: OpenStreams,
    private readonly deadlines: ArrivalDeadlines,
    private readonly frontEnd: { headersFor?(headers: IncomingHttpHeaders): OutgoingHttpHeaders | undefined } = {},
  ) {}

  /** Hands it to the library that makes a call of it: sooner or later, or never. */
  serve(): void {
    this.handOver();
    // A message without bytes ends whether or not somebody listens.
    if (this.stream.readableEnded) this.stream.emit("end");
  }

  /** From now on its message has some time to arrive, or it is refused. */
  awaitMessage(): void {
    this.arrival = this.deadlines.begin(() => this.refuse(failureOf(new Refusal("DEADLINE_EXCEEDED"))));
  }

  /** Its message is whole. */
  arrived(): void {
    if (this.arrival) this.deadlines.end(this.arrival);
  }

  /** What else is done when its message takes too long. */
  set onLate(onLate: () => void) {
    if (this.arrival) this.arrival.onLate = onLate;
  }

  /** It was answered before its message had arrived: what is still to come is not waited for. */
  abandon(): void {
    this.open.answered(this.stream);
  }

  refuse(failure: Failure): void {
    if (this.isGone || this.isAnswered) return;
    refuseStream(this.stream, this.headers, failure, this.frontEnd.headersFor?.(this.headers));
    this.abandon();
  }

  closed(): void {
    this.open.closed(this.stream);
    this.arrived();
    this.onClose?.();
  }

  /** Whether nobody is there any more to be answered. */
  get isGone(): boolean {
    return this.stream.closed || this.stream.destroyed;
  }

  get isAnswered(): boolean {
    return this.stream.headersSent;
  }

  /** Its client has said all, and has not reset it. */
  get isWhole(): boolean {
    return this.stream.readableEnded && this.stream.rstCode === 0;
  }
}
