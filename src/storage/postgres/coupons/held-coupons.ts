import { CouponsHeld, Overloaded } from "../../../domain/refusal.js";
import { steadyMs } from "../../../platform/clock.js";
import { errorCode } from "../../../platform/error-code.js";
import type { Database } from "../database.js";
import { lockTimeoutMs } from "../errors.js";

const lockNotAvailable = "55P03";
/** What is no batch waits for lock_coupons() so many times, together as long as for any other lock. */
const patientTries = 4;
/** Of what is no batch and of one coupon: one that has the lock, and one that gets it next. */
const mostAtOnce = 2;
/** Work that serves many callers has no deadline of its own but the one every query has. */
const noDeadlineMs = Number.POSITIVE_INFINITY;

export interface OfCoupon {
  readonly couponId?: string | undefined;
}

/**
 * Commits a batch of requests that locks their coupons with lock_coupons(). When others hold some of these for too long, it throws CouponsHeld,
 * for the rest of the batch need not wait.
 */
export async function lockingCoupons<T>(
  { commits }: Pick<Database, "commits">,
  requests: readonly OfCoupon[],
  commit: () => Promise<T>,
): Promise<T> {
  try {
    return await commit();
  } catch (error) {
    if (errorCode(error) !== lockNotAvailable) throw error;
    const ids = couponIdsOf(requests);
    const held = await commits.run(
      noDeadlineMs,
      ({ sql }) => sql<{ id: string }[]>`
        WITH free AS (SELECT id FROM coupons WHERE id = ANY (${ids}::uuid[]) FOR NO KEY UPDATE SKIP LOCKED)
        SELECT id FROM coupons WHERE id = ANY (${ids}::uuid[]) AND id NOT IN (SELECT id FROM free)`,
    );
    throw held.length > 0 ? new CouponsHeld(new Set(held.map(({ id }) => id)), { cause: error }) : error;
  }
}

/**
 * Commits what is a transaction of its own, and locks its coupons with lock_coupons(), too. It waits on when others hold some of these; so of each
 * coupon only a few are under way at once, or they would have all connections.
 */
export class PatientCommits {
  /** By coupon, the ends of those that are under way or wait, in order. */
  private readonly ends = new Map<string, Promise<void>[]>();

  /** Throws Overloaded, and nothing was done, when it has waited for those before it as long as for any other lock. */
  async run<T>(requests: readonly OfCoupon[], commit: () => Promise<T>): Promise<T> {
    const ids = couponIdsOf(requests);
    const untilMs = steadyMs() + lockTimeoutMs;
    const before = ids.map((id) => this.ends.get(id)?.at(-mostAtOnce));
    let end = () => {};
    const ended = new Promise<void>((resolve) => {
      end = resolve;
    });
    for (const id of ids) this.ends.set(id, [...(this.ends.get(id) ?? []), ended]);
    try {
      await Promise.all(before);
      if (steadyMs() >= untilMs) throw new Overloaded();
      return await patiently(commit);
    } finally {
      end();
      for (const id of ids) {
        const others = this.ends.get(id)!.filter((one) => one !== ended);
        if (others.length > 0) this.ends.set(id, others);
        else this.ends.delete(id);
      }
    }
  }
}

async function patiently<T>(commit: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await commit();
    } catch (error) {
      if (errorCode(error) !== lockNotAvailable || tries >= patientTries) throw error;
    }
  }
}

export function couponIdsOf(requests: readonly OfCoupon[]): string[] {
  return [...new Set(requests.flatMap(({ couponId }) => couponId ?? []))];
}
