import { randomUUID } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { exhaustionOf } from "../../src/domain/coupon.js";
import { Purger } from "../../src/jobs/purger.js";
import type { CouponEdit } from "../../src/storage/ports/coupons.js";
import type { Stats } from "../../src/storage/ports/stats.js";
import { PostgresCouponStore } from "../../src/storage/postgres/coupons/coupon-store.js";
import { PostgresIssueStore } from "../../src/storage/postgres/issuing/issue-store.js";
import { PostgresPurgeStore } from "../../src/storage/postgres/purge/purge-store.js";
import { PostgresStatsStore } from "../../src/storage/postgres/stats/stats-store.js";
import { PostgresUserCouponStore } from "../../src/storage/postgres/user-coupons/user-coupon-store.js";
import { PostgresUsageStore } from "../../src/storage/postgres/using/usage-store.js";
import { callContext } from "../support/call-context.js";
import { countedStats, miscounted } from "../support/counted-stats.js";
import { type ClockedDatabase, insertCoupon, openClockedDatabase, openCoupon } from "./clocked-database.js";
import { expireCodes, insertCodes } from "./codes-world.js";
import { cancelOne, useRequestOf } from "./usage-world.js";

const noon = new Date("2030-06-01T12:00:00.000Z");
const farMs = Date.now() + 3_600_000;
const call = callContext(farMs);
const [secondMs, hourMs] = [1_000, 3_600_000];
const seed = process.env.MODEL_SEED === undefined ? {} : { seed: Number(process.env.MODEL_SEED) };
const runs = Number(process.env.MODEL_RUNS ?? 15);

let clocked: ClockedDatabase;
let coupons: PostgresCouponStore;
let issues: PostgresIssueStore;
let usages: PostgresUsageStore;
let userCoupons: PostgresUserCouponStore;
let stats: PostgresStatsStore;
let keptStats: PostgresStatsStore;

beforeAll(async () => {
  clocked = await openClockedDatabase(noon);
  const { database } = clocked;
  coupons = new PostgresCouponStore(database);
  issues = new PostgresIssueStore(database);
  usages = new PostgresUsageStore(database);
  userCoupons = new PostgresUserCouponStore(database);
  stats = new PostgresStatsStore(database);
  keptStats = new PostgresStatsStore(database, { maxRead: 0 });
});
afterAll(() => clocked?.close());

const purge = (dryRun: boolean) =>
  new Purger(
    new PostgresPurgeStore(clocked.database),
    { afterDays: 1, deletedCodesKeepHours: 24, dryRun, everyMinutes: 60, batchSize: 3 },
    { info: () => {} },
  ).purge();

/** What one coupon of a run is like; `null` for most of it, or nothing would ever be READY. */
const definitions = fc.record({
  type: fc.constantFrom("FREE", "STANDARD", null),
  validityMs: fc.constantFrom(null, null, 20 * secondMs, 2 * hourMs),
  claimMs: fc.constantFrom(null, null, 10 * secondMs, 30 * secondMs),
  maxUses: fc.constantFrom(1, 2, 3),
  usageCap: fc.constantFrom(null, null, 2, 4),
  lifeMs: fc.constantFrom(40 * secondMs, 3 * hourMs, 100 * hourMs),
  isCodeBook: fc.boolean(),
});
type Definition = typeof definitions extends fc.Arbitrary<infer T> ? T : never;

