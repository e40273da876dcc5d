import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { Refusal } from "../../src/domain/refusal.js";
import { openDatabase } from "../../src/storage/postgres/database.js";
import { PostgresIssueStore } from "../../src/storage/postgres/issuing/issue-store.js";
import { PostgresUserCouponStore } from "../../src/storage/postgres/user-coupons/user-coupon-store.js";
import { PostgresUsageStore } from "../../src/storage/postgres/using/usage-store.js";
import { type ClockedDatabase, insertCoupon, openClockedDatabase, openCoupon } from "./clocked-database.js";
import {
  cancelOne,
  expectCounted,
  type Held,
  lockRequestOf,
  orderOf,
  readCoupon,
  useRequestOf,
} from "./usage-world.js";
import { untilFree } from "./waiting.js";

/** Everything that changes a user coupon, at once and over the same few rows. A deadlock is an error that fails the test. */
const noon = new Date("2030-06-01T12:00:00.000Z");
const farMs = Date.now() + 3_600_000;
const workerCount = 8;
const rounds = Number(process.env.HAMMER_ROUNDS ?? 250);
const quantity = 12;
const usageCap = 40;

let clocked: ClockedDatabase;
beforeAll(async () => {
  clocked = await openClockedDatabase(noon);
});
afterAll(() => clocked?.close());

/** A small generator with a fixed seed: the same orders in each run. */
function generator(seed: number) {
  let state = seed;
  return (below: number) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 8) % below;
  };
}

