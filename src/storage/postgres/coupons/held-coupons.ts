import { CouponsHeld } from "../../../domain/refusal.js";
import { errorCode } from "../../../platform/error-code.js";
import { noDeadlineMs } from "../../ports/page.js";
import type { Database } from "../database.js";

const lockNotAvailable = "55P03";
/** What is no batch waits for lock_coupons() so many times, together as long as for any other lock. */
const patientTries = 4;

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

/** Commits what is a transaction of its own, and locks its coupons with lock_coupons(), too: when others hold some of these, it waits on. */
export async function patiently<T>(commit: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await commit();
    } catch (error) {
      if (errorCode(error) !== lockNotAvailable || tries >= patientTries) throw error;
    }
  }
}

/** Runs a batch of a job, which locks its coupons with lock_free_coupons(). */
export async function passingHeld<T>(run: (skipHeld: boolean) => Promise<T>): Promise<T> {
  try {
    return await run(false);
  } catch (error) {
    if (errorCode(error) !== lockNotAvailable) throw error;
    return await run(true);
  }
}

export function couponIdsOf(requests: readonly OfCoupon[]): string[] {
  return [...new Set(requests.flatMap(({ couponId }) => couponId ?? []))];
}
