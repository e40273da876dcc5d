import type { Principal } from "./principal.js";
import type { Refusal } from "./refusal.js";

/** Of a call that is traced: told what it has spent its time on, when that is over. Times are those of performance.now(). */
export interface CallTrace {
  step(
    name: string,
    startedMs: number,
    endedMs: number,
    attributes?: Readonly<Record<string, string | number | boolean | undefined>>,
  ): void;
}

/** What a handler may know of the call that it serves. */
export interface CallContext {
  /** The name of the method, without its service. */
  readonly method: string;
  /** The caller's `x-request-id`, or one that was made up; it is in every log line of the call. */
  readonly requestId: string;
  /** The `request_id` of the request as it came; empty: it has none. Its own field is the caller's alone by now. */
  readonly callerRequestId: string;
  /** Who calls. */
  readonly principal: Principal;
  /** Absent: this call is not traced. */
  readonly trace?: CallTrace | undefined;
  /** Until when the answer is of use, in ms since 1970. */
  readonly deadlineMs: number;
  /**
   * Gives the permit up while it waits for something that is no work, its ticket of a throttled coupon say.
   * Absent: nobody counts who is at work.
   */
  yieldPermit?<T>(wait: () => Promise<T>): Promise<T>;
}

/** Of a call whose answer is a stream. Its deadline is that by which the stream has to begin. */
export interface StreamContext extends CallContext {
  readonly stream: {
    /** Aborted when nobody is there any more. */
    readonly signal: AbortSignal;
    /** The caller's own deadline, in ms since 1970; Infinity: it has none. */
    readonly untilMs: number;
    /** Why the caller may not go on, its key having been revoked, say; undefined: it may. To be asked now and then. */
    mayGoOn(): Promise<Refusal | undefined>;
  };
}