/** `pick` chooses the coupon, and what is held of it, among those that there are. */
const pick = fc.nat(999);
const steps = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("issue" as const), pick, n: fc.integer({ min: 1, max: 4 }) }) },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("use" as const), pick, n: fc.integer({ min: 1, max: 3 }) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("cancel" as const), pick }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant("delete" as const),
      pick,
      restock: fc.boolean(),
      deleteUsed: fc.boolean(),
    }),
  },
  {
    weight: 7,
    arbitrary: fc.record({ kind: fc.constantFrom("release" as const, "expireUserCoupons", "expireCodes", "purge") }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("wait" as const),
      ms: fc.constantFrom<number>(secondMs, 10 * secondMs, 15 * secondMs, hourMs, 25 * hourMs),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant("cap" as const), pick, cap: fc.constantFrom(null, 3, 5, 20) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("expire" as const),
      pick,
      inMs: fc.constantFrom(-hourMs, -secondMs, secondMs, 30 * secondMs, 50 * hourMs),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("end" as const), pick, revoke: fc.boolean() }) },
);
type Step = typeof steps extends fc.Arbitrary<infer T> ? T : never;
/** What changes rows from which the same may be counted: time, and the jobs. */
const bySelf = new Set<Step["kind"]>(["wait", "release", "expireUserCoupons", "expireCodes", "purge"]);
/** How each run ends: in a fifth of them alone something would be purged otherwise. */
const lastSteps: readonly Step[] = [{ kind: "wait", ms: 200 * hourMs }, { kind: "purge" }];
/** Comes before those that chance makes: some of what is counted happens in few of them. */
const ofEverything: [Definition[], Step[]] = [
  Array.from({ length: 3 }, (_, n) => ({
    ...{ type: "FREE", maxUses: 1, usageCap: null, lifeMs: 100 * hourMs },
    validityMs: n < 2 ? null : 20 * secondMs,
    claimMs: n < 2 ? 10 * secondMs : null,
    isCodeBook: n === 1,
  })),
  [
    ...[0, 1, 2].map((pick): Step => ({ kind: "issue", pick, n: 4 })),
    { kind: "wait", ms: 15 * secondMs },
    { kind: "release" },
    { kind: "release" },
    { kind: "use", pick: 2, n: 1 },
    { kind: "cancel", pick: 2 },
    { kind: "delete", pick: 2, restock: true, deleteUsed: true },
    { kind: "wait", ms: 10 * secondMs },
    { kind: "end", pick: 2, revoke: true },
  ],
];

async function newCoupon(definition: Definition): Promise<string> {
  const { type, validityMs, claimMs, isCodeBook, lifeMs, ...same } = definition;
  const now = await clocked.now();
  const id = await insertCoupon(
    clocked.sql,
    openCoupon(now, {
      ...same,
      quantity: isCodeBook ? 0 : 8,
      maxPerUser: 100,
      validityAfterIssueMs: validityMs,
      claimWindowMs: claimMs,
      expiresAt: new Date(now.getTime() + lifeMs),
    }),
  );
  await clocked.sql`UPDATE coupons SET type = ${type}, is_code_book = ${isCodeBook} WHERE id = ${id}`;
  if (isCodeBook) {
    const soon = new Date(now.getTime() + 25 * secondMs);
    await insertCodes(clocked.sql, id, [
      { maxHolders: 1 },
      { maxHolders: 1, expiresAt: soon },
      { maxHolders: 2, maxUses: 2 },
      { maxHolders: 2, expiresAt: soon },
      { maxHolders: 1, expiresAt: soon },
    ]);
  }
  return id;
}

async function edit(
  id: string,
  kind: "COUPON_UPDATED" | "COUPON_DELETED",
  change: (now: Date) => CouponEdit,
): Promise<void> {
  await coupons.change(
    { id, revision: 0, kind, request: null },
    (current, now) => {
      const edited = change(now);
      const usageCap = edited.usageCap === undefined ? current.usageCap : edited.usageCap;
      if (usageCap !== null && usageCap < current.placeCount) return null;
      if (edited.expiresAt && edited.expiresAt <= current.startsAt) return null;
      return { ...edited, exhaustedAt: exhaustionOf(usageCap, current, now) };
    },
    async () => {},
    call,
  );
}

