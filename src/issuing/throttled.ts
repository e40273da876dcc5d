import { Refusal } from "../domain/refusal.js";
import { randomBelow } from "../platform/random-numbers.js";
import type { Admission } from "../reservation/port.js";

/** Over how long callers come again that a throttle has refused, where its queue is shorter. */
const leastSpreadMs = 1_000;

/**
 * If all who are refused came when there is a place in the queue, one of them would get it. Within the time that the queue is
 * long a crowd takes all places that there will be.
 */
export function throttled({ waitMs = 1, queueMs = 0 }: Admission): Refusal {
  const retryAfterMs = waitMs + randomBelow(Math.max(queueMs, leastSpreadMs));
  return new Refusal("THROTTLED", [], undefined, { retryAfterMs });
}
