import { expect, test } from "vitest";
import { type PurgeOptions, Purger } from "../../src/jobs/purger.js";
import type { EndedCouponWalk, PurgeStore, PurgeTerms } from "../../src/storage/ports/purge.js";

const options: PurgeOptions = { afterDays: 30, deletedCodesKeepHours: 24, everyMinutes: 60, dryRun: false };
const quiet = { info: () => {} };

const idOf = (n: number) => String(n).padStart(10, "0");

/** Coupons of which each `endedEvery`th has something left. */
function storeOf({ coupons = 4, endedEvery = 1 } = {}) {
  const store: PurgeStore = {
    async findEnded({ batchSize }: PurgeTerms, after) {
      const first = after === null ? 0 : Number(after) + 1;
      const end = Math.min(coupons, first + batchSize);
      const walks: EndedCouponWalk[] = [];
      for (let n = first; n < end; n++)
        if (n % endedEvery === 0) walks.push({ kind: "USER_COUPONS_OF_ENDED_COUPON", couponId: idOf(n) });
      return { walks, next: end < first + batchSize ? null : idOf(end - 1) };
    },
    async purge() {
      return { userCoupons: 1, codes: 0, next: null };
    },
    async purgeRecords() {
      return { requests: 0, quotaDays: 0 };
    },
  };
  return store;
}

test("coupons that ended are purged as fast as 100,000 end in a day, behind millions that have nothing left", async () => {
  const longestPauseHours = 1.25;
  const perRun = Math.ceil((100_000 / 24) * longestPauseHours);
  const store = storeOf({ coupons: 4_000_000, endedEvery: Math.floor(4_000_000 / perRun) });
  const { userCoupons } = await new Purger(store, options, quiet).purge();
  expect(userCoupons).toBeGreaterThan(perRun);
});
