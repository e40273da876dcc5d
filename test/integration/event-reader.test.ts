import { randomUUID } from "node:crypto";
import type { ISql } from "postgres";
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { type Event, type EventFilter, type EventPosition, firstPosition, isWanted } from "../../src/domain/event.js";
import { positionOf } from "../../src/following/cursor.js";
import { EventReader } from "../../src/following/event-reader.js";
import { PostgresEventStore } from "../../src/storage/postgres/events/event-store.js";
import {
  type ClockedDatabase,
  insertCoupon,
  insertHoldings,
  openClockedDatabase,
  openCoupon,
} from "./clocked-database.js";

/** Readers go on after a position, and nothing that is committed later comes before it. */

const now = new Date("2026-11-10T10:00:00.000Z");
const any: EventFilter = { kinds: null, couponIds: null, couponTypes: null, userId: null, labels: null };
const limitMs = 30_000;
const never = Number.POSITIVE_INFINITY;
const couponId = randomUUID();
let world: ClockedDatabase;
let store: PostgresEventStore;
let reader: EventReader;

beforeAll(async () => {
  world = await openClockedDatabase(now, 4);
  store = new PostgresEventStore(world.database);
});
afterAll(() => world.close());
beforeEach(async () => {
  await world.sql`DELETE FROM events`;
  reader = new EventReader(store);
});

async function write(sql: ISql, ...users: string[]): Promise<void> {
  for (const user of users)
    await sql`INSERT INTO events (kind, happened_at, coupon_id, user_id) VALUES ('USER_COUPON_ISSUED', ${now}, ${couponId}, ${user})`;
}

/** A transaction, which ends with its test at the latest. */
async function begun() {
  const session = await world.sql.reserve();
  await session`BEGIN`;
  let isOpen = true;
  const end = async (how: "commit" | "abort") => {
    if (!isOpen) return;
    isOpen = false;
    await (how === "commit" ? session`COMMIT` : session`ROLLBACK`);
    session.release();
  };
  onTestFinished(() => end("abort"));
  return { session, end };
}

/** One that has written, and stays open until it is told to end. */
async function opened(...users: string[]) {
  const { session, end } = await begun();
  await write(session, ...users);
  return end;
}

/** Waits until all that is there is known: up to where that is. */
async function caughtUp(): Promise<EventPosition> {
  const to = await reader.caughtUp(limitMs);
  expect(reader.isPending, "waits for transactions that have ended").toBe(false);
  return to as EventPosition;
}

/** All that comes after a position and is known, in pages of `most`. */
async function readAfter(after: EventPosition, most = 100, filter = any, by = reader): Promise<Event[]> {
  const all: Event[] = [];
  for (let at = after; ; ) {
    const { events, lookedTo } = await by.page(at, most, filter, never);
    if (lookedTo === null) return all;
    all.push(...events.filter((event) => isWanted(event, filter)));
    at = lookedTo;
  }
}

const usersOf = (events: readonly Event[]) => events.map(({ userId }) => userId);

test("what was committed after a transaction that is still open waits for it, and comes after it", async () => {
  await write(world.sql, "before");
  const commit = await opened("late");
  await write(world.sql, "soon");
  await reader.caughtUp(60);
  // Whatever was there before it may be shown or not; what came after may not.
  expect(usersOf(await readAfter(firstPosition))).not.toContain("soon");
  await commit("commit");
  await caughtUp();
  expect(usersOf(await readAfter(firstPosition))).toEqual(["before", "late", "soon"]);
});

test("what is known goes on to be shown while a later transaction is open; one that gives up leaves no trace", async () => {
  await write(world.sql, "a", "b");
  const to = await caughtUp();
  const abort = await opened("never");
  await write(world.sql, "c");
  expect(await reader.caughtUp(60)).toEqual(to);
  expect(usersOf(await readAfter(firstPosition))).toEqual(["a", "b"]);
  await abort("abort");
  await caughtUp();
  expect(usersOf(await readAfter(to))).toEqual(["c"]);
});

test("a transaction that began first and writes last comes last, so events of a coupon are in the order of its lock", async () => {
  const { session, end } = await begun();
  // It has an id, but no number yet: it waits for the coupon that another one has.
  await session`SELECT pg_current_xact_id()`;
  await write(world.sql, "first");
  await write(session, "second");
  await end("commit");
  await caughtUp();
  expect(usersOf(await readAfter(firstPosition))).toEqual(["first", "second"]);
});

