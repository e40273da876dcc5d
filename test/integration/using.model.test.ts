import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Refusal } from "../../src/domain/refusal.js";
import type { LockAsk, UseAsk, UseOutcome } from "../../src/storage/ports.js";
import { PostgresUsageStore } from "../../src/storage/postgres/usage-store.js";
import { PostgresUserCouponStore } from "../../src/storage/postgres/user-coupon-store.js";
import {
  type ClockedDatabase,
  insertCoupon,
  insertHolders,
  openClockedDatabase,
  openCoupon,
} from "./clocked-database.js";
import { expectCounted, useAskOf } from "./usage-world.js";
import { type Said, type UserCouponModel, UsingModel } from "./using.model.js";

/**
 * One life of a few user coupons, in Postgres and in the model: the same answers, and the same rows after each step.
 */
const noon = new Date("2030-06-01T12:00:00.000Z");
const seed = process.env.MODEL_SEED === undefined ? {} : { seed: Number(process.env.MODEL_SEED) };
const runs = Number(process.env.MODEL_RUNS ?? 60);
const farMs = Date.now() + 3_600_000;
const stepMs = 1_000;

let clocked: ClockedDatabase;
let usages: PostgresUsageStore;
let userCoupons: PostgresUserCouponStore;

beforeAll(async () => {
  clocked = await openClockedDatabase(noon);
  usages = new PostgresUsageStore(clocked.database);
  userCoupons = new PostgresUserCouponStore(clocked.database);
});
afterAll(() => clocked?.close());

const rarely = (n: number) => fc.nat(n).map((value) => value === n);
const coupon = fc.record({
  usageCap: fc.constantFrom(null, 1, 2, 3, 5),
  endSteps: fc.constantFrom(60, 60, 4),
  lockSteps: fc.constantFrom(2, 4),
});
const holder = fc.record({
  coupon: fc.nat(1),
  maxUses: fc.constantFrom(1, 2, 2, 3),
  validSteps: fc.constantFrom(null, null, 3, 8),
  claimSteps: fc.constantFrom(null, null, null, 2, 3, 8),
});
/** Which user coupon; whether with the version that stands, the one before it, or none; whether as somebody else. */
const which = fc.record({
  index: fc.nat(5),
  version: fc.constantFrom("none", "none", "right", "right", "earlier"),
  stranger: rarely(19),
});
const use = fc.record({ which, stale: rarely(19) });
const step = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant("use"),
      asks: fc.array(use, { minLength: 1, maxLength: 5 }),
      request: fc.nat(8),
      together: fc.boolean(),
      again: rarely(2),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("lock"),
      asks: fc.array(fc.record({ which, sameCall: rarely(2) }), { minLength: 1, maxLength: 4 }),
      together: fc.boolean(),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant("unlock"), asks: fc.array(which, { minLength: 1, maxLength: 3 }) }),
  },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("cancel"), usage: fc.nat(20), stranger: rarely(19) }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant("delete"), which, restock: fc.boolean(), usedToo: fc.boolean() }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("release") }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("later"), steps: fc.constantFrom(0.5, 1, 1, 2) }) },
);

function saidBy(outcome: UseOutcome): Said {
  return outcome.kind === "REFUSED" ? outcome : { kind: outcome.kind };
}

async function stored(couponIds: readonly string[]) {
  const { sql } = clocked;
  const coupons = await sql`
    SELECT id, issued_count::int AS "issuedCount", used_count::int AS "usedCount", place_count::int AS "placeCount",
      exhausted_at AS "exhaustedAt",
      (SELECT count(*)::int FROM events e WHERE e.coupon_id = c.id AND e.kind = 'COUPON_EXHAUSTED') AS exhaustions
    FROM coupons c WHERE id = ANY (${[...couponIds]}::uuid[]) ORDER BY id`;
  const rows = await sql`
    SELECT id, use_count AS "useCount", place_count AS "placeCount", locked_until AS "lockedUntil",
      lock_version::int AS "lockVersion", lock_token AS "lockToken", claim_until AS "claimUntil",
      released_at AS "releasedAt", deleted_at AS "deletedAt"
    FROM user_coupons WHERE coupon_id = ANY (${[...couponIds]}::uuid[]) ORDER BY id`;
  const used = await sql`
    SELECT id, cancelled_at AS "cancelledAt" FROM usages WHERE coupon_id = ANY (${[...couponIds]}::uuid[]) ORDER BY id`;
  return { coupons: [...coupons], rows: [...rows], used: [...used] };
}

