import { createHash, randomUUID } from "node:crypto";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { decideIssue } from "../../src/domain/issue.js";
import { CouponsHeld } from "../../src/domain/refusal.js";
import { expiryOf, type UserCoupon } from "../../src/domain/user-coupon.js";
import {
  type HoldingPage,
  leastBuckets,
  type PackedHolding,
  packHoldings,
  unpackHoldings,
} from "../../src/reservation/packed-holdings.js";
import type { GateRequest } from "../../src/reservation/port.js";
import type { IssueResult } from "../../src/storage/ports/issues.js";
import { openDatabase } from "../../src/storage/postgres/database.js";
import { PostgresIssueStore } from "../../src/storage/postgres/issuing/issue-store.js";
import { until } from "../support/until.js";
import {
  type ClockedDatabase,
  type CouponFacts,
  insertCoupon,
  insertHoldings,
  openClockedDatabase,
  openCoupon,
} from "./clocked-database.js";
import { untilWaiting, whileWaiting } from "./waiting.js";

const noon = new Date("2030-06-01T12:00:00.000Z");
const seed = process.env.MODEL_SEED === undefined ? {} : { seed: Number(process.env.MODEL_SEED) };
const runs = Number(process.env.MODEL_RUNS ?? 60);

let clocked: ClockedDatabase;
let store: PostgresIssueStore;

beforeAll(async () => {
  clocked = await openClockedDatabase(noon);
  store = new PostgresIssueStore(clocked.database);
});
afterAll(() => clocked?.close());

function requestOf(couponId: string, userId: string, requestId = ""): GateRequest {
  return { couponId, userId, requestId, userCouponId: randomUUID() };
}

interface StoredRow {
  readonly id: string;
  readonly userId: string;
  readonly requestId: string | null;
  readonly validUntil: Date | null;
}

/** What three tables say of one coupon. */
async function stored(couponId: string) {
  const { sql } = clocked;
  const [coupon] = await sql`SELECT issued_count::int AS count FROM coupons WHERE id = ${couponId}`;
  const rows = await sql<StoredRow[]>`
    SELECT id, user_id AS "userId", request_id AS "requestId", valid_until AS "validUntil"
    FROM user_coupons WHERE coupon_id = ${couponId} ORDER BY id`;
  const events = await sql`
    SELECT user_coupon_id AS id, user_id FROM events
    WHERE coupon_id = ${couponId} AND kind = 'USER_COUPON_ISSUED' ORDER BY user_coupon_id`;
  return { issuedCount: coupon?.count as number, rows: [...rows], events: events.map((event) => event.id as string) };
}

