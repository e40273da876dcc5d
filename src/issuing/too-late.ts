import { DeadlinePassed, Overloaded } from "../domain/refusal.js";
import { steadyMs } from "../platform/clock.js";

/** Nothing was done, and nothing will be: the caller's time is over, or there is too much to do. */
export function tooLate(deadlineMs: number): DeadlinePassed | Overloaded {
  return steadyMs() >= deadlineMs ? new DeadlinePassed() : new Overloaded();
}