function expected(model: UsingModel) {
  const byId = (a: { id: string }, b: { id: string }) => (a.id < b.id ? -1 : 1);
  return {
    coupons: [...model.coupons.values()]
      .map(({ id, issuedCount, usedCount, placeCount, exhaustedAt, exhaustions }) => ({
        id,
        issuedCount,
        usedCount,
        placeCount,
        exhaustedAt,
        exhaustions,
      }))
      .sort(byId),
    rows: [...model.userCoupons.values()]
      .map(({ couponId: _, userId: __, validUntil: ___, maxUses: ____, ...same }) => same)
      .sort(byId),
    used: [...model.usages].map(([id, { cancelledAt }]) => ({ id, cancelledAt })).sort(byId),
  };
}

test("user coupons are locked, used, cancelled, deleted and released as in the model", {
  timeout: 300_000,
}, async () => {
  const seen = new Set<string>();
  await fc.assert(
    fc.asyncProperty(
      fc.array(coupon, { minLength: 2, maxLength: 2 }),
      fc.array(holder, { minLength: 2, maxLength: 6 }),
      fc.array(step, { minLength: 5, maxLength: 30, size: "max" }),
      async (coupons, holders, steps) => {
        const model = new UsingModel();
        const { sql } = clocked;
        const after = (n: number | null) => (n === null ? null : new Date(noon.getTime() + n * stepMs));
        const life = randomUUID();
        model.now = noon;
        await clocked.setClock(noon);
        for (const [index, { usageCap, endSteps, lockSteps }] of coupons.entries()) {
          const facts = openCoupon(noon, {
            expiresAt: after(endSteps) as Date,
            lockDurationMs: lockSteps * stepMs,
            issuedCount: holders.filter((one) => one.coupon === index).length,
            usageCap,
          });
          const id = await insertCoupon(sql, facts);
          model.coupons.set(id, { ...facts, id, revision: 1, exhaustions: 0 });
        }
        const couponIds = [...model.coupons.keys()];
        const rows = holders.map(
          (one, index): UserCouponModel => ({
            id: randomUUID(),
            couponId: couponIds[one.coupon] as string,
            userId: `user-${index % 2}`,
            validUntil: after(one.validSteps),
            maxUses: one.maxUses,
            useCount: 0,
            placeCount: 0,
            lockedUntil: null,
            lockVersion: 0,
            lockToken: null,
            claimUntil: after(one.claimSteps),
            releasedAt: null,
            deletedAt: null,
          }),
        );
        for (const row of rows) model.userCoupons.set(row.id, row);
        await insertHolders(
          sql,
          rows.map((row, index) => ({ ...row, slot: index + 1, requestId: null })),
          noon,
        );

        const choose = ({ index, version, stranger }: { index: number; version: string; stranger: boolean }) => {
          const { id } = rows[index % rows.length] as UserCouponModel;
          const held = model.userCoupons.get(id) as UserCouponModel;
          const lockVersion = { none: 0, right: held.lockVersion, earlier: Math.max(0, held.lockVersion - 1) }[version];
          const { couponId, userId } = held;
          return {
            userCouponId: id,
            couponId,
            userId: stranger ? "stranger" : userId,
            lockVersion: lockVersion as number,
            held,
          };
        };
        let lastBatch: { asks: UseAsk[]; together: boolean } | undefined;

        for (const one of steps) {
          switch (one.kind) {
            case "use": {
              let asks = one.asks.map(({ which: chosen, stale }): UseAsk => {
                const { held: _, ...choice } = choose(chosen);
                return useAskOf(choice, { lockVersion: choice.lockVersion, revision: stale ? 2 : 1 });
              });
              // An order names each user coupon once, and is one request; single uses have request ids of their own.
              if (one.together) {
                asks = [...new Map(asks.map((ask) => [ask.userCouponId, ask])).values()];
                asks = asks.map((ask, item) => ({
                  ...ask,
                  item,
                  requestId: one.request ? `${life} t${one.request}` : "",
                }));
              } else if (one.request) {
                asks = asks.map((ask, index) => ({ ...ask, requestId: index === 0 ? `${life} s${one.request}` : "" }));
              }
              const batch = one.again && lastBatch ? lastBatch : { asks, together: one.together };
              const said = model.use(batch.asks, batch.together);
              const outcomes = await usages.useBatch(batch.asks, { again: one.again, together: batch.together });
              expect(outcomes.map(saidBy)).toEqual(said);
              for (const { kind, reason } of said) seen.add(`use ${reason ?? kind}`);
              lastBatch = batch;
              break;
            }
            case "lock": {
              const asks = one.asks.map(({ which: chosen, sameCall }): LockAsk => {
                const { held, ...choice } = choose(chosen);
                return { ...choice, token: sameCall && held.lockToken ? held.lockToken : randomUUID() };
              });
              const distinct = one.together ? [...new Map(asks.map((ask) => [ask.userCouponId, ask])).values()] : asks;
              const said = model.lock(distinct, one.together);
              const outcomes = await usages.lockBatch(distinct, { together: one.together });
              expect(
                outcomes.map((outcome) =>
                  outcome.kind === "GRANTED"
                    ? { kind: "GRANTED", version: outcome.lock.version, until: outcome.lock.until }
                    : outcome,
                ),
              ).toEqual(said);
              for (const { kind, reason } of said) seen.add(`lock ${reason ?? kind}`);
              break;
            }
            case "unlock": {
              const choices = [...new Map(one.asks.map(choose).map((each) => [each.userCouponId, each])).values()];
              const userId = (choices[0] as (typeof choices)[0]).userId;
              const said = model.unlock(userId, choices);
              const unlocked = await usages.unlock(userId, choices, farMs);
              expect(unlocked?.sort() ?? null).toEqual(said?.sort() ?? null);
              seen.add(`unlock ${said === null ? "null" : said.length > 0}`);
              break;
            }
            case "cancel": {
              const [usageId, usage] = [...model.usages][one.usage % Math.max(1, model.usages.size)] ?? [randomUUID()];
              const userId = one.stranger || !usage ? "stranger" : usage.ask.userId;
              const said = model.cancel(userId, usageId);
              const cancelled = await usages.cancel({ userId, usageId, request: null }, farMs);
              if (cancelled instanceof Refusal) expect(cancelled.reason).toBe(said);
              else {
                expect({ freed: cancelled.freed }).toEqual(said);
                expect(cancelled.usage).toMatchObject({ id: usageId, cancelledAt: model.now });
              }
              seen.add(`cancel ${typeof said === "string" ? said : said.freed}`);
              break;
            }
            case "delete": {
              const { userCouponId, userId } = choose(one.which);
              const said = model.delete(userId, userCouponId, one.restock, one.usedToo);
              const deletion = { userId, userCouponId, restock: one.restock, deleteUsed: one.usedToo, request: null };
              const deleted = await userCoupons.delete(deletion, async () => {}, farMs);
              expect(deleted instanceof Refusal ? deleted.reason : deleted).toEqual(said);
              seen.add(`delete ${typeof said === "string" ? said : said.restocked}`);
              break;
            }
            case "release": {
              const said = model.release();
              // Of other lives, too: whatever is due in this database.
              const released = (await userCoupons.release(1_000)).filter((given) =>
                model.userCoupons.has(given.userCouponId),
              );
              expect(released.map((given) => given.userCouponId).sort()).toEqual(said.sort());
              seen.add(`release ${said.length > 0}`);
              break;
            }
            case "later":
              model.now = new Date(model.now.getTime() + one.steps * stepMs);
              await clocked.setClock(model.now);
              break;
          }
          expect(await stored(couponIds)).toEqual(expected(model));
        }
      },
    ),
    { numRuns: runs, ...seed },
  );
  await expectCounted(clocked.sql);
  if (runs < 60) return;
  // The life is varied enough to come by everything that can be said.
  const reasons = [
    "USER_COUPON_NOT_FOUND",
    "USER_COUPON_RELEASED",
    "ALREADY_USED",
    "USAGE_CAP_REACHED",
    "LOCKED",
    "LOCK_LOST",
  ];
  for (const one of [...reasons, "USER_COUPON_EXPIRED", "CONSENT"]) {
    expect([...seen]).toContain(`use ${one}`);
    expect([...seen]).toContain(`lock ${one}`);
  }
  for (const one of [
    "use USED",
    "use REPLAYED",
    "use STALE",
    "lock GRANTED",
    "unlock true",
    "unlock false",
    "unlock null",
  ]) {
    expect([...seen]).toContain(one);
  }
  for (const one of ["cancel true", "cancel false", "cancel USAGE_NOT_FOUND", "cancel USAGE_ALREADY_CANCELLED"]) {
    expect([...seen]).toContain(one);
  }
  for (const one of ["true", "false", "ALREADY_USED", "LOCKED", "USER_COUPON_NOT_FOUND"]) {
    expect([...seen]).toContain(`delete ${one}`);
  }
  expect([...seen]).toContain("release true");
});