describe("issue_user_coupons decides as the domain does", () => {
  /** Moments around now, so that equal ones are frequent. */
  const nearMs = fc.constantFrom(-2_000, -1, 0, 1, 2_000);
  const facts = fc
    .record({
      startMs: fc.constantFrom(-9_000, -9_000, -1, 0, 1),
      endMs: fc.constantFrom(9_000, 9_000, 9_000, 1, 0, -1),
      quantity: fc.option(fc.integer({ min: 1, max: 4 })),
      issued: fc.nat(4),
      maxPerUser: fc.integer({ min: 1, max: 3 }),
      validityMs: fc.constantFrom(null, null, 1_000, 3_000),
      exhausted: fc.integer({ min: 0, max: 7 }).map((n) => n === 7),
      maxUses: fc.constantFrom(1, 1, 7),
      claimWindowMs: fc.constantFrom(null, null, 1_000, 60_000),
      paused: fc.integer({ min: 0, max: 5 }).map((n) => n === 5),
      deleted: fc.integer({ min: 0, max: 5 }).map((n) => n === 5),
    })
    .filter(({ startMs, endMs }) => startMs < endMs);
  type Generated = typeof facts extends fc.Arbitrary<infer T> ? T : never;
  const fromNoon = (ms: number) => new Date(noon.getTime() + ms);
  const couponFacts = (one: Generated): CouponFacts =>
    openCoupon(noon, {
      startsAt: fromNoon(one.startMs),
      expiresAt: fromNoon(one.endMs),
      quantity: one.quantity,
      issuedCount: one.quantity === null ? one.issued : Math.min(one.issued, one.quantity),
      maxPerUser: one.maxPerUser,
      validityAfterIssueMs: one.validityMs,
      pausedAt: one.paused ? fromNoon(-5_000) : null,
      deletedAt: one.deleted ? fromNoon(-5_000) : null,
      exhaustedAt: one.exhausted ? fromNoon(-5_000) : null,
      maxUses: one.maxUses,
      claimWindowMs: one.claimWindowMs,
    });
  /** A user coupon as the function should have made it. */
  const issued = (request: GateRequest, coupon: CouponFacts, issuedAt: Date): UserCoupon => {
    const later = (ms: number | null) => (ms === null ? null : new Date(issuedAt.getTime() + ms));
    const { couponId, userId, userCouponId: id } = request;
    return {
      id,
      couponId,
      userId,
      issuedAt,
      validUntil: later(coupon.validityAfterIssueMs),
      maxUses: coupon.maxUses,
      useCount: 0,
      placeCount: 0,
      lockedUntil: null,
      claimUntil: later(coupon.claimWindowMs),
      releasedAt: null,
      code: null,
      discount: null,
      labels: null,
    };
  };

  test("for one row", async () => {
    await clocked.setClock(noon);
    const holding = fc.record({ validMs: fc.option(nearMs), gaveUpSlot: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(fc.option(facts, { freq: 20 }), fc.array(holding, { maxLength: 4 }), async (one, held) => {
        const coupon = one && couponFacts(one);
        const couponId = coupon ? await insertCoupon(clocked.sql, coupon) : randomUUID();
        const holdings = held.map(({ validMs, gaveUpSlot }, index) => {
          const validUntil = validMs === null ? null : fromNoon(validMs);
          const expired = validUntil !== null && validUntil <= noon;
          // Only an expired holder may have given up its slot; it may also still have it.
          const slot = expired && gaveUpSlot ? null : index + 1;
          return { couponId, userId: "u", slot, requestId: null, validUntil };
        });
        if (coupon) await insertHoldings(clocked.sql, holdings, fromNoon(-8_000));
        const live = coupon ? holdings.filter(({ validUntil }) => !validUntil || validUntil > noon) : [];
        const expected = decideIssue({
          coupon: coupon && { ...coupon, quota: null },
          liveHeldCount: live.length,
          now: noon,
        });

        const before = coupon && (await stored(couponId));
        const request = requestOf(couponId, "u");
        const [result] = await store.issueBatch([request]);
        if (expected !== "ISSUED" || !coupon) {
          expect(result).toEqual({ outcome: "REFUSED", reason: expected });
          if (before) expect(await stored(couponId)).toEqual(before);
          return;
        }
        const userCoupon = issued(request, coupon, noon);
        expect(result).toEqual({ outcome: "ISSUED", userCoupon, expiresAt: expiryOf(userCoupon, coupon) });
        const now = await stored(couponId);
        expect(now.issuedCount).toBe(coupon.issuedCount + 1);
        expect(now.rows.length).toBe(holdings.length + 1);
        expect(now.events).toEqual([request.userCouponId]);
      }),
      { numRuns: runs * 4, ...seed },
    );
  });

  /** One row after the other, in memory. */
  class Sequence {
    readonly rows: (GateRequest & { userCoupon: UserCoupon; validUntil: Date | null })[] = [];
    readonly issuedCounts = new Map<string, number>();

    constructor(private readonly coupons: ReadonlyMap<string, CouponFacts>) {
      for (const [id, coupon] of coupons) this.issuedCounts.set(id, coupon.issuedCount);
    }

    issue(request: GateRequest, now: Date): IssueResult {
      const coupon = this.coupons.get(request.couponId) ?? null;
      const expired = { expiresAt: coupon?.expiresAt ?? now };
      const same = this.rows.find((row) => row.userCouponId === request.userCouponId);
      const earlier =
        same ?? (request.requestId ? this.rows.find((row) => row.requestId === request.requestId) : undefined);
      if (earlier && earlier !== same) {
        return earlier.couponId === request.couponId && earlier.userId === request.userId
          ? { outcome: "REPLAYED", userCouponId: earlier.userCouponId }
          : { outcome: "REFUSED", reason: "REQUEST_ID_REUSED" };
      }
      if (!same) {
        const issuedCount = this.issuedCounts.get(request.couponId) ?? 0;
        const live = this.rows.filter(
          (row) =>
            row.couponId === request.couponId &&
            row.userId === request.userId &&
            (row.validUntil === null || row.validUntil > now),
        );
        const decision = decideIssue({
          coupon: coupon && { ...coupon, issuedCount, quota: null },
          liveHeldCount: live.length,
          now,
        });
        if (decision !== "ISSUED" || !coupon) return { outcome: "REFUSED", reason: decision as "COUPON_NOT_FOUND" };
        const userCoupon = issued(request, coupon, now);
        this.rows.push({ ...request, userCoupon, validUntil: userCoupon.validUntil });
        this.issuedCounts.set(request.couponId, issuedCount + 1);
      }
      const { userCoupon } = same ?? (this.rows.at(-1) as (typeof this.rows)[0]);
      return { outcome: "ISSUED", userCoupon, expiresAt: expiryOf(userCoupon, expired) };
    }
  }

  let life = 0;
  const requestFacts = fc.record({ coupon: fc.nat(3), user: fc.nat(4), requestNumber: fc.nat(6) });
  const batch = fc.record({
    requests: fc.array(requestFacts, { minLength: 1, maxLength: 14 }),
    laterMs: fc.nat(2_500),
  });

  test("for batches, as if the rows came one after the other; a repeated batch changes nothing", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(facts, { minLength: 3, maxLength: 3 }),
        fc.array(batch, { minLength: 1, maxLength: 4 }),
        async (generated, batches) => {
          life += 1;
          let nowMs = noon.getTime();
          const coupons = new Map<string, CouponFacts>();
          for (const one of generated) {
            const coupon = couponFacts(one);
            coupons.set(await insertCoupon(clocked.sql, coupon), coupon);
          }
          // The fourth is unknown.
          const ids = [...coupons.keys(), randomUUID()];
          const sequence = new Sequence(coupons);
          for (const { requests: generatedRequests, laterMs } of batches) {
            nowMs += laterMs;
            const now = new Date(nowMs);
            await clocked.setClock(now);
            const keys = new Set<string>();
            const requests: GateRequest[] = [];
            for (const { coupon, user, requestNumber } of generatedRequests) {
              const request = requestOf(
                ids[coupon] as string,
                `user-${user}`,
                requestNumber === 0 ? "" : `life-${life}-${requestNumber}`,
              );
              const own = [`u ${coupon} ${user}`, ...(requestNumber === 0 ? [] : [`r ${requestNumber}`])];
              // The port's own condition: no (coupon, user) and no request id twice in a batch.
              if (own.some((key) => keys.has(key))) continue;
              for (const key of own) keys.add(key);
              requests.push(request);
            }
            const expected = requests.map((request) => sequence.issue(request, now));
            expect(await store.issueBatch(requests)).toEqual(expected);
            // Again, and later: the outcomes that the callers of the first time were given.
            if (laterMs % 2 === 0) expect(await store.issueBatch(requests, true)).toEqual(expected);
          }
          for (const [couponId, coupon] of coupons) {
            const rows = sequence.rows.filter((row) => row.couponId === couponId);
            const now = await stored(couponId);
            expect(now.issuedCount).toBe(coupon.issuedCount + rows.length);
            expect(now.rows).toEqual(
              rows
                .map(({ userCouponId, userId, requestId, validUntil }) => ({
                  id: userCouponId,
                  userId,
                  requestId: requestId || null,
                  validUntil,
                }))
                .sort((a, b) => (a.id < b.id ? -1 : 1)),
            );
            expect(now.events).toEqual(now.rows.map((row) => row.id));
          }
        },
      ),
      { numRuns: runs, ...seed },
    );
  });

  test("a batch that is repeated after its user coupons expired is answered as at first", async () => {
    await clocked.setClock(noon);
    const couponId = await insertCoupon(clocked.sql, openCoupon(noon, { quantity: 1, validityAfterIssueMs: 1_000 }));
    const requests = [requestOf(couponId, "u", randomUUID()), requestOf(couponId, "v", randomUUID())];
    const first = await store.issueBatch(requests);
    expect(first.map(({ outcome }) => outcome)).toEqual(["ISSUED", "REFUSED"]);
    await clocked.setClock(new Date(noon.getTime() + 2_000));
    expect(await store.issueBatch(requests, true)).toEqual(first);
  });

  test("what was issued keeps its claim window and its uses, when the coupon is edited and when the batch is repeated", async () => {
    await clocked.setClock(noon);
    const couponId = await insertCoupon(clocked.sql, openCoupon(noon, { maxUses: 3, claimWindowMs: 5_000 }));
    const requests = [requestOf(couponId, "u")];
    const first = await store.issueBatch(requests);
    expect(first).toMatchObject([{ userCoupon: { maxUses: 3, claimUntil: new Date(noon.getTime() + 5_000) } }]);
    await clocked.sql`UPDATE coupons SET max_uses = 9, claim_window_ms = 1, revision = 2 WHERE id = ${couponId}`;
    await clocked.setClock(new Date(noon.getTime() + 2_000));
    expect(await store.issueBatch(requests, true)).toEqual(first);
    await clocked.setClock(noon);
  });

  test("an empty batch is fine", async () => {
    expect(await store.issueBatch([])).toEqual([]);
  });
});

