import { CouponsHeld } from "../../../domain/refusal.js";
import { errorCode } from "../../../platform/error-code.js";
import type { Database } from "../database.js";

const lockNotAvailable = "55P03";
/** What is no batch waits for lock_coupons() so many times, together as long as for any other lock. */
const patientTries = 4;
/** Work that serves many callers has no deadline of its own but the one every query has. */
const noDeadlineMs = Number.POSITIVE_INFINITY;

interface OfCoupon {
  readonly couponId?: string | undefined;
}

/**
 * Commits requests that lock their coupons with lock_coupons(). When others hold some of these for too long, a batch throws CouponsHeld,
 * for the rest of it need not wait; what goes `together` waits on.
 */
export async function lockingCoupons<T>(
  { commits }: Pick<Database, "commits">,
  requests: readonly OfCoupon[],
  together: boolean,
  commit: () => Promise<T>,
): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await commit();
    } catch (error) {
      if (errorCode(error) !== lockNotAvailable || (together && tries >= patientTries)) throw error;
      if (together) continue;
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
}

export function couponIdsOf(requests: readonly OfCoupon[]): string[] {
  return [...new Set(requests.flatMap(({ couponId }) => couponId ?? []))];
}
