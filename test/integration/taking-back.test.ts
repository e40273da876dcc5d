import { randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { GroupCommit } from "../../src/batching/group-commit.js";
import { Refusal } from "../../src/domain/refusal.js";
import type { RequestKey } from "../../src/storage/ports/page.js";
import type { CancelRequest, CancelResult, Lock } from "../../src/storage/ports/usages.js";
import type { GivenBack } from "../../src/storage/ports/user-coupons.js";
import { PostgresIssueStore } from "../../src/storage/postgres/issuing/issue-store.js";
import { PostgresUserCouponStore } from "../../src/storage/postgres/user-coupons/user-coupon-store.js";
import { PostgresUsageStore } from "../../src/storage/postgres/using/usage-store.js";
import { keysOfCancel } from "../../src/using/cancels.js";
import { until } from "../support/until.js";
import {
  type ClockedDatabase,
  type CouponFacts,
  insertCoupon,
  openClockedDatabase,
  openCoupon,
} from "./clocked-database.js";
import {
  cancelOne,
  countEvents,
  expectCounted,
  type Held,
  hold,
  lockRequestOf,
  readCoupon,
  readUserCoupon,
  useRequestOf,
  versionOf,
} from "./usage-world.js";
import { untilWaiting } from "./waiting.js";

const noon = new Date("2030-06-01T12:00:00.000Z");
const later = (ms: number) => new Date(noon.getTime() + ms);
const farMs = Date.now() + 3_600_000;

let clocked: ClockedDatabase;
let usages: PostgresUsageStore;
let userCoupons: PostgresUserCouponStore;

beforeAll(async () => {
  clocked = await openClockedDatabase(noon);
  usages = new PostgresUsageStore(clocked.database);
  userCoupons = new PostgresUserCouponStore(clocked.database);
});
beforeEach(() => clocked.setClock(noon));
afterEach(async () => {
  await expectCounted(clocked.sql);
  // Nothing is left that would be due in the next one.
  await clocked.setClock(later(86_400_000));
  await userCoupons.release(1_000);
});
afterAll(() => clocked?.close());

const newCoupon = (changed: Partial<CouponFacts> = {}) => insertCoupon(clocked.sql, openCoupon(noon, changed));
const newHeld = (couponId: string, facts: Parameters<typeof hold>[3] = {}) => hold(clocked.sql, couponId, noon, facts);
const requestOf = (method: string, requestId: string, input = 1): RequestKey => ({
  method,
  requestId,
  inputHash: new Uint8Array(32).fill(input),
});
const outcome = (result: unknown) => (result instanceof Refusal ? result.reason : result);
const used = async (held: Held): Promise<string> => {
  const request = useRequestOf(held);
  const [said] = await usages.useBatch([request], { again: false, together: false });
  expect(said?.outcome).toBe("USED");
  return request.usageId;
};

describe("locks", () => {
  const lock = async (held: Held, changed: Parameters<typeof lockRequestOf>[1] = {}) => {
    const [said] = await usages.lockBatch([lockRequestOf(held, changed)], { together: false });
    return said?.outcome === "GRANTED" ? said.lock : said?.outcome === "REFUSED" ? said.reason : said?.outcome;
  };
  const granted = async (...asked: Parameters<typeof lock>): Promise<Lock> => {
    const said = await lock(...asked);
    if (typeof said !== "object") throw new Error(`not granted: ${said}`);
    return said;
  };
  const heldOfNew = async (changed: Partial<CouponFacts> = {}, facts: Parameters<typeof hold>[3] = {}) =>
    newHeld(await newCoupon({ lockDurationMs: 10_000, ...changed }), facts);

  test("fall away by themselves, and the next one has a version of its own", async () => {
    const held = await heldOfNew();
    const { userCouponId } = held;
    const first = await granted(held);
    expect(first).toMatchObject({ userCouponId, until: later(10_000) });
    expect(await lock(held)).toBe("LOCKED");
    await clocked.setClock(later(10_000));
    expect(await lock(held, { lockVersion: first.version })).toBe("LOCK_LOST");
    const second = await granted(held);
    expect(second.until).toEqual(later(20_000));
    expect(second.version).toBeGreaterThan(first.version);
    const unlock = (lockVersion: number) => usages.unlock(held.userId, [{ userCouponId, lockVersion }], farMs);
    expect(await unlock(first.version)).toEqual([]);
    expect(await lock(held)).toBe("LOCKED");
    expect(await unlock(second.version)).toEqual([userCouponId]);
    expect((await granted(held)).version).toBeGreaterThan(second.version);
  });

  test("of one coupon have different versions, in one call and in several, and whatever an earlier release gives", async () => {
    const couponId = await newCoupon();
    const helds = await Promise.all([0, 1, 2, 3].map(() => newHeld(couponId)));
    const [one, other, ...alone] = helds as [Held, Held, Held, Held];
    const both = [lockRequestOf(one), lockRequestOf(other)];
    const versions = (await usages.lockBatch(both, { together: true })).map(versionOf);
    // At the same moment, for the clock stands still.
    for (const held of alone) versions.push((await granted(held)).version);
    expect(new Set(versions).size).toBe(4);
    expect(Math.max(...versions)).toBeLessThan(2 ** 52);
    // It adds 1, and locks that were given since then are not that one.
    for (const version of versions) expect(versions).not.toContain(version + 1);
    await clocked.sql`UPDATE user_coupons SET lock_version = ${2 ** 52}, locked_until = NULL WHERE id = ${one.userCouponId}`;
    expect(await granted(one)).toMatchObject({ version: 2 ** 52 + 1 });
  });

  test("are renewed by their version, and for a call that is repeated, and keep it", async () => {
    const held = await heldOfNew();
    const { version } = await granted(held, { token: "call" });
    await clocked.setClock(later(4_000));
    expect(await lock(held, { lockVersion: version })).toMatchObject({ version, until: later(14_000) });
    // A renewal leaves the lock to the call that was granted it.
    expect(await lock(held, { token: "again", lockVersion: version })).toMatchObject({ version });
    expect(await lock(held, { token: "again" })).toBe("LOCKED");
    await clocked.setClock(later(5_000));
    expect(await lock(held, { token: "call" })).toMatchObject({ version, until: later(15_000) });
    // After its end the same call gets another one.
    await clocked.setClock(later(15_000));
    expect((await granted(held, { token: "call" })).version).toBeGreaterThan(version);
  });

  test("are not given up with a later one, which somebody gets at the same moment", async () => {
    const held = await heldOfNew();
    const { userCouponId, userId, couponId } = held;
    const { version } = await granted(held);
    let said: Promise<unknown> = Promise.resolve();
    await clocked.sql.begin(async (tx) => {
      await tx`SELECT FROM coupons WHERE id = ${couponId} FOR NO KEY UPDATE`;
      await tx`UPDATE user_coupons SET lock_version = ${version + 1} WHERE id = ${userCouponId}`;
      said = usages.unlock(userId, [{ userCouponId, lockVersion: version }], farMs);
      said.catch(() => {});
      await untilWaiting(clocked.sql, 1);
    });
    expect(await said).toEqual([]);
    expect(await lock(held)).toBe("LOCKED");
  });

  test.each([
    ["its own validity", {}, { validUntil: later(3_000) }],
    ["its coupon's end", { expiresAt: later(3_000) }, {}],
    ["its claim window", {}, { claimUntil: later(3_000) }],
  ] as const)("do not outlast %s", async (_, coupon, facts) => {
    expect(await lock(await heldOfNew(coupon, facts))).toMatchObject({ until: later(3_000) });
  });

  test("of an order are granted all or none", async () => {
    const helds = [await heldOfNew(), await heldOfNew(), await heldOfNew()];
    const earlier = await granted(helds[1] as Held);
    const token = randomUUID();
    const requests = helds.map((held) => lockRequestOf(held, { token }));
    expect(await usages.lockBatch(requests, { together: true })).toEqual([
      { outcome: "CONSENT" },
      { outcome: "REFUSED", reason: "LOCKED" },
      { outcome: "CONSENT" },
    ]);
    expect(await readUserCoupon(clocked.sql, helds[0] as Held)).toMatchObject({ lockedUntil: null, lockVersion: 0 });
    await clocked.setClock(later(10_000));
    const results = await usages.lockBatch(requests, { together: true });
    const versions = results.map(versionOf);
    expect(new Set(versions).size).toBe(3);
    expect(versions[1]).toBeGreaterThan(earlier.version);
    expect(await usages.lockBatch(requests, { together: true })).toEqual(results);
  });

  test("of a call that comes twice in one batch are the same lock", async () => {
    const held = await heldOfNew();
    const request = lockRequestOf(held, { token: "call" });
    const other = lockRequestOf(held, { token: "other" });
    const [first, second, third] = await usages.lockBatch([request, request, other], { together: false });
    expect(first).toMatchObject({ outcome: "GRANTED", lock: { version: expect.any(Number) } });
    expect(second).toEqual(first);
    expect(third).toEqual({ outcome: "REFUSED", reason: "LOCKED" });
    expect(await countEvents(clocked.sql, held.couponId)).toEqual({ USER_COUPON_LOCKED: 1 });
  });

  test("are given up all or none: one that is not the user's is a mistake", async () => {
    const helds = [await heldOfNew({}, { userId: "u" }), await heldOfNew({}, { userId: "u" })];
    const other = await heldOfNew();
    const choices: { userCouponId: string; lockVersion: number }[] = [];
    for (const held of [...helds, other]) {
      const { userCouponId, version } = await granted(held);
      choices.push({ userCouponId, lockVersion: version });
    }
    expect(await usages.unlock("u", choices, farMs)).toBeNull();
    expect(await readUserCoupon(clocked.sql, helds[0] as Held)).toMatchObject({ lockedUntil: later(10_000) });
    const own = choices.slice(0, 2);
    expect((await usages.unlock("u", own, farMs))?.sort()).toEqual(own.map((one) => one.userCouponId).sort());
    expect(await usages.unlock("u", own, farMs)).toEqual([]);
    const gone = await heldOfNew({}, { userId: "u" });
    const deletion = { userId: "u", userCouponId: gone.userCouponId, restock: false, deleteUsed: false, request: null };
    await userCoupons.delete(deletion, async () => {}, farMs);
    expect(await usages.unlock("u", [{ ...gone, lockVersion: 1 }], farMs)).toBeNull();
    expect(await countEvents(clocked.sql, (helds[0] as Held).couponId)).toEqual({
      USER_COUPON_LOCKED: 1,
      USER_COUPON_UNLOCKED: 1,
    });
  });

  test("of one user coupon are granted to one of many calls at once", async () => {
    const held = await heldOfNew();
    let running: Promise<unknown>[] = [];
    await clocked.sql.begin(async (tx) => {
      await tx`SELECT FROM user_coupons WHERE id = ${held.userCouponId} FOR UPDATE`;
      running = [1, 2, 3].map(() => lock(held));
      await until("all of them wait", async () => {
        const [row] = await clocked.sql`
          SELECT count(*)::int AS n FROM pg_stat_activity
          WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%lock_user_coupons%'`;
        return row?.n === 3;
      });
    });
    const said = await Promise.all(running);
    expect(said.filter((one) => one !== "LOCKED")).toEqual([expect.objectContaining({ version: expect.any(Number) })]);
  });
});

describe("cancelling", () => {
  const cancel = async (held: Held, usageId: string, request: RequestKey | null = null) =>
    outcome(await cancelOne(usages, { userId: held.userId, usageId, request }));

  test("takes every counter back by one, once, though two do it at once", async () => {
    const held = await newHeld(await newCoupon({ usageCap: 5 }));
    const usageId = await used(held);
    const said = await Promise.all([1, 2, 3].map(() => cancel(held, usageId)));
    expect(said.filter((one) => one === "USAGE_ALREADY_CANCELLED").length).toBe(2);
    expect(await readCoupon(clocked.sql, held.couponId)).toMatchObject({ usedCount: 0, placeCount: 1 });
    expect(await countEvents(clocked.sql, held.couponId)).toEqual({ USER_COUPON_USED: 1, USAGE_CANCELLED: 1 });
  });

  test("with a request id gets the same answer again, also when both come at once; with other input it is refused", async () => {
    const held = await newHeld(await newCoupon());
    const usageId = await used(held);
    const request = requestOf("CancelUsage", randomUUID());
    const said = await Promise.all([1, 2].map(() => cancel(held, usageId, request)));
    expect(said[1]).toEqual(said[0]);
    expect(said[0]).toMatchObject({ usage: { id: usageId, cancelledAt: noon }, freed: false });
    await clocked.setClock(later(9_000));
    expect(await cancel(held, usageId, request)).toEqual(said[0]);
    expect(await cancel(held, usageId, requestOf("CancelUsage", request.requestId, 2))).toBe("REQUEST_ID_REUSED");
  });

  test("frees the place of a user coupon that is deleted", async () => {
    const held = await newHeld(await newCoupon({ usageCap: 2 }));
    const usageId = await used(held);
    const { userId, userCouponId } = held;
    await userCoupons.delete(
      { userId, userCouponId, restock: false, deleteUsed: true, request: null },
      async () => {},
      farMs,
    );
    expect(await readCoupon(clocked.sql, held.couponId)).toMatchObject({ usedCount: 1, placeCount: 1 });
    expect(await cancel(held, usageId)).toMatchObject({ freed: true });
    expect(await readCoupon(clocked.sql, held.couponId)).toMatchObject({ usedCount: 0, placeCount: 0 });
  });
});

describe("a batch of cancels", () => {
  const cancelOf = ({ userId }: Held, usageId: string, requestId: string = randomUUID(), input = 1): CancelRequest => {
    const { inputHash } = requestOf("CancelUsage", requestId, input);
    return { userId, usageId, request: { requestId, inputHash } };
  };
  const outcomesOf = (outcomes: readonly CancelResult[]) =>
    outcomes.map((one) => (one.outcome === "REFUSED" ? one.reason : `${one.outcome}${one.freed ? " freed" : ""}`));
  const removeUsed = ({ userId, userCouponId }: Held) =>
    userCoupons.delete(
      { userId, userCouponId, restock: false, deleteUsed: true, request: null },
      async () => {},
      farMs,
    );

  test("has an outcome for each in order, and what speaks against one harms no other", async () => {
    const couponId = await newCoupon({ usageCap: 20 });
    const twice = await newHeld(couponId, { maxUses: 2 });
    const [once, gone, done] = [await newHeld(couponId), await newHeld(couponId), await newHeld(couponId)];
    const ids: string[] = [];
    for (const held of [twice, once, gone, done, twice]) ids.push(await used(held));
    await removeUsed(gone);
    const earlier = cancelOf(done, ids[3]!);
    expect(outcomesOf(await usages.cancelBatch([earlier], false))).toEqual(["CANCELLED"]);
    const requests = [
      cancelOf(twice, ids[0]!),
      cancelOf(once, ids[0]!),
      cancelOf(once, randomUUID()),
      cancelOf(once, ids[1]!),
      earlier,
      cancelOf(gone, ids[2]!),
      cancelOf(done, ids[3]!, earlier.request.requestId, 2),
      cancelOf(twice, ids[4]!),
    ];
    const outcomes = await usages.cancelBatch(requests, false);
    expect(outcomesOf(outcomes)).toEqual([
      "CANCELLED",
      "USAGE_NOT_FOUND",
      "USAGE_NOT_FOUND",
      "CANCELLED",
      "CANCELLED",
      "CANCELLED freed",
      "REQUEST_ID_REUSED",
      "CANCELLED",
    ]);
    for (const [index, { usageId, userId }] of requests.entries()) {
      const outcome = outcomes[index]!;
      if (outcome.outcome === "CANCELLED") expect(outcome.usage).toEqual(await usages.get(userId, usageId!, farMs));
    }
    expect(await readUserCoupon(clocked.sql, twice)).toMatchObject({ useCount: 0, placeCount: 2 });
    expect(await readCoupon(clocked.sql, couponId)).toMatchObject({ usedCount: 0, placeCount: 4 });
    const rows = await clocked.sql`
      SELECT usage_id FROM events WHERE coupon_id = ${couponId} AND kind = 'USAGE_CANCELLED' ORDER BY seq`;
    expect(rows.map((row) => row.usage_id)).toEqual([3, 0, 1, 2, 4].map((n) => ids[n]));
    // Its answer was lost: each gets the same again, and the place is told of once more.
    expect(outcomesOf(await usages.cancelBatch(requests, true))).toEqual(outcomesOf(outcomes));
    expect(await usages.cancelBatch([], false)).toEqual([]);
  });

  test("with one request id for two usages at once: one is cancelled, the other one refused, and no bystander is", async () => {
    for (let round = 0; round < 5; round++) {
      const helds = await Promise.all([1, 2, 3, 4].map(async () => newHeld(await newCoupon())));
      const ids = await Promise.all(helds.map(used));
      const requestId = randomUUID();
      const [a, b] = await Promise.all([
        usages.cancelBatch([cancelOf(helds[0]!, ids[0]!, requestId, 1), cancelOf(helds[1]!, ids[1]!)], false),
        usages.cancelBatch([cancelOf(helds[2]!, ids[2]!, requestId, 2), cancelOf(helds[3]!, ids[3]!)], false),
      ]);
      expect([outcomesOf(a)[0], outcomesOf(b)[0]].sort()).toEqual(["CANCELLED", "REQUEST_ID_REUSED"]);
      expect([outcomesOf(a)[1], outcomesOf(b)[1]]).toEqual(["CANCELLED", "CANCELLED"]);
    }
  });

  test("with request ids crossed over two of them ends in refusals, and not in a deadlock", async () => {
    const couponIds = [await newCoupon(), await newCoupon()];
    const ofOne = async (couponId: string) => {
      const helds = await Promise.all([1, 2, 3].map(() => newHeld(couponId)));
      const pairs = await Promise.all(helds.map(async (held) => ({ held, usageId: await used(held) })));
      // As Postgres goes through them, unless it is told of another order.
      return pairs.sort((a, b) => (a.usageId < b.usageId ? -1 : 1));
    };
    const all = (await Promise.all(couponIds.map(ofOne))).flat();
    const [r1, r2, other1, other2] = ["1", "2", "3", "4"].map((first) => `${first} ${randomUUID()}`);
    const requestIds = [r1, other1, r2, r2, other2, r1];
    const cancels = all.map(({ held, usageId }, n) => cancelOf(held, usageId, requestIds[n], n));
    // Both have begun to insert, and neither has ended.
    let running: Promise<CancelResult[]>[] = [];
    const others = clocked.sql.begin(async (tx) => {
      for (const requestId of [other1, other2])
        await tx`
          INSERT INTO requests (method, request_id, input_hash, answer, created_at)
          VALUES ('CancelUsage', ${requestId as string}, '', '{}', ${noon})`;
      running = [cancels.slice(0, 3), cancels.slice(3)].map((batch) => usages.cancelBatch(batch, false));
      for (const one of running) one.catch(() => {});
      await untilWaiting(clocked.sql, running.length);
      throw new Error("they are gone");
    });
    await expect(others).rejects.toThrow("they are gone");
    const said = (await Promise.all(running)).flatMap(outcomesOf);
    expect(said.sort()).toEqual([...Array(4).fill("CANCELLED"), "REQUEST_ID_REUSED", "REQUEST_ID_REUSED"]);
  });

  test("raced by others with the same usages and request ids, and by uses, cancels each once", async () => {
    const coupons = await Promise.all([1, 2, 3].map(() => newCoupon({ quantity: null })));
    const helds = await Promise.all(Array.from({ length: 60 }, (_, n) => newHeld(coupons[n % 3]!, { maxUses: 3 })));
    const ids = await Promise.all(helds.map(used));
    const requestIds = ids.map(() => randomUUID());
    // Two replicas, each with a queue of its own; small batches, so that there are many.
    const queues = [1, 2].map(
      () =>
        new GroupCommit<CancelRequest, CancelResult>({
          commit: (requests, again) => usages.cancelBatch(requests, again),
          afterCommit: async () => {},
          onAfterCommitError: () => {},
          keysOf: keysOfCancel,
          maxBatchSize: 7,
          maxBatches: 2,
          sideBatchSize: 1,
          maxWaiting: 1_000,
        }),
    );
    const calls = queues.flatMap((queue) =>
      ids.flatMap((usageId, n) => [
        // The same request by both, and one of its own.
        queue.submit(cancelOf(helds[n]!, usageId, requestIds[n]), farMs),
        queue.submit(cancelOf(helds[n]!, usageId), farMs),
      ]),
    );
    const more = helds.map((held) => usages.useBatch([useRequestOf(held)], { again: false, together: false }));
    const said = outcomesOf(await Promise.all(calls));
    await Promise.all(more);
    // Of the four calls for a usage either both with the shared id were told that it is cancelled, or one with its own.
    ids.forEach((_, n) => {
      const [shared1, own1] = [said[2 * n], said[2 * n + 1]];
      const [shared2, own2] = [said[2 * (ids.length + n)], said[2 * (ids.length + n) + 1]];
      const cancelled = [shared1, own1, shared2, own2].filter((one) => one === "CANCELLED").length;
      expect([shared1 === shared2, cancelled]).toEqual([true, shared1 === "CANCELLED" ? 2 : 1]);
    });
    for (const couponId of coupons) {
      expect(await readCoupon(clocked.sql, couponId)).toMatchObject({ usedCount: 20 });
      expect(await countEvents(clocked.sql, couponId)).toEqual({ USER_COUPON_USED: 40, USAGE_CANCELLED: 20 });
    }
  });
});

describe("deleting", () => {
  const remove = async (
    held: Held,
    { restock = false, deleteUsed = false, request = null as RequestKey | null } = {},
    told: (given: GivenBack) => Promise<void> = async () => {},
  ) => {
    const { userId, userCouponId } = held;
    return outcome(await userCoupons.delete({ userId, userCouponId, restock, deleteUsed, request }, told, farMs));
  };

  test.each([
    { restock: true, issuedCount: 0 },
    { restock: false, issuedCount: 1 },
  ])("frees the slot, and the stock if that is wanted: $restock", async ({ restock, issuedCount }) => {
    const held = await newHeld(await newCoupon({ quantity: 2 }), { requestId: `r-${randomUUID()}` });
    const given: GivenBack[] = [];
    expect(await remove(held, { restock }, async (one) => void given.push(one))).toEqual({
      restocked: restock,
      replayed: false,
    });
    expect(given).toMatchObject([
      { ...held, restocked: restock, freed: false, requestId: expect.stringMatching(/^r-/) },
    ]);
    expect(await readCoupon(clocked.sql, held.couponId)).toMatchObject({ issuedCount });
    expect(await userCoupons.get(held.userId, held.userCouponId, farMs)).toBeNull();
    const request = { couponId: held.couponId, userId: held.userId, userCouponId: randomUUID(), requestId: "" };
    expect((await new PostgresIssueStore(clocked.database).issueBatch([request]))[0]?.outcome).toBe("ISSUED");
    expect(await remove(held, { restock })).toBe("USER_COUPON_NOT_FOUND");
  });

  test("is refused while a use stands, unless that is wanted; then nothing goes back", async () => {
    const held = await newHeld(await newCoupon({ quantity: 2 }));
    await used(held);
    const given: GivenBack[] = [];
    const told = async (one: GivenBack) => void given.push(one);
    expect(await remove(held, { restock: true }, told)).toBe("ALREADY_USED");
    expect(given).toEqual([]);
    expect(await remove(held, { restock: true, deleteUsed: true }, told)).toEqual({
      restocked: false,
      replayed: false,
    });
    expect(await readCoupon(clocked.sql, held.couponId)).toMatchObject({ issuedCount: 1, usedCount: 1, placeCount: 1 });
  });

  test("is refused while it is locked, and says until when", async () => {
    const held = await newHeld(await newCoupon(), { lockedUntil: later(700), lockVersion: 1 });
    const { userId, userCouponId } = held;
    const deletion = { userId, userCouponId, restock: true, deleteUsed: true, request: null };
    const refusal = await userCoupons.delete(deletion, async () => {}, farMs);
    expect(refusal).toMatchObject({ reason: "LOCKED", detail: { retryAfterMs: 700 } });
    await clocked.setClock(later(700));
    expect(await remove(held)).toEqual({ restocked: false, replayed: false });
  });

  test("waits for whoever has its coupon, and goes by what that has done", async () => {
    const held = await newHeld(await newCoupon());
    let said: Promise<unknown> = Promise.resolve();
    await clocked.sql.begin(async (tx) => {
      await tx`SELECT FROM coupons WHERE id = ${held.couponId} FOR NO KEY UPDATE`;
      said = remove(held, { restock: true });
      said.catch(() => {});
      await untilWaiting(clocked.sql, 1);
      await tx`UPDATE user_coupons SET locked_until = ${later(700)} WHERE id = ${held.userCouponId}`;
    });
    expect(await said).toBe("LOCKED");
  });

  test("of what has expired tells the gate, which does not know it any more, that it cannot count it", async () => {
    const couponId = await newCoupon();
    for (const restock of [true, false]) {
      const held = await newHeld(couponId, { validUntil: noon });
      const given: GivenBack[] = [];
      await remove(held, { restock }, async (one) => void given.push(one));
      expect(given).toMatchObject([{ restocked: restock, freed: restock }]);
    }
  });

  test.each([true, false])(
    "of what is not used in time releases it first: it goes back once, wanted (%s) or not",
    async (restock) => {
      const held = await newHeld(await newCoupon(), { claimUntil: later(-1) });
      const given: GivenBack[] = [];
      expect(await remove(held, { restock }, async (one) => void given.push(one))).toEqual({
        restocked: false,
        replayed: false,
      });
      expect(given).toMatchObject([{ ...held, restocked: true, freed: false }]);
      expect(await userCoupons.release(10)).toEqual([]);
      expect(await readCoupon(clocked.sql, held.couponId)).toMatchObject({ issuedCount: 0 });
      expect(await readUserCoupon(clocked.sql, held)).toMatchObject({ releasedAt: noon });
      expect(await countEvents(clocked.sql, held.couponId)).toEqual({
        USER_COUPON_RELEASED: 1,
        USER_COUPON_DELETED: 1,
      });
      const [totals] =
        await clocked.sql`SELECT released_total::int, deleted_total::int FROM coupons WHERE id = ${held.couponId}`;
      expect(totals).toMatchObject({ released_total: 1, deleted_total: 0 });
    },
  );

  test("of what was released puts nothing back a second time, and tells the gate nothing: who has released it does", async () => {
    const held = await newHeld(await newCoupon(), { claimUntil: later(-1) });
    expect((await userCoupons.release(10)).length).toBe(1);
    const given: GivenBack[] = [];
    const told = async (one: GivenBack) => void given.push(one);
    expect(await remove(held, { restock: true }, told)).toEqual({ restocked: false, replayed: false });
    expect(given).toEqual([]);
    expect(await readCoupon(clocked.sql, held.couponId)).toMatchObject({ issuedCount: 0 });
  });

  test("is done once, with one answer for its request id, though two do it at once", async () => {
    const held = await newHeld(await newCoupon());
    const request = requestOf("DeleteUserCoupon", randomUUID());
    const said = await Promise.all([1, 2, 3].map(() => remove(held, { restock: true, request })));
    expect(said).toMatchObject([{ restocked: true }, { restocked: true }, { restocked: true }]);
    expect(said.map((one) => (one as { replayed: boolean }).replayed).sort()).toEqual([false, true, true]);
    expect(await countEvents(clocked.sql, held.couponId)).toEqual({ USER_COUPON_DELETED: 1 });
    expect(await remove(held, { restock: true, request: requestOf("DeleteUserCoupon", request.requestId, 2) })).toBe(
      "REQUEST_ID_REUSED",
    );
  });

  test("is undone when the gate's word fails", async () => {
    const held = await newHeld(await newCoupon());
    const failing = remove(held, { restock: true }, () => Promise.reject(new Error("no")));
    await expect(failing).rejects.toThrow("no");
    expect(await readUserCoupon(clocked.sql, held)).toMatchObject({ deletedAt: null });
  });
});

describe("releasing", () => {
  test("takes back what was not used in time, and nothing else", async () => {
    const couponId = await newCoupon({ quantity: 10 });
    const due = await newHeld(couponId, { claimUntil: noon, requestId: `due-${randomUUID()}` });
    const soon = await newHeld(couponId, { claimUntil: later(1) });
    const free = await newHeld(couponId);
    const was = await newHeld(couponId, { claimUntil: later(1), maxUses: 2 });
    await used(was);
    await clocked.setClock(noon);
    expect(await userCoupons.release(100)).toEqual([
      { ...due, requestId: expect.stringMatching(/^due-/), restocked: true, freed: false, givenBackNo: 1 },
    ]);
    expect(await readUserCoupon(clocked.sql, due)).toMatchObject({ releasedAt: noon, claimUntil: null });
    expect(await readCoupon(clocked.sql, couponId)).toMatchObject({ issuedCount: 3 });
    await clocked.setClock(later(1));
    expect((await userCoupons.release(100)).map((one) => one.userCouponId)).toEqual([soon.userCouponId]);
    await clocked.setClock(later(9_999));
    expect(await userCoupons.release(100)).toEqual([]);
    for (const kept of [free, was]) expect(await readUserCoupon(clocked.sql, kept)).toMatchObject({ releasedAt: null });
    expect((await countEvents(clocked.sql, couponId)).USER_COUPON_RELEASED).toBe(2);
  });

  test("what has expired since its window ended tells the gate that it cannot count it", async () => {
    await newHeld(await newCoupon(), { claimUntil: noon, validUntil: later(1) });
    await clocked.setClock(later(1));
    expect(await userCoupons.release(10)).toMatchObject([{ restocked: true, freed: true }]);
  });

  test("one whose use was cancelled stays its user's", async () => {
    const held = await newHeld(await newCoupon(), { claimUntil: later(1_000) });
    await cancelOne(usages, { userId: held.userId, usageId: await used(held), request: null });
    await clocked.setClock(later(5_000));
    expect(await userCoupons.release(10)).toEqual([]);
  });

  test.each([
    ["its validity", {}, { validUntil: later(1_000) }],
    ["its coupon", { expiresAt: later(1_000) }, {}],
  ] as const)(
    "what expired with %s before its window ended is not released, and does not stand in the way",
    async (_, changed, facts) => {
      const couponId = await newCoupon(changed);
      const helds: Held[] = [];
      for (const claimMs of [1_000, 2_000, 3_000])
        helds.push(await newHeld(couponId, { ...facts, claimUntil: later(claimMs) }));
      const due = await newHeld(await newCoupon(), { claimUntil: later(4_000) });
      await clocked.setClock(later(5_000));
      const released: GivenBack[] = [];
      // As many rounds as it takes for a small batch to come by all of them.
      for (let round = 0; round < 4; round++) released.push(...(await userCoupons.release(1)));
      expect(released.map((one) => one.userCouponId)).toEqual([due.userCouponId]);
      expect(await readCoupon(clocked.sql, couponId)).toMatchObject({ issuedCount: 3 });
      for (const held of helds)
        expect(await readUserCoupon(clocked.sql, held)).toMatchObject({ releasedAt: null, claimUntil: null });
    },
  );

  test("and deleting number what is given back of a coupon without a gap, and once what was released before", async () => {
    const couponIds = [await newCoupon({ quantity: null }), await newCoupon()];
    const [counted, other] = couponIds as [string, string];
    const numbers = new Map<string, (number | null)[]>(couponIds.map((id) => [id, []]));
    const note = (all: readonly GivenBack[]) => {
      for (const { couponId, givenBackNo } of all) numbers.get(couponId)?.push(givenBackNo);
    };
    const due: Held[] = [];
    for (let n = 0; n < 8; n++) due.push(await newHeld(n % 4 === 0 ? other : counted, { claimUntil: later(n) }));
    const held = await Promise.all(Array.from({ length: 4 }, () => newHeld(counted)));
    const remove = ({ userId, userCouponId }: Held) =>
      userCoupons.delete(
        { userId, userCouponId, restock: false, deleteUsed: false, request: null },
        async (given) => note([given]),
        farMs,
      );
    await remove(held[0] as Held);
    await clocked.setClock(later(100));
    // The last one is released by its deletion.
    await remove(due[7] as Held);
    await Promise.all([
      ...held.slice(1).map(remove),
      ...[3, 3, 3].map(async (limit) => note(await userCoupons.release(limit))),
    ]);
    note(await userCoupons.release(8));
    // It was counted when it was released.
    await remove(due[1] as Held);
    const sorted = (couponId: string) => numbers.get(couponId)?.sort((a, b) => Number(a) - Number(b));
    expect(sorted(counted)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    expect(sorted(other)).toEqual([1, 2]);
    const counts = await new PostgresIssueStore(clocked.database).readCounts(couponIds);
    expect(couponIds.map((id) => counts.get(id)?.givenBackTotal)).toEqual([10, 2]);
  });

  test("goes in batches, the oldest first; two at once release each one once", async () => {
    const couponId = await newCoupon({ quantity: null });
    const helds: Held[] = [];
    for (let n = 0; n < 30; n++) helds.push(await newHeld(couponId, { claimUntil: later(n) }));
    await clocked.setClock(later(100));
    const ids = helds.map((held) => held.userCouponId);
    expect((await userCoupons.release(4)).map((one) => one.userCouponId).sort()).toEqual(ids.slice(0, 4).sort());
    const released: string[] = [];
    const releaser = async () => {
      for (let n = 0; n < 8; n++) released.push(...(await userCoupons.release(5)).map((one) => one.userCouponId));
    };
    await Promise.all([releaser(), releaser(), releaser()]);
    expect(released.sort()).toEqual(ids.slice(4).sort());
    expect(await readCoupon(clocked.sql, couponId)).toMatchObject({ issuedCount: 0 });
  });

  test("and using at once: one of them wins", async () => {
    const couponId = await newCoupon({ quantity: null });
    const helds: Held[] = [];
    for (let n = 0; n < 20; n++) helds.push(await newHeld(couponId, { claimUntil: later(1) }));
    const using = helds.map((held) => usages.useBatch([useRequestOf(held)], { again: false, together: false }));
    await clocked.setClock(later(1));
    const [outcomes] = await Promise.all([Promise.all(using), userCoupons.release(100), userCoupons.release(100)]);
    for (const [index, held] of helds.entries()) {
      const { releasedAt, useCount } = await readUserCoupon(clocked.sql, held);
      const won = outcomes[index]?.[0]?.outcome === "USED";
      expect([useCount, releasedAt === null]).toEqual(won ? [1, true] : [0, false]);
    }
  });
});