describe("request ids", () => {
  test("the same request gets the same user coupon; another user or coupon is refused", async () => {
    await clocked.setClock(noon);
    const [couponId, other] = [
      await insertCoupon(clocked.sql, openCoupon(noon)),
      await insertCoupon(clocked.sql, openCoupon(noon)),
    ];
    const requestId = randomUUID();
    const first = requestOf(couponId, "u", requestId);
    await store.issueBatch([first]);
    expect(await store.issueBatch([requestOf(couponId, "u", requestId)])).toEqual([
      { outcome: "REPLAYED", userCouponId: first.userCouponId },
    ]);
    const reused = { outcome: "REFUSED", reason: "REQUEST_ID_REUSED" };
    expect(await store.issueBatch([requestOf(couponId, "v", requestId)])).toEqual([reused]);
    expect(await store.issueBatch([requestOf(other, "u", requestId)])).toEqual([reused]);
  });

  test("a coupon that is not of the type that is asked for is not issued, unless the same request had it before", async () => {
    const couponId = await insertCoupon(clocked.sql, openCoupon(noon));
    const first = { ...requestOf(couponId, "u", randomUUID()), type: "FREE" as const };
    const other = () => ({ ...requestOf(couponId, randomUUID()), type: "STANDARD" as const });
    expect(await store.issueBatch([first])).toEqual([{ outcome: "OTHER_TYPE" }]);
    await clocked.sql`UPDATE coupons SET type = 'FREE' WHERE id = ${couponId}`;
    const outcomes = (results: IssueResult[]) => results.map(({ outcome }) => outcome);
    expect(outcomes(await store.issueBatch([other(), first, requestOf(couponId, "v")]))).toEqual([
      ...["OTHER_TYPE", "ISSUED", "ISSUED"],
    ]);
    await clocked.sql`UPDATE coupons SET type = 'STANDARD' WHERE id = ${couponId}`;
    expect(await store.issueBatch([{ ...first, userCouponId: randomUUID() }])).toEqual([
      { outcome: "REPLAYED", userCouponId: first.userCouponId },
    ]);
    expect((await stored(couponId)).issuedCount).toBe(2);
  });

  test.each(["paused_at", "deleted_at"] as const)(
    "a repetition is answered first, also when %s is set",
    async (column) => {
      const couponId = await insertCoupon(clocked.sql, openCoupon(noon));
      const first = requestOf(couponId, "u", randomUUID());
      await store.issueBatch([first]);
      await clocked.sql`UPDATE coupons SET ${clocked.sql(column)} = ${noon} WHERE id = ${couponId}`;
      expect(await store.issueBatch([{ ...first, userCouponId: randomUUID() }])).toEqual([
        { outcome: "REPLAYED", userCouponId: first.userCouponId },
      ]);
    },
  );

  /** Runs all at once: each waits for a row that is locked here until all of them do. */
  async function atOnce<T>(couponIds: readonly string[], works: readonly (() => Promise<T>)[]): Promise<T[]> {
    let running: Promise<T>[] = [];
    await clocked.sql.begin(async (tx) => {
      await tx`SELECT FROM coupons WHERE id = ANY (${[...couponIds]}::uuid[]) ORDER BY id FOR UPDATE`;
      running = works.map((work) => work());
      for (const one of running) one.catch(() => {});
      await until("all of them wait", async () => {
        const [row] = await clocked.sql`
          SELECT count(*)::int AS n FROM pg_stat_activity
          WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%issue_user_coupons%'`;
        return row?.n === works.length;
      });
    });
    return await Promise.all(running);
  }

  test("two transactions use one request id for different coupons at once: one is issued, the other refused", async () => {
    await clocked.setClock(noon);
    for (let round = 0; round < 5; round++) {
      const ids = [
        await insertCoupon(clocked.sql, openCoupon(noon)),
        await insertCoupon(clocked.sql, openCoupon(noon)),
      ] as const;
      const requestId = randomUUID();
      const results = await atOnce(
        ids,
        ids.map((id) => () => store.issueBatch([requestOf(id, "u", requestId), requestOf(id, "bystander")])),
      );
      expect(results.map(([first]) => (first?.outcome === "REFUSED" ? first.reason : first?.outcome)).sort()).toEqual([
        "ISSUED",
        "REQUEST_ID_REUSED",
      ]);
      expect(results.map(([, second]) => second?.outcome)).toEqual(["ISSUED", "ISSUED"]);
      const counts = await Promise.all(ids.map(stored));
      expect(counts.map(({ issuedCount, rows }) => issuedCount - rows.length)).toEqual([0, 0]);
      expect(counts.map(({ issuedCount }) => issuedCount).sort()).toEqual([1, 2]);
    }
  });

  test("two transactions repeat one request at once: one row, and both are told of it", async () => {
    const couponId = await insertCoupon(clocked.sql, openCoupon(noon));
    const requests = [1, 2]
      .map(() => requestOf(couponId, "u", ""))
      .map((request) => ({ ...request, requestId: `twice-${couponId}` }));
    const results = await atOnce(
      [couponId],
      requests.map((request) => () => store.issueBatch([request])),
    );
    const { rows } = await stored(couponId);
    expect(rows.length).toBe(1);
    const told = results.map(([one]) =>
      one?.outcome === "ISSUED" ? one.userCoupon.id : one?.outcome === "REPLAYED" && one.userCouponId,
    );
    expect(told).toEqual([rows[0]?.id, rows[0]?.id]);
    expect(results.map(([one]) => one?.outcome).sort()).toEqual(["ISSUED", "REPLAYED"]);
  });

  test("request ids crossed over two batches end as refusals, and not in a deadlock", async () => {
    const ids = [
      await insertCoupon(clocked.sql, openCoupon(noon)),
      await insertCoupon(clocked.sql, openCoupon(noon)),
    ] as const;
    const [r1, r2] = [`1 ${randomUUID()}`, `2 ${randomUUID()}`];
    const held = [`3 ${randomUUID()}`, `4 ${randomUUID()}`] as const;
    const batches = [
      [requestOf(ids[0], "a", r1), requestOf(ids[0], "b", held[0]), requestOf(ids[0], "c", r2)],
      [requestOf(ids[1], "a", r2), requestOf(ids[1], "b", held[1]), requestOf(ids[1], "c", r1)],
    ];
    // Both have begun to insert, and neither has ended.
    let running: Promise<IssueResult[]>[] = [];
    const others = clocked.sql.begin(async (tx) => {
      for (const requestId of held) {
        await tx`
          INSERT INTO user_coupons (id, coupon_id, user_id, request_id, issued_at, max_uses)
          VALUES (${randomUUID()}, ${randomUUID()}, 'other', ${requestId}, ${noon}, 1)`;
      }
      running = batches.map((requests) => store.issueBatch(requests));
      for (const one of running) one.catch(() => {});
      await untilWaiting(clocked.sql, running.length);
      throw new Error("they are gone");
    });
    await expect(others).rejects.toThrow("they are gone");
    const results = await Promise.all(running);
    const outcomes = results.flat().map((one) => (one.outcome === "REFUSED" ? one.reason : one.outcome));
    expect(outcomes.sort()).toEqual([...Array(4).fill("ISSUED"), "REQUEST_ID_REUSED", "REQUEST_ID_REUSED"]);
    const all = await Promise.all(ids.map(stored));
    expect(
      all
        .flatMap(({ rows }) => rows)
        .map((row) => row.requestId)
        .sort(),
    ).toEqual([r1, r2, ...held]);
    for (const { issuedCount, rows, events } of all) {
      expect(issuedCount).toBe(rows.length);
      expect(events.length).toBe(rows.length);
    }
  });
});

