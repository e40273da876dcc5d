import type { Principal } from "./principal.js";

/** What a handler may know of the call that it serves. */
export interface CallContext {
  /** The caller's `x-request-id`, or one that was made up; it is in every log line of the call. */
  readonly requestId: string;
  /** Who calls. */
  readonly principal: Principal;
  /** Until when the answer is of use, in ms since 1970. */
  readonly deadlineMs: number;
  /**
   * Gives the permit up while it waits for something that is no work, its ticket of a throttled coupon say.
   * Absent: nobody counts who is at work.
   */
  yieldPermit?<T>(wait: () => Promise<T>): Promise<T>;
}
