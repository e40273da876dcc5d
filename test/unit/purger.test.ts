import { expect, test } from "vitest";
import { type PurgeOptions, Purger } from "../../src/jobs/purger.js";
import type { EndedCouponWalk, PurgeStore, PurgeTerms } from "../../src/storage/ports/purge.js";

const options: PurgeOptions = { afterDays: 30, deletedCodesKeepHours: 24, everyMinutes: 60, dryRun: false };
const broken = new Error("a statement took too long");
const quiet = { info: () => {} };

const idOf = (n: number) => String(n).padStart(10, "0");

/** Coupons of which each `endedEvery`th has something left. What it is asked for is noted, and fails when `fails` says so. */
function storeOf({ coupons = 4, endedEvery = 1, fails = (_work: string): boolean => false } = {}) {
  const asked: string[] = [];
  const note = (work: string) => {
    asked.push(work);
    if (fails(work)) throw broken;
  };
  const store: PurgeStore = {
    async findEnded({ batchSize }: PurgeTerms, after) {
      const first = after === null ? 0 : Number(after) + 1;
      note(`coupons from ${first}`);
      const end = Math.min(coupons, first + batchSize);
      const walks: EndedCouponWalk[] = [];
      for (let n = first; n < end; n++)
        if (n % endedEvery === 0) walks.push({ kind: "USER_COUPONS_OF_ENDED_COUPON", couponId: idOf(n) });
      return { walks, next: end < first + batchSize ? null : idOf(end - 1) };
    },
    async purge(walk) {
      note("couponId" in walk ? `coupon ${Number(walk.couponId)}` : walk.kind);
      return { userCoupons: 1, codes: 0, next: null };
    },
    async purgeRecords() {
      note("records");
      return { requests: 0, quotaDays: 0 };
    },
  };
  return { store, asked: () => asked.splice(0) };
}

const kinds = ["ENDED_USER_COUPONS", "EXPIRED_CODES", "records", "coupons from 0"];
const coupons = [0, 1, 2, 3].map((n) => `coupon ${n}`);

test.each([...kinds, "coupon 0", "coupon 3"])(
  "what fails, as %s does, keeps nothing else from being purged, and fails the run",
  async (failing) => {
    const { store, asked } = storeOf({ fails: (work) => work === failing });
    await expect(new Purger(store, options, quiet).run()).rejects.toBe(broken);
    expect(asked()).toEqual(failing === "coupons from 0" ? kinds : [...kinds, ...coupons]);
  },
);

test("what was purged is logged, though something has failed", async () => {
  const logged: object[] = [];
  const { store } = storeOf({ fails: (work) => work === "coupons from 0" });
  await expect(new Purger(store, options, { info: (details) => void logged.push(details) }).run()).rejects.toBe(broken);
  expect(logged).toEqual([{ userCoupons: 2, codes: 0, requests: 0, quotaDays: 0, dryRun: false }]);
});

test("a store that is away is not asked for each coupon, and the next run goes on behind those that failed", async () => {
  let isAway = true;
  const { store, asked } = storeOf({ coupons: 1_000, fails: (work) => isAway && /^coupon \d/.test(work) });
  const purger = new Purger(store, options, quiet);
  await expect(purger.run()).rejects.toBe(broken);
  expect(asked().length).toBeLessThan(20);
  isAway = false;
  await purger.run();
  const walked = asked().filter((work) => /^coupon \d/.test(work));
  expect(walked.length).toBeGreaterThan(980);
  // All that was passed over has its turn after that.
  await purger.run();
  expect(asked().filter((work) => /^coupon \d/.test(work)).length).toBe(1_000);
});

test("coupons that ended are purged as fast as 100,000 end in a day, behind millions that have nothing left", async () => {
  const longestPauseHours = 1.25;
  const perRun = Math.ceil((100_000 / 24) * longestPauseHours);
  const { store } = storeOf({ coupons: 4_000_000, endedEvery: Math.floor(4_000_000 / perRun) });
  const { userCoupons } = await new Purger(store, options, quiet).purge();
  expect(userCoupons).toBeGreaterThan(perRun);
});