test("uses, locks, cancellations, deletions, releases, expiries and issues at once: no deadlock, and every counter is right", {
  timeout: 240_000,
}, async () => {
  const { sql } = clocked;
  const couponIds: string[] = [];
  for (let n = 0; n < 3; n++) {
    // The first one has a usage cap that is reached on the way, what is issued of the second one expires soon, the last one
    // takes back what is not used in time.
    const facts = { quantity, maxUses: 3, maxPerUser: 2, lockDurationMs: 1_000, usageCap: n === 0 ? usageCap : null };
    const spans = { claimWindowMs: n === 2 ? 1_000 : null, validityAfterIssueMs: n === 1 ? 2_000 : null };
    couponIds.push(await insertCoupon(sql, openCoupon(noon, { ...facts, ...spans })));
  }
  const databases = Array.from({ length: 4 }, () => openDatabase({ url: clocked.stores.databaseUrl, poolSize: 8 }));
  onTestFinished(async () => void (await Promise.all(databases.map((database) => database.close()))));

  /** What has been issued lately, and the usages that were made of it. */
  const helds: Held[] = [];
  const used: { userId: string; usageId: string }[] = [];
  const said = new Map<string, number>();
  const count = (what: string) => said.set(what, (said.get(what) ?? 0) + 1);
  let nowMs = noon.getTime();
  const locked: { userId: string; userCouponId: string; lockVersion: number }[] = [];

  const work = async (worker: number) => {
    const database = databases[worker % databases.length] as (typeof databases)[0];
    const issues = new PostgresIssueStore(database);
    const usages = new PostgresUsageStore(database);
    const userCoupons = new PostgresUserCouponStore(database);
    const random = generator(worker + 1);
    const pick = <T>(list: readonly T[]): T | undefined => list[random(Math.max(1, list.length))];
    /** The newest few, in any order: the busier a row, the more likely a deadlock. */
    const some = (): Held[] => {
      const recent = helds.slice(-8);
      const chosen = new Map<string, Held>();
      for (let n = 0; n < 3; n++) {
        const one = pick(recent);
        if (one) chosen.set(one.userCouponId, one);
      }
      return [...chosen.values()];
    };

    for (let round = 0; round < rounds; round++) {
      switch (random(10)) {
        case 0:
        case 1: {
          const requests = couponIds.map((couponId) => ({
            couponId,
            userId: `user-${random(200)}`,
            userCouponId: randomUUID(),
            requestId: "",
          }));
          if (random(2)) requests.reverse();
          for (const result of await untilFree(() => issues.issueBatch(requests))) {
            count(`issue ${result.outcome}`);
            if (result.outcome === "ISSUED") {
              const { id: userCouponId, couponId, userId } = result.userCoupon;
              helds.push({ userCouponId, couponId, userId });
            }
          }
          break;
        }
        case 2:
        case 3:
        case 4: {
          const chosen = some();
          const together = random(2) === 0;
          const again = random(4) === 0;
          const requestId = together ? randomUUID() : "";
          const requests = together
            ? orderOf(chosen, { requestId })
            : [...chosen, ...chosen].map((held) => useRequestOf(held));
          const results = await untilFree(() => usages.useBatch(requests, { again, together }));
          results.forEach((result) => {
            count(`use ${result.outcome}`);
            if (result.outcome === "USED") used.push({ userId: result.usage.userId, usageId: result.usage.id });
          });
          break;
        }
        case 5: {
          const requests = some().map((held) => lockRequestOf(held));
          const together = random(2) === 0;
          const results = await untilFree(() => usages.lockBatch(requests, { together }));
          results.forEach((result, index) => {
            count(`lock ${result.outcome}`);
            if (result.outcome === "GRANTED") locked.push({ ...requests[index]!, lockVersion: result.lock.version });
          });
          break;
        }
        case 6: {
          const one = pick(locked.slice(-8));
          if (one) await untilFree(() => usages.unlock(one.userId, [one], farMs));
          break;
        }
        case 7: {
          const one = pick(used.slice(-12));
          const cancelled = one && (await untilFree(() => cancelOne(usages, { ...one, request: null })));
          if (cancelled) count(`cancel ${cancelled instanceof Refusal ? cancelled.reason : "CANCELLED"}`);
          break;
        }
        case 8: {
          const one = pick(helds.slice(-8));
          if (!one) break;
          const { userId, userCouponId } = one;
          const deletion = { userId, userCouponId, restock: random(4) > 0, deleteUsed: random(2) === 0, request: null };
          const deleted = await untilFree(() => userCoupons.delete(deletion, async () => {}, farMs));
          count(`delete ${deleted instanceof Refusal ? deleted.reason : `restocked ${deleted.restocked}`}`);
          break;
        }
        case 9:
          if (random(3) === 0) {
            nowMs += 300;
            await clocked.setClock(new Date(nowMs));
          }
          for (const _ of await userCoupons.release(3)) count("released");
          if ((await userCoupons.expire(3)) > 0) count("expired");
          // What was given away without going back: somebody restocks the shelf.
          await sql`UPDATE coupons SET quantity = issued_count + ${quantity} WHERE id = ${pick(couponIds) as string}`;
          break;
      }
    }
  };
  await Promise.all(Array.from({ length: workerCount }, (_, worker) => work(worker)));

  await expectCounted(sql);
  const [first] = await Promise.all(couponIds.map((couponId) => readCoupon(sql, couponId)));
  expect(first?.exhaustedAt).not.toBeNull();
  expect(first?.placeCount).toBeLessThanOrEqual(usageCap);
  const [slots] = await sql`
    SELECT count(*)::int AS wrong FROM user_coupons
    WHERE (slot IS NULL) <> (deleted_at IS NOT NULL OR released_at IS NOT NULL) AND valid_until IS NULL`;
  expect(slots?.wrong).toBe(0);
  // Everything has happened, and more than once.
  const often = [
    "issue ISSUED",
    "use USED",
    "use REFUSED",
    "lock GRANTED",
    "cancel CANCELLED",
    "delete restocked true",
  ];
  for (const what of [...often, "delete restocked false", "delete ALREADY_USED", "released", "expired"]) {
    expect(said.get(what) ?? 0, what).toBeGreaterThan(1);
  }
});