test("nothing is issued after its time, when its caller may have been told something else", async () => {
  const { sql } = clocked;
  const couponId = await insertCoupon(sql, openCoupon(noon));
  const patienceMs = 150;
  const untilMs = Date.now() + patienceMs;
  const late = { ...requestOf(couponId, "late", "late"), untilMs };
  const patient = { ...requestOf(couponId, "patient"), untilMs: untilMs + 60_000 };
  const all = [late, patient, requestOf(couponId, "any time")];
  const [issued] = await whileWaiting(sql, couponId, [() => store.issueBatch(all)], async () => {
    // Postgres counts from when it was asked, which it was by now.
    const askedMs = Date.now();
    await until("its time is over", () => Date.now() > askedMs + patienceMs + 1);
  });
  expect(issued).toMatchObject({ value: [{ outcome: "TOO_LATE" }, { outcome: "ISSUED" }, { outcome: "ISSUED" }] });
  // What was done in time is known when it is asked for again, however late.
  const over = Date.now() - 1;
  const again = await store.issueBatch(
    [
      { ...patient, untilMs: over },
      { ...late, untilMs: over },
    ],
    true,
  );
  expect(again.map(({ outcome }) => outcome)).toEqual(["ISSUED", "TOO_LATE"]);
  expect((await stored(couponId)).rows.map(({ userId }) => userId).sort()).toEqual(["any time", "patient"]);
});