async function take(step: Step, ids: readonly string[]): Promise<void> {
  const { sql } = clocked;
  const id = "pick" in step ? (ids[step.pick % ids.length] as string) : "";
  const chosen = <T>(rows: readonly T[]): T | undefined => ("pick" in step ? rows[step.pick % rows.length] : undefined);
  switch (step.kind) {
    case "issue": {
      const requests = Array.from({ length: step.n }, () => ({
        couponId: id,
        userId: randomUUID(),
        userCouponId: randomUUID(),
        requestId: "",
      }));
      await issues.issueBatch(requests);
      return;
    }
    case "use": {
      const rows =
        await sql`SELECT u.id, u.user_id, c.revision::int FROM user_coupons u JOIN coupons c ON c.id = u.coupon_id
        WHERE u.coupon_id = ${id} ORDER BY u.id`;
      const row = chosen(rows);
      if (!row) return;
      const held = { couponId: id, userCouponId: row.id, userId: row.user_id };
      // Several uses of one user coupon in one batch, and one of another.
      const next = rows[(rows.indexOf(row as never) + 1) % rows.length];
      const requests = Array.from({ length: step.n }, () => useRequestOf(held, { revision: row.revision }));
      const other = { couponId: id, userCouponId: next?.id, userId: next?.user_id };
      await usages.useBatch([...requests, useRequestOf(other, { revision: row.revision })], {
        again: false,
        together: false,
      });
      return;
    }
    case "cancel": {
      const usage = chosen(await sql`SELECT id, user_id FROM usages WHERE coupon_id = ${id} ORDER BY id`);
      if (usage) await cancelOne(usages, { userId: usage.user_id, usageId: usage.id, request: null });
      return;
    }
    case "delete": {
      const row = chosen(await sql`SELECT id, user_id FROM user_coupons WHERE coupon_id = ${id} ORDER BY id`);
      const { restock, deleteUsed } = step;
      if (!row) return;
      const deletion = { userId: row.user_id, userCouponId: row.id, restock, deleteUsed, request: null };
      await userCoupons.delete(deletion, async () => {}, farMs);
      return;
    }
    case "release":
      return void (await userCoupons.release(5));
    case "expireUserCoupons":
      return void (await userCoupons.expire(5));
    case "expireCodes":
      return await expireCodes(sql);
    case "purge": {
      const would = await purge(true);
      const before = await contents();
      expect(await purge(true)).toEqual(would);
      expect(await contents()).toEqual(before);
      const did = await purge(false);
      expect(did.userCoupons).toBe(would.userCoupons);
      // A code of several holders goes with the last of them, whom a dry run may see in another batch.
      expect(did.codes).toBeGreaterThanOrEqual(would.codes);
      purged.userCoupons += did.userCoupons;
      purged.codes += did.codes;
      return;
    }
    case "wait":
      return await clocked.setClock(new Date((await clocked.now()).getTime() + step.ms));
    case "cap":
      return await edit(id, "COUPON_UPDATED", () => ({ usageCap: step.cap }));
    case "expire":
      return await edit(id, "COUPON_UPDATED", (now) => ({ expiresAt: new Date(now.getTime() + step.inMs) }));
    case "end":
      return await edit(id, "COUPON_DELETED", (now) => ({ deletedAt: now, ...(step.revoke && { revokedAt: now }) }));
  }
}

const contents = async () =>
  await clocked.sql`SELECT (SELECT json_agg(c ORDER BY id) FROM coupons c) AS coupons,
    (SELECT json_agg(u ORDER BY id) FROM user_coupons u) AS user_coupons, (SELECT json_agg(k ORDER BY id) FROM codes k) AS codes,
    (SELECT count(*) FROM events) AS events`;

const purged = { userCoupons: 0, codes: 0 };

const sum = (all: readonly Stats[]): Stats =>
  all.reduce(
    (total, one) =>
      Object.fromEntries(
        Object.entries(total).map(([name, n]) => [name, n + one[name as keyof Stats]]),
      ) as unknown as Stats,
    nothing,
  );
const nothing: Stats = {
  couponCount: 0,
  codeCount: 0,
  issuedCount: 0,
  deletedCount: 0,
  releasedCount: 0,
  usedCount: 0,
  cancelledCount: 0,
  revokedCount: 0,
  expiredCount: 0,
};

