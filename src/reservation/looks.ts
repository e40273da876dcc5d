import { type Look, loadStepTimeoutMs } from "./port.js";

/** When a coupon is looked at again. */
export interface LookPauses {
  /**
   * After the first look that found a coupon calm, after the second, and so on: nothing was pending, and nobody had asked
   * for it since the look before. When the last of them is over and it is calm still, it leaves the gate.
   */
  readonly calmMs: readonly number[];
  /** A caller of this process makes a coupon due for a look at most once in this time. Much shorter than the first above. */
  readonly announceMs: number;
}

/** How long a look may take before the coupon is due again: whoever looked may have died. */
export const lookLeaseMs = 10_000;
/** What a message from here to the gate and the clocks of both may take, beyond the time that a reservation lasts. */
const slackMs = 1_000;

/**
 * The first pause outlasts a reservation that was made just after the look, and a load that was about to end. The second
 * one finds what a message brought that was held up for long. The third is how long coupons stay that nobody asks for.
 */
export function defaultPauses(reservationMs: number): LookPauses {
  return { calmMs: [Math.max(reservationMs, loadStepTimeoutMs) + slackMs, 600_000, 3_600_000], announceMs: 1_000 };
}

export type AfterLook =
  | { readonly what: "PAUSE"; readonly pauseMs: number; readonly calmLooks: number }
  /** It is not known here, and need not be looked at any more. */
  | { readonly what: "FORGET" }
  /** It is known, and nobody has asked for it for long. */
  | { readonly what: "LEAVE" };

const atOnce: AfterLook = { what: "PAUSE", pauseMs: 0, calmLooks: 0 };

/** What follows from a look, unless somebody has asked for the coupon meanwhile. */
export function afterLook(look: Look, again: boolean, { calmMs }: LookPauses): AfterLook {
  const { calmLooks, deadlineInMs, survey } = look;
  if (again || survey.overdue.length + survey.overdueUsageIds.length > 0) return atOnce;
  // Nothing can be done before the earliest deadline.
  if (deadlineInMs !== null) return { what: "PAUSE", pauseMs: Math.max(0, deadlineInMs), calmLooks: 0 };
  // Seen once, it may be about to be loaded.
  if (!survey.loaded && !survey.places && calmLooks > 0) return { what: "FORGET" };
  const pauseMs = calmMs[calmLooks];
  return pauseMs === undefined ? { what: "LEAVE" } : { what: "PAUSE", pauseMs, calmLooks: calmLooks + 1 };
}