describe("the tables' own guards, past the function", () => {
  const refusedWith = (code: string) => expect.objectContaining({ code });

  test("issued_count never exceeds quantity, nor falls below zero", async () => {
    const { sql } = clocked;
    const id = await insertCoupon(sql, openCoupon(noon, { quantity: 2, issuedCount: 2 }));
    await expect(sql`UPDATE coupons SET issued_count = 3 WHERE id = ${id}`).rejects.toEqual(refusedWith("23514"));
    await expect(sql`UPDATE coupons SET quantity = 1 WHERE id = ${id}`).rejects.toEqual(refusedWith("23514"));
    await expect(sql`UPDATE coupons SET issued_count = -1 WHERE id = ${id}`).rejects.toEqual(refusedWith("23514"));
    const unlimited = await insertCoupon(sql, openCoupon(noon, { quantity: null, issuedCount: 5 }));
    await sql`UPDATE coupons SET issued_count = issued_count + 1 WHERE id = ${unlimited}`;
    await expect(sql`UPDATE coupons SET issued_count = -1 WHERE id = ${unlimited}`).rejects.toEqual(
      refusedWith("23514"),
    );
  });

  test("a user has each slot of a coupon once, and a request id is stored once", async () => {
    const couponId = await insertCoupon(clocked.sql, openCoupon(noon));
    const holding = { couponId, userId: "u", slot: 1, requestId: `guard-${couponId}`, validUntil: null };
    await insertHoldings(clocked.sql, [holding], noon);
    const second = insertHoldings(clocked.sql, [{ ...holding, requestId: null }], noon);
    await expect(second).rejects.toEqual(refusedWith("23505"));
    const sameRequest = insertHoldings(clocked.sql, [{ ...holding, userId: "v" }], noon);
    await expect(sameRequest).rejects.toEqual(refusedWith("23505"));
    await insertHoldings(clocked.sql, [{ ...holding, requestId: null, slot: 2 }], noon);
    await insertHoldings(clocked.sql, [{ ...holding, requestId: null, slot: null }], noon);
  });

  test("a window must not be empty, and a coupon has one discount", async () => {
    const { sql } = clocked;
    await expect(insertCoupon(sql, openCoupon(noon, { startsAt: noon, expiresAt: noon }))).rejects.toEqual(
      refusedWith("23514"),
    );
    const id = await insertCoupon(sql, openCoupon(noon));
    await expect(sql`UPDATE coupons SET fixed_amount = 5 WHERE id = ${id}`).rejects.toEqual(refusedWith("23514"));
    await expect(sql`UPDATE coupons SET percentage_basis_points = 10001 WHERE id = ${id}`).rejects.toEqual(
      refusedWith("23514"),
    );
  });
});