test("with writers at once, each event comes once and in order, whatever the pages and wherever one goes on", async () => {
  const writers = Array.from({ length: 3 }, (_, writer) =>
    (async () => {
      for (let batch = 0; batch < 40; batch++) {
        await world.sql.begin(async (tx) => {
          await write(tx, `${writer}-${batch}-0`);
          // Numbers are drawn between those of others.
          if (batch % 3 === 0) await tx`SELECT pg_sleep(0.005)`;
          await write(tx, `${writer}-${batch}-1`);
        });
      }
    })(),
  );
  let isWriting = true;
  const written = Promise.all(writers).finally(() => {
    isWriting = false;
  });
  const seen: Event[] = [];
  let at = firstPosition;
  let rounds = 0;
  while (isWriting || at.seq < (await caughtUp()).seq) {
    // Another replica, which knows nothing but the position, every few rounds.
    if (++rounds % 5 === 0) reader = new EventReader(store);
    await reader.advance();
    const { events, lookedTo } = await reader.page(at, 7, any, never);
    seen.push(...events);
    at = lookedTo ?? at;
  }
  await written;
  const stored = await world.sql`SELECT seq::int FROM events ORDER BY seq`;
  expect(stored.length).toBe(240);
  expect(seen.map(({ position }) => position.seq)).toEqual(stored.map(({ seq }) => seq));
});

describe("a position", () => {
  test("whose month was dropped is too old, and the oldest one is told; the place before the oldest is not", async () => {
    await write(world.sql, "old", "older", "kept");
    await caughtUp();
    const [first, , third] = await readAfter(firstPosition);
    await world.sql`DELETE FROM events WHERE user_id <> 'kept'`;
    const refusal = await reader.check(first!.position, never);
    expect(refusal?.reason).toBe("CURSOR_TOO_OLD");
    const oldest = positionOf(refusal!.detail.facts!.oldest_cursor as string) as EventPosition;
    expect(await reader.check(oldest, never)).toBeUndefined();
    expect(usersOf(await readAfter(oldest))).toEqual(["kept"]);
    expect(await reader.check(third!.position, never)).toBeUndefined();
    expect(await reader.check(firstPosition, never)).toBeUndefined();
  });

  test("at which another event stands by now is of a history that was lost, and readers begin anew", async () => {
    await write(world.sql, "a", "b");
    await caughtUp();
    const { history } = reader;
    const [, b] = await readAfter(firstPosition);
    // As after a promotion that has lost the last commit and gave its number again.
    await world.sql.begin(async (tx) => {
      await tx`DELETE FROM events WHERE user_id = 'b'`;
      await tx`INSERT INTO events (seq, kind, happened_at, coupon_id, user_id) OVERRIDING SYSTEM VALUE
        VALUES (${b!.position.seq}, 'USER_COUPON_ISSUED', ${now}, ${couponId}, 'other')`;
    });
    expect((await reader.check(b!.position, never))?.reason).toBe("CURSOR_TOO_OLD");
    await caughtUp();
    expect(reader.history).not.toBe(history);
    expect(usersOf(await readAfter(firstPosition))).toEqual(["a", "other"]);
  });
});

test("what waits to be decided when a primary is lost with it says nothing of the events of the next one", async () => {
  await write(world.sql, "a");
  await caughtUp();
  const abort = await opened("late");
  await write(world.sql, "lost");
  await reader.advance();
  const { history } = reader;
  // As after a promotion that has lost both: their numbers are given again, and the first of them is not committed yet.
  const [lost] = await world.sql`DELETE FROM events WHERE user_id = 'lost' RETURNING seq::int`;
  await abort("abort");
  const add = (sql: ISql, seq: number, user: string) => sql`
    INSERT INTO events (seq, kind, happened_at, coupon_id, user_id) OVERRIDING SYSTEM VALUE
    VALUES (${seq}, 'USER_COUPON_ISSUED', ${now}, ${couponId}, ${user})`;
  const { session, end } = await begun();
  await add(session, lost!.seq - 1, "first");
  await add(world.sql, lost!.seq, "second");
  await reader.advance();
  expect(reader.history).not.toBe(history);
  expect(usersOf(await readAfter(firstPosition))).not.toContain("second");
  await end("commit");
  await caughtUp();
  expect(usersOf(await readAfter(firstPosition))).toEqual(["a", "first", "second"]);
});

test("a head is decided when those who were at work then have ended, whoever else is at work by then", async () => {
  let newest = 0;
  const head = async () => {
    newest += 1;
    // Each transaction ends when the next one has begun.
    return { newest: { seq: newest, xid: "7" }, isKnown: true, open: [`transaction ${newest}`] };
  };
  const busy = new EventReader(Object.assign(Object.create(store), { head }));
  expect([await busy.advance(), (await busy.advance())?.seq, (await busy.advance())?.seq]).toEqual([null, 1, 2]);
});

