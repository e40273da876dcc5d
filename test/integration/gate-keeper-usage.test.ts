import { randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { StoreUnavailable } from "../../src/domain/refusal.js";
import { GateKeeper } from "../../src/issuing/gate-keeper.js";
import { Releaser } from "../../src/jobs/releaser.js";
import { FailureLog } from "../../src/platform/failure-log.js";
import { MemoryGate } from "../../src/reservation/memory/memory-gate.js";
import { defaultReservationMs, type Gate, type GateRequest, type PlaceRequest } from "../../src/reservation/port.js";
import { RedisGate } from "../../src/reservation/redis/redis-gate.js";
import type { GivenBack, UserCouponStore } from "../../src/storage/ports/user-coupons.js";
import { PostgresIssueStore } from "../../src/storage/postgres/issuing/issue-store.js";
import { PostgresUserCouponStore } from "../../src/storage/postgres/user-coupons/user-coupon-store.js";
import { PostgresUsageStore } from "../../src/storage/postgres/using/usage-store.js";
import { settleUses } from "../../src/using/checkout.js";
import { until } from "../support/until.js";
import { type ClockedDatabase, insertCoupon, openClockedDatabase, openCoupon } from "./clocked-database.js";
import { cancelOne, type Held, hold, readCoupon, useRequestOf } from "./usage-world.js";

let clocked: ClockedDatabase;
/** The database is for all tests of a gate; what the gate knows is for one. */
let keyPrefix: string;
let issues: PostgresIssueStore;
let usages: PostgresUsageStore;
let userCoupons: PostgresUserCouponStore;
let keeper: GateKeeper;
let gate: Gate;
let isAway: boolean;
let offsetMs: number;
let now: Date;
let reported: object[];

const log = { info: () => {}, warn: () => {}, error: (details: object) => void reported.push(details) };
let failures: FailureLog;
const agedMs = defaultReservationMs + 1_000;

async function openDatabase(): Promise<void> {
  clocked = await openClockedDatabase(new Date());
  // See issue-store.test.ts for what may be the first query.
  await clocked.database.reads.run(Number.POSITIVE_INFINITY, ({ sql }) => sql`SELECT 1`);
}

beforeEach(async () => {
  now = new Date();
  await clocked.setClock(now);
  keyPrefix = `${clocked.stores.keyPrefix}-${randomUUID()}`;
  issues = new PostgresIssueStore(clocked.database);
  usages = new PostgresUsageStore(clocked.database);
  userCoupons = new PostgresUserCouponStore(clocked.database);
  offsetMs = 0;
  isAway = false;
  reported = [];
  failures = new FailureLog({ log });
});
afterEach(async () => {
  await keeper.close();
  await gate.close();
  expect(reported).toEqual([]);
});

async function openRedis(): Promise<Gate> {
  const opened = new RedisGate({
    url: clocked.stores.redisUrl,
    keyPrefix,
    failures,
    clockOffsetMs: () => offsetMs,
  });
  await until("redis answers", () => opened.ready());
  return opened;
}

const implementations = [
  { name: "RedisGate", open: openRedis },
  {
    name: "MemoryGate",
    open: async () => new MemoryGate({ now: () => Date.now() + offsetMs }) as Gate,
  },
];

/** The same, away while the test says so. */
function absentable(inner: Gate): Gate {
  return new Proxy(inner, {
    get: (target, name: keyof Gate) => {
      const method = target[name] as (...args: unknown[]) => unknown;
      return (...args: unknown[]) => {
        if (isAway && name !== "close") return Promise.reject(new StoreUnavailable("away"));
        return method.apply(target, args);
      };
    },
  });
}

const placeOf = (couponId: string, revision = 1): PlaceRequest => ({ couponId, revision, usageId: randomUUID() });
const requestOf = (couponId: string, userId: string): GateRequest => ({
  couponId,
  userId,
  requestId: "",
  userCouponId: randomUUID(),
});
const outcomeOf = async (request: GateRequest) => (await gate.admit(request)).outcome;
const surveyOf = async (couponId: string) => (await gate.survey(1_000, 1_000)).find((one) => one.couponId === couponId);
const remaining = async (couponId: string) => (await surveyOf(couponId))?.places?.remaining;

async function loaded(couponId: string): Promise<void> {
  await until("the coupon is loaded", async () => {
    if ((await surveyOf(couponId))?.loaded) return true;
    keeper.load(couponId);
    return false;
  });
}
async function placesLoaded(couponId: string): Promise<void> {
  await until("its places are loaded", async () => {
    if ((await surveyOf(couponId))?.places) return true;
    keeper.loadPlaces(couponId);
    return false;
  });
}
/** Uses as the checkout does, up to and without what it tells the gate. */
async function used(held: Held, usageId: string): Promise<void> {
  const [result] = await usages.useBatch([useRequestOf(held, { usageId })], { again: false, together: false });
  expect(result?.outcome).toBe("USED");
}
const held = (couponId: string, facts: Parameters<typeof hold>[3] = {}) => hold(clocked.sql, couponId, now, facts);

describe.each(implementations)("with $name", ({ open }) => {
  beforeAll(openDatabase);
  afterAll(() => clocked?.close());
  beforeEach(async () => {
    gate = absentable(await open());
    keeper = new GateKeeper(gate, issues, usages, log, failures);
  });

  describe("places", () => {
    test("are loaded as Postgres has them, without the coupon", async () => {
      const couponId = await insertCoupon(clocked.sql, openCoupon(now, { usageCap: 5 }));
      await used(await held(couponId), randomUUID());
      await placesLoaded(couponId);
      expect(await surveyOf(couponId)).toMatchObject({
        loaded: null,
        places: { revision: 1, remaining: 4 },
        takenCount: 0,
      });
      expect(await gate.takePlace(placeOf(couponId))).toBe("TAKEN");
    });

    test.each([
      ["has no cap", async () => await insertCoupon(clocked.sql, openCoupon(now))],
      ["is unknown", async () => randomUUID()],
    ] as const)("of a coupon that %s are not loaded", async (_, make) => {
      const couponId = await make();
      keeper.loadPlaces(couponId);
      await keeper.close();
      expect(await gate.takePlace(placeOf(couponId))).toBe("NOT_LOADED");
    });

    test("after close are not loaded any more", async () => {
      const couponId = await insertCoupon(clocked.sql, openCoupon(now, { usageCap: 5 }));
      await keeper.close();
      keeper.loadPlaces(couponId);
      await keeper.close();
      expect(await gate.takePlace(placeOf(couponId))).toBe("NOT_LOADED");
    });

    test("that were read before some were freed do not stay loaded after that", async () => {
      const couponId = await insertCoupon(clocked.sql, openCoupon(now, { usageCap: 5 }));
      const one = await held(couponId);
      const usageId = randomUUID();
      await used(one, usageId);
      await cancelOne(usages, { userId: one.userId, usageId, request: null });
      const slow = new PostgresIssueStore(clocked.database);
      const late = new GateKeeper(gate, slow, usages, log, failures);
      let reads = 0;
      slow.readCounts = async (couponIds) => {
        const read = await issues.readCounts(couponIds);
        if (reads++ > 0) return read;
        // The user deletes it while what was read is on its way: the kept place goes back to all.
        const { userId, userCouponId } = one;
        const deletion = { userId, userCouponId, restock: true, deleteUsed: false, request: null };
        await userCoupons.delete(deletion, (back) => keeper.giveBack([back]), Date.now() + 5_000);
        await keeper.invalidate(couponId);
        return read;
      };
      late.loadPlaces(couponId);
      await late.close();
      expect(await remaining(couponId)).toBeUndefined();
      await placesLoaded(couponId);
      expect(await remaining(couponId)).toBe(5);
    });

    test("that are overdue stay taken when the usage is stored, and are free when it is not", async () => {
      const couponId = await insertCoupon(clocked.sql, openCoupon(now, { usageCap: 5 }));
      await placesLoaded(couponId);
      const [stored, lost] = [placeOf(couponId), placeOf(couponId)];
      for (const one of [stored, lost]) expect(await gate.takePlace(one)).toBe("TAKEN");
      // The process died after Postgres had committed the one, and before it had seen the other.
      await used(await held(couponId), stored.usageId);
      await keeper.sweep();
      expect(await surveyOf(couponId)).toMatchObject({ places: { remaining: 3 }, takenCount: 2 });
      offsetMs += agedMs;
      await keeper.sweep();
      expect(await surveyOf(couponId)).toMatchObject({ places: { remaining: 4 }, takenCount: 0, overdueUsageIds: [] });
    });

    test("that are overdue are settled once by two keepers at once", async () => {
      const couponId = await insertCoupon(clocked.sql, openCoupon(now, { usageCap: 100, quantity: null }));
      await placesLoaded(couponId);
      const requests = Array.from({ length: 30 }, () => placeOf(couponId));
      await Promise.all(requests.map((one) => gate.takePlace(one)));
      for (const one of requests.slice(0, 10)) await used(await held(couponId), one.usageId);
      offsetMs += agedMs;
      const other = new GateKeeper(gate, issues, usages, log, failures);
      await Promise.all([keeper.sweep(), other.sweep(), keeper.sweep(), other.sweep()]);
      await other.close();
      expect(await surveyOf(couponId)).toMatchObject({ places: { remaining: 90 }, takenCount: 0 });
    });

    test.each([
      ["too few", async (couponId: string) => await gate.settlePlaces([await confirmed(couponId)])],
      ["too many", async (couponId: string) => await used(await held(couponId), randomUUID())],
    ] as const)("of which %s are known are dropped by the second sweep that sees it", async (_, wrongly) => {
      const couponId = await insertCoupon(clocked.sql, openCoupon(now, { usageCap: 5 }));
      await placesLoaded(couponId);
      await wrongly(couponId);
      const right = 5 - (await readCoupon(clocked.sql, couponId)).placeCount;
      expect(await remaining(couponId)).not.toBe(right);
      await keeper.sweep();
      expect(await remaining(couponId)).not.toBe(right);
      await keeper.sweep();
      expect(await remaining(couponId)).toBeUndefined();
      await placesLoaded(couponId);
      expect(await remaining(couponId)).toBe(right);
    });

    test("that differ are left alone while one of them is taken", async () => {
      const couponId = await insertCoupon(clocked.sql, openCoupon(now, { usageCap: 5 }));
      await placesLoaded(couponId);
      await used(await held(couponId), randomUUID());
      await gate.takePlace(placeOf(couponId));
      for (let n = 0; n < 3; n++) await keeper.sweep();
      expect(await remaining(couponId)).toBe(4);
    });

    test("that agree are left alone", async () => {
      const couponId = await insertCoupon(clocked.sql, openCoupon(now, { usageCap: 5 }));
      await placesLoaded(couponId);
      await loaded(couponId);
      for (let n = 0; n < 3; n++) await keeper.sweep();
      expect(await surveyOf(couponId)).toMatchObject({ loaded: { stock: 10 }, places: { remaining: 5 } });
    });

    test.each([8, null])("of another revision are dropped at once, whatever the cap is then: %s", async (usageCap) => {
      const couponId = await insertCoupon(clocked.sql, openCoupon(now, { usageCap: 5 }));
      await placesLoaded(couponId);
      await gate.takePlace(placeOf(couponId));
      await clocked.sql`UPDATE coupons SET revision = 2, usage_cap = ${usageCap} WHERE id = ${couponId}`;
      await keeper.sweep();
      expect((await surveyOf(couponId))?.places).toBeNull();
    });
  });

  describe("what users have given back", () => {
    const given = (one: GateRequest, restocked: boolean): GivenBack => ({
      ...one,
      ...{ restocked, freed: false, givenBackNo: null },
    });
    const issued = async (couponId: string, userId: string): Promise<GateRequest> => {
      const one = requestOf(couponId, userId);
      await issues.issueBatch([one]);
      return one;
    };

    test("is told to the gate, coupon by coupon", async () => {
      const ids = [
        await insertCoupon(clocked.sql, openCoupon(now)),
        await insertCoupon(clocked.sql, openCoupon(now)),
      ] as const;
      const [a, b] = [await issued(ids[0], "u"), await issued(ids[1], "u")];
      for (const id of ids) await loaded(id);
      await keeper.giveBack([given(a, true), given(b, false)]);
      expect((await surveyOf(ids[0]))?.loaded?.stock).toBe(10);
      expect((await surveyOf(ids[1]))?.loaded?.stock).toBe(9);
      for (const id of ids) expect(await outcomeOf(requestOf(id, "u"))).toBe("RESERVED");
    });

    test("while the gate is away makes its copy stale: it is dropped by the first sweep after that", async () => {
      const couponId = await insertCoupon(clocked.sql, openCoupon(now));
      const one = await issued(couponId, "u");
      await loaded(couponId);
      isAway = true;
      await keeper.giveBack([given(one, false)]);
      expect(reported.splice(0)).toEqual([{ work: "tell", err: expect.any(StoreUnavailable) }]);
      await expect(keeper.sweep()).rejects.toBeInstanceOf(StoreUnavailable);
      isAway = false;
      expect(await outcomeOf(requestOf(couponId, "u"))).toBe("ALREADY_ISSUED");
      await keeper.sweep();
      expect(await outcomeOf(requestOf(couponId, "u"))).toBe("NOT_LOADED");
      // Once is enough.
      await until("it is loaded again", async () => {
        keeper.load(couponId);
        return (await surveyOf(couponId))?.loaded;
      });
      await keeper.sweep();
      expect((await surveyOf(couponId))?.loaded).not.toBeNull();
    });

    test("while it is away does not come back with a reservation that was pending then", async () => {
      const couponId = await insertCoupon(clocked.sql, openCoupon(now));
      await loaded(couponId);
      const one = requestOf(couponId, "u");
      expect(await outcomeOf(one)).toBe("RESERVED");
      await issues.issueBatch([one]);
      // The confirmation is lost, and so is the word that the user has deleted it.
      isAway = true;
      const deletion = {
        userId: "u",
        userCouponId: one.userCouponId,
        restock: false,
        deleteUsed: false,
        request: null,
      };
      await userCoupons.delete(deletion, (back) => keeper.giveBack([back]), Date.now() + 5_000);
      expect(reported.splice(0)).toEqual([{ work: "tell", err: expect.any(StoreUnavailable) }]);
      isAway = false;
      await keeper.sweep();
      await loaded(couponId);
      offsetMs += agedMs;
      await keeper.sweep();
      await loaded(couponId);
      expect(await outcomeOf(requestOf(couponId, "u"))).toBe("RESERVED");
    });

    test("and forgetting a copy while it is away is made up for, too", async () => {
      const couponId = await insertCoupon(clocked.sql, openCoupon(now, { usageCap: 3 }));
      await placesLoaded(couponId);
      isAway = true;
      await keeper.invalidate(couponId);
      expect(reported.splice(0)).toEqual([{ work: "tell", err: expect.any(StoreUnavailable) }]);
      isAway = false;
      expect(await remaining(couponId)).toBe(3);
      await keeper.sweep();
      expect(await remaining(couponId)).toBeUndefined();
    });
  });

  describe("the releaser", () => {
    test("puts back what was not used in time, and the gate sells it again", async () => {
      const couponId = await insertCoupon(clocked.sql, openCoupon(now, { quantity: 1, claimWindowMs: 60_000 }));
      const one = requestOf(couponId, "u");
      await issues.issueBatch([one]);
      await loaded(couponId);
      const releaser = new Releaser(userCoupons, keeper, log);
      await releaser.run();
      expect(await outcomeOf(requestOf(couponId, "v"))).toBe("SOLD_OUT");
      await clocked.setClock(new Date(now.getTime() + 60_000));
      await releaser.run();
      await releaser.run();
      const next = requestOf(couponId, "v");
      expect(await outcomeOf(next)).toBe("RESERVED");
      expect(await outcomeOf(requestOf(couponId, "w"))).toBe("UNDECIDED");
      expect((await issues.issueBatch([next]))[0]?.outcome).toBe("ISSUED");
    });

    test("goes on while a batch is full, and stops at one that is not", async () => {
      const sizes = [500, 500, 3, 500];
      const limits: number[] = [];
      const store = {
        release: async (limit: number): Promise<GivenBack[]> => {
          limits.push(limit);
          const size = sizes[limits.length - 1] ?? 0;
          return Array.from({ length: size }, () => ({
            ...requestOf(randomUUID(), "u"),
            ...{ restocked: true, freed: false, givenBackNo: null },
          }));
        },
      } as unknown as UserCouponStore;
      const told: number[] = [];
      const tracked = {
        giveBack: async (all: readonly GivenBack[]) => void told.push(all.length),
      } as unknown as GateKeeper;
      await new Releaser(store, tracked, log).run();
      expect(limits).toEqual([500, 500, 500]);
      expect(told).toEqual([500, 500, 3]);
    });

    test("ends a round after so many batches, however much is left", async () => {
      let calls = 0;
      const store = {
        release: async (limit: number) => {
          calls += 1;
          return Array.from({ length: limit }, () => ({
            ...requestOf(randomUUID(), "u"),
            ...{ restocked: true, freed: false, givenBackNo: null },
          }));
        },
      } as unknown as UserCouponStore;
      await new Releaser(store, { giveBack: async () => {} } as unknown as GateKeeper, log).run();
      expect(calls).toBe(20);
    });
  });

  test("a place that was taken for a use which found a kept one is given back", async () => {
    const usageCap = 5;
    const couponId = await insertCoupon(clocked.sql, openCoupon(now, { usageCap, maxUses: 2 }));
    const held = await hold(clocked.sql, couponId, now, { maxUses: 2 });
    const first = useRequestOf(held);
    await usages.useBatch([first], { again: false, together: false });
    await gate.loadPlaces(couponId, { revision: 1, remaining: usageCap - 1 });
    // Judged while the first use stood, so a place was taken; then that was cancelled, and its place kept.
    const second = useRequestOf(held, { placeTaken: true });
    expect(await gate.takePlace(second)).toBe("TAKEN");
    await cancelOne(usages, { userId: held.userId, usageId: first.usageId, request: null });
    const results = await usages.useBatch([second], { again: false, together: false });
    expect(results).toMatchObject([{ outcome: "USED", placed: false }]);
    await settleUses(gate, keeper, [second], results);
    expect((await gate.survey(10, 10))[0]?.places?.remaining).toBe(usageCap - 1);
  });

  /** A place that is held for good by a usage which Postgres has never heard of. */
  async function confirmed(couponId: string) {
    const one = placeOf(couponId);
    await gate.takePlace(one);
    return { ...one, outcome: "CONFIRM" as const };
  }
});