test("eight writers over five coupons in any order: no deadlock, never over the quantity", async () => {
  await clocked.setClock(noon);
  const quantity = 60;
  const ids: string[] = [];
  for (let n = 0; n < 5; n++) ids.push(await insertCoupon(clocked.sql, openCoupon(noon, { quantity })));
  // Two connections for commits each.
  const databases = Array.from({ length: 4 }, () => openDatabase({ url: clocked.stores.databaseUrl, poolSize: 8 }));
  onTestFinished(async () => void (await Promise.all(databases.map((database) => database.close()))));
  const writers = databases.flatMap((database) => [new PostgresIssueStore(database), new PostgresIssueStore(database)]);

  const told = new Map<string, IssueResult>();
  let state = 42;
  // A small generator with a fixed seed: the same orders in each run.
  const random = (below: number) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 8) % below;
  };
  const work = writers.map((writer, w) => ({
    writer,
    batches: Array.from({ length: 8 }, (_, b) => {
      const requests = new Map<string, GateRequest>();
      for (let n = 0; n < 40; n++) {
        const request = requestOf(ids[random(ids.length)] as string, `user-${random(90)}`, `${ids[0]} ${w} ${b} ${n}`);
        requests.set(`${request.couponId} ${request.userId}`, request);
      }
      return [...requests.values()];
    }),
  }));
  await Promise.all(
    work.map(async ({ writer, batches }) => {
      for (const requests of batches) {
        const results = await issuePatiently(writer, requests);
        requests.forEach((request, index) => {
          told.set(request.userCouponId, results[index] as IssueResult);
        });
      }
    }),
  );

  for (const id of ids) {
    const { issuedCount, rows, events } = await stored(id);
    expect(issuedCount).toBe(quantity);
    expect(rows.length).toBe(quantity);
    expect(new Set(rows.map((row) => row.userId)).size).toBe(quantity);
    expect(events).toEqual(rows.map((row) => row.id));
    for (const row of rows) expect(told.get(row.id)?.outcome).toBe("ISSUED");
  }
  const results = [...told.values()];
  expect(results.filter(({ outcome }) => outcome === "ISSUED").length).toBe(quantity * ids.length);
  const reasons = new Set(results.flatMap((one) => (one.outcome === "REFUSED" ? [one.reason] : [])));
  expect([...reasons].sort()).toEqual(["ALREADY_ISSUED", "SOLD_OUT"]);
});

/** On a busy machine seven others may hold a coupon for too long. Then nothing was issued, and it is asked again. */
async function issuePatiently(writer: PostgresIssueStore, requests: readonly GateRequest[]): Promise<IssueResult[]> {
  for (;;) {
    try {
      return await writer.issueBatch(requests);
    } catch (error) {
      if (!(error instanceof CouponsHeld)) throw error;
    }
  }
}