test("events have what is known of what they are about, and are filtered by it", async () => {
  const megadeal = await insertCoupon(world.sql, openCoupon(now));
  await world.sql`UPDATE coupons SET type = 'MEGADEAL', labels = '{"shop": "a"}' WHERE id = ${megadeal}`;
  const userCouponId = randomUUID();
  const held = { couponId: megadeal, userId: "u", slot: 1, requestId: null, validUntil: null, id: userCouponId };
  await insertHoldings(world.sql, [held], now);
  await world.sql`UPDATE user_coupons SET code = 'SAVE', labels = '{"by": "mail"}' WHERE id = ${userCouponId}`;
  const usageId = randomUUID();
  await world.sql`
    INSERT INTO usages (id, user_coupon_id, coupon_id, user_id, product_id, order_id, currency_code, order_amount, discount_amount, item, used_at, code, labels)
    VALUES (${usageId}, ${userCouponId}, ${megadeal}, 'u', 'p', 'o', 'EUR', 1000, 150, 0, ${now}, 'SAVE', '{"by": "app", "ab": "1"}')`;
  const detail = (of: object) => world.sql.json(of as never);
  await world.sql`
    INSERT INTO events (kind, happened_at, coupon_id, user_coupon_id, user_id, usage_id, detail) VALUES
    ('COUPON_UPDATED', ${now}, ${megadeal}, NULL, NULL, NULL, ${detail({ revision: 3 })}),
    ('USER_COUPON_ISSUED', ${now}, ${megadeal}, ${userCouponId}, 'u', NULL, NULL),
    ('USER_COUPON_USED', ${now}, ${megadeal}, ${userCouponId}, 'u', ${usageId}, NULL),
    ('CODES_UPLOADED', ${now}, ${megadeal}, NULL, NULL, NULL, ${detail({ codeCount: 5, placeCount: 7 })}),
    ('USER_COUPONS_PURGED', ${now}, ${megadeal}, NULL, NULL, NULL, ${detail({ expired: 1, deleted: 2, released: 3 })}),
    ('USER_COUPON_ISSUED', ${now}, ${randomUUID()}, ${randomUUID()}, 'gone', NULL, NULL)`;
  await caughtUp();
  const all = await readAfter(firstPosition);
  expect(all.map(({ position: _, happenedAt: __, ...rest }) => rest)).toMatchObject([
    {
      kind: "COUPON_UPDATED",
      couponType: "MEGADEAL",
      couponRevision: 3,
      labels: { shop: "a" },
      code: null,
      usage: null,
    },
    { kind: "USER_COUPON_ISSUED", userCouponId, code: "SAVE", labels: { by: "mail" }, count: null },
    {
      kind: "USER_COUPON_USED",
      usage: {
        ...{ id: usageId, orderId: "o", productId: "p" },
        orderAmount: { currencyCode: "EUR", minorUnits: 1000 },
        discountAmount: { currencyCode: "EUR", minorUnits: 150 },
      },
      labels: { by: "app", ab: "1" },
    },
    { kind: "CODES_UPLOADED", count: 5 },
    { kind: "USER_COUPONS_PURGED", count: 6 },
    { kind: "USER_COUPON_ISSUED", couponType: null, labels: null, code: null },
  ]);
  const cases: [Partial<EventFilter>, number[]][] = [
    [{ kinds: ["USER_COUPON_ISSUED", "CODES_UPLOADED"] }, [1, 3, 5]],
    [{ couponIds: [megadeal], kinds: ["USER_COUPON_ISSUED"] }, [1]],
    [{ couponTypes: ["MEGADEAL"] }, [0, 1, 2, 3, 4]],
    [{ couponTypes: ["FREE"] }, []],
    [{ userId: "u" }, [1, 2]],
    [{ userId: "u", labels: { by: "app" } }, [2]],
    [{ labels: { by: "app", ab: "2" } }, []],
    [{ labels: { shop: "a" } }, [0, 3, 4]],
  ];
  for (const [filter, wanted] of cases) {
    const found = await readAfter(firstPosition, 2, { ...any, ...filter });
    expect(found, JSON.stringify(filter)).toEqual(wanted.map((index) => all[index]));
    expect(all.filter((event) => isWanted(event, { ...any, ...filter }))).toEqual(found);
  }
});

test("an empty table has a position, after which the first event comes", async () => {
  expect(await caughtUp()).toEqual(firstPosition);
  await write(world.sql, "first of all");
  await caughtUp();
  expect(usersOf(await readAfter(firstPosition))).toEqual(["first of all"]);
});
