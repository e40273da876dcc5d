import { randomUUID } from "node:crypto";
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { GateKeeper } from "../../src/issuing/gate-keeper.js";
import { MemoryGate } from "../../src/reservation/memory/memory-gate.js";
import { defaultReservationMs, type Gate, type GateRequest, type Settlement } from "../../src/reservation/port.js";
import { RedisGate } from "../../src/reservation/redis/redis-gate.js";
import type { GivenBack } from "../../src/storage/ports/user-coupons.js";
import { PostgresIssueStore } from "../../src/storage/postgres/issuing/issue-store.js";
import { PostgresUserCouponStore } from "../../src/storage/postgres/user-coupons/user-coupon-store.js";
import { unreported } from "../support/unreported.js";
import { until } from "../support/until.js";
import { type ClockedDatabase, insertCoupon, openClockedDatabase, openCoupon } from "./clocked-database.js";

const farMs = Date.now() + 3_600_000;
const noUsages = { findUsed: async () => new Set<string>() };

let clocked: ClockedDatabase;
let issues: PostgresIssueStore;
let userCoupons: PostgresUserCouponStore;
let keeper: GateKeeper;
let gate: Gate;
let keyPrefix: string;
let offsetMs: number;
let now: Date;

async function openRedis(): Promise<Gate> {
  const url = clocked.stores.redisUrl;
  const opened = new RedisGate({ url, keyPrefix, failures: unreported, clockOffsetMs: () => offsetMs });
  await until("redis answers", () => opened.ready());
  return opened;
}

const implementations = [
  { name: "RedisGate", open: openRedis },
  { name: "MemoryGate", open: async () => new MemoryGate({ now: () => Date.now() + offsetMs }) },
];

const requestOf = (couponId: string, userId: string): GateRequest => {
  return { couponId, userId, requestId: "", userCouponId: randomUUID() };
};
const outcomeOf = async (couponId: string, userId: string) => (await gate.admit(requestOf(couponId, userId))).outcome;

async function loadedOf(couponId: string) {
  return (await gate.survey(1_000, 1_000)).find((one) => one.couponId === couponId)?.loaded;
}

async function loaded(couponId: string): Promise<void> {
  await until("the coupon is loaded", async () => {
    if (await loadedOf(couponId)) return true;
    keeper.load(couponId);
    return false;
  });
}

const totalOf = async (couponId: string) => (await issues.readCounts([couponId])).get(couponId)?.givenBackTotal;

/** Past the gate, which is told. */
async function issue(couponId: string, userIds: readonly string[]): Promise<GateRequest[]> {
  const requests = userIds.map((userId) => requestOf(couponId, userId));
  await issues.issueBatch(requests);
  await gate.settle(requests.map((one): Settlement => ({ ...one, outcome: "CONFIRM", validUntil: null })));
  return requests;
}

async function remove(one: GateRequest, tell: (given: GivenBack) => Promise<void>, restock = false): Promise<void> {
  const { userId, userCouponId } = one;
  await userCoupons.delete({ userId, userCouponId, restock, deleteUsed: false, request: null }, tell, farMs);
}

const makeDue = (some: readonly GateRequest[]) => clocked.sql`
  UPDATE user_coupons SET claim_until = ${now} WHERE id = ANY (${some.map((one) => one.userCouponId)}::uuid[])`;

async function release(some: readonly GateRequest[]): Promise<GivenBack[]> {
  await makeDue(some);
  const released = await userCoupons.release(some.length);
  expect(released).toHaveLength(some.length);
  return released;
}