describe("findIssued and readCounts", () => {
  test("answer for those that are stored", async () => {
    await clocked.database.reads.run(Number.POSITIVE_INFINITY, ({ sql }) => sql`SELECT 1`);
    const couponId = await insertCoupon(clocked.sql, openCoupon(noon, { quantity: 5, issuedCount: 2 }));
    const unlimited = await insertCoupon(
      clocked.sql,
      openCoupon(noon, { quantity: null, issuedCount: 2, usageCap: 9, placeCount: 2, usedCount: 1 }),
    );
    const validUntil = new Date(noon.getTime() + 5_000);
    const [a, b, c, d] = [randomUUID(), randomUUID(), randomUUID(), randomUUID()];
    const holding = { couponId, requestId: null };
    await insertHoldings(
      clocked.sql,
      [
        { ...holding, id: a, userId: "a", slot: 1, validUntil },
        { ...holding, id: b, userId: "b", slot: null, validUntil: null },
        { ...holding, id: c, userId: "c", slot: null, validUntil: null, deletedAt: noon },
        { ...holding, id: d, userId: "d", slot: null, validUntil: null, releasedAt: noon },
      ],
      noon,
    );
    expect(await store.findIssued([a, b, c, d, randomUUID()])).toEqual(
      new Map([
        [a, { validUntil, isHeld: true }],
        [b, { validUntil: null, isHeld: true }],
        [c, { validUntil: null, isHeld: false }],
        [d, { validUntil: null, isHeld: false }],
      ]),
    );
    await clocked.sql`UPDATE coupons SET deleted_total = 2, released_total = 3 WHERE id = ${unlimited}`;
    const counts = { revision: 1, updatedAt: openCoupon(noon).startsAt, givenBackTotal: 0 };
    expect(await store.readCounts([couponId, unlimited, randomUUID()])).toEqual(
      new Map([
        [couponId, { ...counts, stock: 3, remainingPlaces: null }],
        [unlimited, { ...counts, stock: null, remainingPlaces: 7, givenBackTotal: 5 }],
      ]),
    );
    expect(await store.findIssued([])).toEqual(new Map());
    expect(await store.readCounts([])).toEqual(new Map());
  });

  test.each(["findIssued", "readCounts"] as const)("%s may be the first query of a process", async (method) => {
    // The driver learns the array types of the server with its first query; one that needs them came too early.
    const database = openDatabase({ url: clocked.stores.databaseUrl, poolSize: 4 });
    onTestFinished(() => database.close());
    expect(await new PostgresIssueStore(database)[method]([randomUUID()])).toEqual(new Map());
  });
});