test("GetStats says what the rows say, whatever happens to them", async () => {
  let seen = nothing;
  await fc.assert(
    fc.asyncProperty(
      fc.array(definitions, { minLength: 3, maxLength: 3 }),
      fc.array(steps, { minLength: 30, maxLength: 60, size: "max" }),
      async (defined, taken) => {
        await clocked.sql`TRUNCATE coupons, user_coupons, codes, usages, events, stats_snapshots`;
        await clocked.setClock(noon);
        const ids: string[] = [];
        for (const definition of defined) ids.push(await newCoupon(definition));
        let last: readonly Stats[] = [];
        for (const step of [...taken, ...lastSteps]) {
          await take(step, ids);
          const counted = await Promise.all(ids.map((id) => countedStats(clocked.sql, id)));
          // Most other steps are refused, and change nothing; if one does, it is seen after the next that is not.
          if (!bySelf.has(step.kind) && isDeepStrictEqual(counted, last)) continue;
          last = counted;
          seen = sum([seen, ...counted]);
          const read = await Promise.all(ids.map((couponId) => stats.read({ couponId, type: null }, farMs)));
          expect(read.map((one) => one?.value)).toEqual(counted);
          expect((await stats.read({ couponId: null, type: null }, farMs))?.value).toEqual(sum(counted));
          const ofFree = counted.filter((_, index) => defined[index]?.type === "FREE");
          expect((await stats.read({ couponId: null, type: "FREE" }, farMs))?.value).toEqual(sum(ofFree));
          // Counted in another way, for when it is too much to read.
          await clocked.sql`SELECT count_stats(false)`;
          const ofEach = await Promise.all(ids.map((couponId) => keptStats.read({ couponId, type: null }, farMs)));
          expect(ofEach.map((one) => one?.value)).toEqual(counted);
          const bothWays = await clocked.sql`
            SELECT * FROM unnest(${ids}::uuid[]) AS i (id)
            CROSS JOIN LATERAL coupon_stats(i.id, NULL, true) a CROSS JOIN LATERAL coupon_stats(i.id, NULL, false) b WHERE a <> b`;
          expect(bothWays).toEqual([]);
          expect((await keptStats.read({ couponId: null, type: null }, farMs))?.value).toEqual(sum(counted));
          expect((await keptStats.read({ couponId: null, type: "FREE" }, farMs))?.value).toEqual(sum(ofFree));
        }
        expect(await miscounted(clocked.sql)).toEqual([]);
      },
    ),
    { numRuns: runs, examples: [ofEverything], ...seed },
  );
  // Nothing of it was always 0.
  for (const count of [...Object.values(seen), ...Object.values(purged)])
    expect(count, JSON.stringify([seen, purged])).toBeGreaterThan(0);
}, 300_000);

test.each([
  ["exhausted", false, 0, { revokedCount: 1, expiredCount: 0 }],
  ["exhausted and ended", false, 3 * hourMs, { revokedCount: 1, expiredCount: 1 }],
  ["exhausted, revoked and ended", true, 3 * hourMs, { revokedCount: 2, expiredCount: 0 }],
] as const)("who has used a coupon that is %s is neither REVOKED nor EXPIRED", async (_, revoke, waitMs, expected) => {
  const now = await clocked.now();
  const expiresAt = new Date(now.getTime() + 3 * hourMs);
  const couponId = await insertCoupon(clocked.sql, openCoupon(now, { maxUses: 2, usageCap: 3, expiresAt }));
  const requests = ["ann", "ben", "cid", "dora"].map((userId) => ({ couponId, userId, userCouponId: randomUUID() }));
  await issues.issueBatch(requests.map((request) => ({ ...request, requestId: "" })));
  const uses = requests.slice(0, 3).map((held) => useRequestOf(held));
  await usages.useBatch(uses, { again: false, together: false });
  // Ben's place stays with him; Dora was never given one.
  await cancelOne(usages, { userId: "ben", usageId: (uses[1] as { usageId: string }).usageId, request: null });
  if (revoke) await take({ kind: "end", pick: 0, revoke }, [couponId]);
  await take({ kind: "wait", ms: waitMs }, []);
  expect((await stats.read({ couponId, type: null }, farMs))?.value).toMatchObject(expected);
  expect(await countedStats(clocked.sql, couponId)).toMatchObject(expected);
});

test("GetStats of a coupon that does not exist finds nothing; of a type without coupons it counts nothing", async () => {
  expect(await stats.read({ couponId: randomUUID(), type: null }, farMs)).toBeNull();
  expect(await stats.read({ couponId: null, type: "MEGADEAL" }, farMs)).toEqual({
    value: nothing,
    now: await clocked.now(),
  });
});