describe.each(implementations)("with $name", ({ name, open }) => {
  beforeAll(async () => {
    clocked = await openClockedDatabase(new Date());
    await clocked.database.reads.run(Number.POSITIVE_INFINITY, ({ sql }) => sql`SELECT 1`);
  });
  afterAll(() => clocked?.close());
  beforeEach(async () => {
    now = new Date();
    offsetMs = 0;
    await clocked.setClock(now);
    keyPrefix = `${clocked.stores.keyPrefix}-${randomUUID()}`;
    issues = new PostgresIssueStore(clocked.database);
    userCoupons = new PostgresUserCouponStore(clocked.database);
    gate = await open();
    keeper = new GateKeeper(gate, issues, noUsages, { info: () => {} }, unreported);
  });
  afterEach(async () => {
    await keeper.close();
    await gate.close();
  });

  test.each([
    {
      what: "a deletion of a coupon without limit",
      quantity: null,
      giveBack: (one: GateRequest) => remove(one, async () => {}),
    },
    {
      what: "a deletion that puts nothing back",
      quantity: 10,
      giveBack: (one: GateRequest) => remove(one, async () => {}),
    },
    { what: "a release of a coupon without limit", quantity: null, giveBack: (one: GateRequest) => release([one]) },
  ])("$what that the gate never heard of is found by two sweeps", async ({ quantity, giveBack }) => {
    const couponId = await insertCoupon(clocked.sql, openCoupon(now, { quantity }));
    await loaded(couponId);
    const [one] = await issue(couponId, ["u"]);
    await giveBack(one as GateRequest);
    await keeper.sweep();
    // Its word may be on its way.
    expect(await outcomeOf(couponId, "u")).toBe("ALREADY_ISSUED");
    await until("the pause after the first load is over and the coupon is loaded anew", async () => {
      await keeper.sweep();
      if (!(await loadedOf(couponId))) keeper.load(couponId);
      return (await loadedOf(couponId))?.givenBackTo === 1;
    });
    expect(await outcomeOf(couponId, "u")).toBe("RESERVED");
  });

  test.each([null, 10])(
    "a sweep that finds a row before its user gives it back, and says so after that, keeps nobody out (quantity %s)",
    async (quantity) => {
      const couponId = await insertCoupon(clocked.sql, openCoupon(now, { quantity }));
      await loaded(couponId);
      // Let through by a process that died after the commit.
      const one = requestOf(couponId, "u");
      expect((await gate.admit(one)).outcome).toBe("RESERVED");
      await issues.issueBatch([one]);
      offsetMs = defaultReservationMs + 1_000;
      const { findIssued } = issues;
      vi.spyOn(issues, "findIssued").mockImplementationOnce(async (ids) => {
        const found = await findIssued.call(issues, ids);
        await remove(one, (given) => keeper.giveBack([given]), true);
        return found;
      });
      await keeper.sweep();
      expect((await loadedOf(couponId))?.stock).toBe(quantity);
      expect(await outcomeOf(couponId, "u")).toBe("RESERVED");
    },
  );

  test("a copy stays while all is told, late, out of order and more than once", async () => {
    const couponId = await insertCoupon(clocked.sql, openCoupon(now, { quantity: null, maxPerUser: 2 }));
    await loaded(couponId);
    const dropped = vi.spyOn(gate, "invalidate");
    let given = 0;
    for (let wave = 0; wave < 8; wave++) {
      const held = await issue(
        couponId,
        Array.from({ length: 24 }, (_, n) => `user-${wave}-${n}`),
      );
      // Let through by a process that died after the commit: the sweep finds that the user has given it back since.
      const overdue = requestOf(couponId, `user-${wave}`);
      expect((await gate.admit(overdue)).outcome).toBe("RESERVED");
      await issues.issueBatch([overdue]);
      offsetMs += defaultReservationMs + 1_000;
      const words: GivenBack[] = [];
      const told = async (one: GivenBack) => {
        words.push(one);
        await keeper.giveBack([one]);
      };
      await Promise.all([
        ...held.slice(0, 8).map((one, n) => remove(one, told, n % 2 === 0)),
        ...[held.slice(8, 14), held.slice(14, 20)].map(async (some) => {
          await makeDue(some);
          const released = await userCoupons.release(some.length);
          words.push(...released);
          // The latest first, and one by one.
          await Promise.all(released.reverse().map((one) => keeper.giveBack([one])));
        }),
        remove(overdue, told),
        keeper.sweep(),
      ]);
      const rest = await userCoupons.release(100);
      await keeper.giveBack(rest);
      words.push(...rest);
      given += words.length;
      // Once more, and as the sweep of another replica does that finds it overdue: without a number.
      await keeper.giveBack(words.reverse());
      await keeper.giveBack(words.map((one) => ({ ...one, restocked: false, givenBackNo: null })));
      // What a word on its way made it differ by is gone.
      await keeper.sweep();
      expect((await loadedOf(couponId))?.givenBackTo).toBe(given);
    }
    expect(given).toBe(8 * 21);
    expect(await totalOf(couponId)).toBe(given);
    expect(dropped).not.toHaveBeenCalled();
  });

  test("loads while much is given back end with copies that have missed nothing", async () => {
    const couponId = await insertCoupon(clocked.sql, openCoupon(now, { quantity: null }));
    const held = await issue(
      couponId,
      Array.from({ length: 400 }, (_, n) => `user-${n}`),
    );
    let done = false;
    const disturb = async () => {
      while (!done) {
        const loading = await gate.beginLoad(couponId);
        const facts = loading && (await issues.readGate(couponId, (holdings) => loading.addHoldings(holdings)));
        if (loading && facts) await loading.install(facts);
      }
    };
    const worker = async (some: readonly GateRequest[]) => {
      for (const [n, one] of some.entries()) {
        // On a busy machine it may have waited too long for its turn, and nothing was done.
        if (n % 3 > 0)
          await until("it is deleted", () => remove(one, (given) => keeper.giveBack([given])).then(() => true));
        else {
          await makeDue([one]);
          await keeper.giveBack(await userCoupons.release(1));
        }
      }
    };
    const disturbing = disturb();
    await Promise.all([0, 1, 2, 3].map((n) => worker(held.slice(n * 100, n * 100 + 100))));
    await keeper.giveBack(await userCoupons.release(100));
    done = true;
    await disturbing;
    expect(await totalOf(couponId)).toBe(400);
    expect((await loadedOf(couponId))?.givenBackTo).toBe(400);
  });

  test("a copy of another edit that has got the same revision is dropped at once", async () => {
    const couponId = await insertCoupon(clocked.sql, openCoupon(now));
    await loaded(couponId);
    const dropped = vi.spyOn(gate, "invalidate");
    for (let n = 0; n < 3; n++) await keeper.sweep();
    expect(dropped).not.toHaveBeenCalled();
    // As a standby has it that was promoted without an edit, after the next one.
    await clocked.sql`UPDATE coupons SET updated_at = ${new Date(now.getTime() + 1)}, paused_at = ${now} WHERE id = ${couponId}`;
    expect(await outcomeOf(couponId, "u")).toBe("RESERVED");
    await until("the other edit is known", async () => {
      await keeper.sweep();
      if (!(await loadedOf(couponId))) keeper.load(couponId);
      return (await outcomeOf(couponId, "v")) === "COUPON_PAUSED";
    });
  });

  if (name === "RedisGate") {
    test("what a copy of version 0.2 does not know is not compared", async () => {
      const couponId = await insertCoupon(clocked.sql, openCoupon(now, { quantity: null }));
      await loaded(couponId);
      const redis = new Redis(clocked.stores.redisUrl);
      const key = `${keyPrefix}:{${couponId}}:coupon`;
      expect(await redis.hdel(key, "updatedAtMs", "heard")).toBe(2);
      const dropped = vi.spyOn(gate, "invalidate");
      const [one, two] = await issue(couponId, ["u", "v"]);
      await remove(one as GateRequest, (given) => keeper.giveBack([given]));
      await remove(two as GateRequest, async () => {});
      for (let n = 0; n < 4; n++) await keeper.sweep();
      expect(await loadedOf(couponId)).toEqual({ revision: 1, updatedAt: null, stock: null, givenBackTo: null });
      expect([await outcomeOf(couponId, "u"), await outcomeOf(couponId, "v")]).toEqual(["RESERVED", "ALREADY_ISSUED"]);
      expect(dropped).not.toHaveBeenCalled();
      redis.disconnect();
    });
  }
});