describe("readGate", () => {
  const pagesOf = async (couponId: string) => {
    const pages: HoldingPage[][] = [];
    const facts = await store.readGate(couponId, async (some) => {
      pages.push([...some]);
      return true;
    });
    return { facts, pages };
  };
  const inOrder = (pages: readonly HoldingPage[]) => pages.flatMap(unpackHoldings).sort(byId);
  /** What is nobody's has no id, and comes first. */
  const byId = (a: PackedHolding, b: PackedHolding) => (a.userCouponId < b.userCouponId ? -1 : 1);

  test.each([
    {
      what: "1,300 users with one each",
      users: Array.from({ length: 1_300 }, (_, n) => ({ userId: `u${n}`, count: 1 })),
      issuedCount: 1_300,
    },
    {
      what: "a user with very many",
      users: [
        { userId: "a", count: 1 },
        { userId: "b", count: 1_250 },
        { userId: "c", count: 2 },
      ],
      issuedCount: 1_253,
    },
    {
      what: "ids of all lengths and kinds",
      users: ["u", "\u{1f600}".repeat(128), "é\\x'\"", "0", "1".repeat(128)].map((userId) => ({ userId, count: 3 })),
      issuedCount: 15,
    },
    { what: "more buckets for more", users: [{ userId: "a", count: 3 }], issuedCount: 1_000_000 },
    { what: "nobody", users: [], issuedCount: 0 },
  ])("packs what users hold as packHoldings() does, and hands over each bucket once: $what", async (given) => {
    const { users, issuedCount } = given;
    await clocked.setClock(noon);
    const couponId = await insertCoupon(clocked.sql, openCoupon(noon, { quantity: 5_000_000, issuedCount }));
    const live = users.flatMap(({ userId, count }) =>
      Array.from({ length: count }, (_, n) => ({
        id: randomUUID(),
        couponId,
        userId,
        slot: n + 1,
        requestId: n % 2 ? createHash("sha256").update(`${couponId} ${userId} ${n}`).digest("hex") : null,
        validUntil: n % 3 ? null : new Date(noon.getTime() + 1),
      })),
    );
    const gone = { couponId, userId: "gone", requestId: null };
    await insertHoldings(
      clocked.sql,
      [
        ...live,
        // Its slot is not given up before somebody asks for it, so it is still counted.
        { ...gone, slot: null, validUntil: new Date(noon.getTime() + 1) },
        { ...gone, slot: null, validUntil: null, requestId: `${couponId} gone` },
      ],
      noon,
    );
    const { facts, pages } = await pagesOf(couponId);
    const stock = 5_000_000 - issuedCount;
    expect(facts).toMatchObject({ stock, revision: 1, paused: false, deleted: false, maxPerUser: 1 });
    const bucketCount = issuedCount === 1_000_000 ? 131_072 : leastBuckets;
    expect(facts?.bucketCount).toBe(bucketCount);
    const expected = packHoldings(
      live.map(({ id, requestId, ...one }) => ({ ...one, userCouponId: id, requestId: requestId ?? "" })),
      bucketCount,
      [{ userId: "gone", requestId: `${couponId} gone` }],
    );
    expect(inOrder(pages.flat())).toEqual(inOrder(expected));
  });

  test("says what the gate must know", async () => {
    const coupon = openCoupon(noon, { quantity: null, issuedCount: 3, maxPerUser: 4, pausedAt: noon });
    const couponId = await insertCoupon(clocked.sql, coupon);
    await clocked.sql`UPDATE coupons SET deleted_total = 2, released_total = 3 WHERE id = ${couponId}`;
    expect((await pagesOf(couponId)).facts).toEqual({
      exhausted: false,
      revision: 1,
      updatedAt: coupon.startsAt,
      startsAt: coupon.startsAt,
      expiresAt: coupon.expiresAt,
      paused: true,
      deleted: false,
      maxPerUser: 4,
      stock: null,
      givenBackTotal: 5,
      throttle: null,
      quota: null,
      bucketCount: leastBuckets,
    });
    await clocked.sql`
      UPDATE coupons SET throttle_concurrent = 1, throttle_per_second = 2, throttle_wait_ms = 3, quota_group = 'g',
        quota_per_day = 4 WHERE id = ${couponId}`;
    expect((await pagesOf(couponId)).facts).toMatchObject({
      throttle: { maxConcurrent: 1, maxPerSecond: 2, maxWaitMs: 3 },
      quota: { group: "g", maxPerDay: 4 },
    });
    const exhausted = await insertCoupon(clocked.sql, openCoupon(noon, { exhaustedAt: noon }));
    expect((await pagesOf(exhausted)).facts).toMatchObject({ exhausted: true, paused: false });
    expect((await pagesOf(randomUUID())).facts).toBeNull();
  });

  test("ends when the receiver says so", async () => {
    const couponId = await insertCoupon(clocked.sql, openCoupon(noon));
    const holdings = Array.from({ length: 1_200 }, (_, n) => ({
      couponId,
      userId: `u${n}`,
      slot: 1,
      requestId: null,
      validUntil: null,
    }));
    await insertHoldings(clocked.sql, holdings, noon);
    let calls = 0;
    const facts = await store.readGate(couponId, async () => {
      calls += 1;
      return false;
    });
    expect(facts).toBeNull();
    expect(calls).toBe(1);
  });

  test("stock and holders are of the same moment, though issuing goes on while they are read", async () => {
    const reader = new PostgresIssueStore(clocked.database, "UTC", { rowsAtOnce: 400, maxBytes: 1 });
    const couponId = await insertCoupon(clocked.sql, openCoupon(noon, { quantity: 2_000, issuedCount: 1_200 }));
    const holdings = Array.from({ length: 1_200 }, (_, n) => ({
      couponId,
      userId: `u${n}`,
      slot: 1,
      requestId: null,
      validUntil: null,
    }));
    await insertHoldings(clocked.sql, holdings, noon);
    const seen: string[] = [];
    let calls = 0;
    const facts = await reader.readGate(couponId, async (pages) => {
      seen.push(...pages.flatMap(unpackHoldings).map(({ userId }) => userId));
      if (++calls > 3) return true;
      const [result] = await store.issueBatch([requestOf(couponId, `zz-${calls}`)]);
      expect(result?.outcome).toBe("ISSUED");
      return true;
    });
    expect(calls).toBeGreaterThan(3);
    // Where there is no room for them, those of each step are handed over; all of them come once.
    expect(seen.sort()).toEqual(holdings.map(({ userId }) => userId).sort());
    expect(facts?.stock).toBe(800);
  });

  test("waits for an edit under way and sees what it did", async () => {
    const { sql } = clocked;
    const couponId = await insertCoupon(sql, openCoupon(noon));
    let reading: ReturnType<typeof pagesOf> | undefined;
    await sql.begin(async (tx) => {
      await tx`UPDATE coupons SET revision = 2, quantity = 7 WHERE id = ${couponId}`;
      reading = pagesOf(couponId);
      await until("the reader waits", async () => {
        const [row] = await sql`
          SELECT count(*)::int AS n FROM pg_stat_activity
          WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%FOR SHARE%'`;
        return row?.n === 1;
      });
    });
    expect((await reading)?.facts).toMatchObject({ revision: 2, stock: 7 });
  });
});
