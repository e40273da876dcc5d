import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { presentStatuses } from "../../src/domain/user-coupon.js";
import { newId } from "../../src/platform/new-id.js";
import { listUserCoupons } from "../../src/services/user-coupon/list-user-coupons.js";
import type { UsageStore } from "../../src/storage/ports/usages.js";
import { PostgresUserCouponStore } from "../../src/storage/postgres/user-coupons/user-coupon-store.js";
import { callContext } from "../support/call-context.js";
import { type ClockedDatabase, insertCoupon, openClockedDatabase, openCoupon } from "./clocked-database.js";

const noon = new Date("2026-11-21T12:00:00Z");
const deadlineMs = Number.POSITIVE_INFINITY;
const after = (ms: number) => new Date(noon.getTime() + ms);

let clocked: ClockedDatabase;
let store: PostgresUserCouponStore;
let couponIds: string[];

beforeAll(async () => {
  clocked = await openClockedDatabase(noon);
  store = new PostgresUserCouponStore(clocked.database);
  couponIds = await Promise.all(
    [0, 1, 2].map((n) => insertCoupon(clocked.sql, openCoupon(noon, { expiresAt: after(60_000 * (n + 1)) }))),
  );
});

afterAll(() => clocked?.close());

type Facts = Record<string, Date | number | null | Readonly<Record<string, string>>>;

const live: Facts = {};
const expired: Facts = { valid_until: noon };
const released: Facts = { released_at: noon };
const deleted: Facts = { deleted_at: noon };

/** Gives a new user these, the first one being the oldest. */
async function userWith(held: readonly Facts[]): Promise<string> {
  const userId = `user ${randomUUID()}`;
  for (const [index, facts] of held.entries()) {
    const row = { id: newId(Date.now()), coupon_id: couponIds[index % 3]!, user_id: userId, issued_at: noon, ...facts };
    await clocked.sql`INSERT INTO user_coupons ${clocked.sql(row)}`;
  }
  return userId;
}

/** What Postgres says of all that a user holds. */
async function expectedOf(userId: string, showExpired: boolean): Promise<string[]> {
  const rows = await clocked.sql`
    SELECT u.id, user_coupon_status(u, c, coupon_clock()) AS status
    FROM user_coupons u JOIN coupons c ON c.id = u.coupon_id
    WHERE u.user_id = ${userId} AND u.deleted_at IS NULL ORDER BY u.id DESC`;
  return rows.filter(({ status }) => showExpired || !["EXPIRED", "RELEASED"].includes(status)).map(({ id }) => id);
}

async function pagesOf(userId: string, size: number, showExpired: boolean): Promise<string[][]> {
  const pages: string[][] = [];
  let before: string | null = null;
  for (;;) {
    const { rows, next } = await store.list(userId, { before, size }, showExpired ? null : presentStatuses, deadlineMs);
    pages.push(rows.map(({ userCoupon }) => userCoupon.id));
    if (next === null) return pages;
    before = next;
  }
}

const times = (count: number, facts: Facts) => Array.from({ length: count }, () => facts);

test.for([
  ["nothing", []],
  ["live ones only", times(7, live)],
  ["expired ones only", times(7, expired)],
  ["expired ones in front of live ones", [...times(5, live), ...times(9, expired)]],
  ["live ones in front of expired ones", [...times(9, expired), ...times(5, live)]],
  ["all kinds in turn", times(4, live).flatMap((one) => [one, expired, deleted, one, released])],
  ["one live one behind many", [live, ...times(20, released), ...times(20, deleted)]],
] as const)("pages of a user with %s", async ([, held]) => {
  const userId = await userWith(held);
  for (const showExpired of [false, true]) {
    const expected = await expectedOf(userId, showExpired);
    for (const size of [1, 2, 3, 4, 5, 6, 7, 8, 50]) {
      // Twice, for the second time comes from what is remembered.
      for (let round = 0; round < 2; round++) {
        const pages = await pagesOf(userId, size, showExpired);
        expect(pages.flat()).toEqual(expected);
        expect(pages.length).toBe(Math.max(1, Math.ceil(expected.length / size)));
      }
    }
  }
});

test("a list that is asked for again and again shows each change, and what passes by time alone", async () => {
  const changes: Facts[] = [
    { locked_until: after(1_000) },
    { locked_until: after(2_000) },
    { locked_until: null, max_uses: 3 },
    { place_count: 1 },
    { use_count: 1 },
    { labels: { campaign: "spring, 50 %" } },
    { claim_until: after(50_000) },
    { valid_until: after(20_000) },
  ];
  const userId = await userWith([live, live]);
  const [id] = await expectedOf(userId, false);
  const list = listUserCoupons(store, { ofUserCoupons: async () => [] } as unknown as UsageStore);
  const none = { pageSize: 0, pageToken: "", statuses: [] };
  const request = { $typeName: "coupon.v1.ListUserCouponsRequest" as const, ...none };
  const listed = () => list({ ...request, userId, showExpired: true, showUsages: false }, callContext(deadlineMs));
  const fresh = () =>
    listUserCoupons(new PostgresUserCouponStore(clocked.database), {} as UsageStore)(
      { ...request, userId, showExpired: true, showUsages: false },
      callContext(deadlineMs),
    );
  const expectFresh = async () => {
    for (let round = 0; round < 3; round++) expect(await listed()).toEqual(await fresh());
  };
  await expectFresh();
  for (const facts of changes) {
    await clocked.sql`UPDATE user_coupons SET ${clocked.sql(facts)} WHERE id = ${id!}`;
    await expectFresh();
  }
  await clocked.sql`UPDATE coupons SET issued_count = 5, used_count = 2, place_count = 3`;
  await expectFresh();
  await clocked.sql`UPDATE coupons SET name = 'another', revision = revision + 1`;
  await expectFresh();
  for (const ms of [999, 1_000, 2_000, 19_999, 20_000, 60_000, 120_000, 180_000]) {
    await clocked.setClock(after(ms));
    await expectFresh();
  }
  await clocked.setClock(noon);
});

test("what is unchanged is the very same answer", async () => {
  const userId = await userWith([live, { max_uses: 2, place_count: 1, use_count: 1 }]);
  const list = listUserCoupons(store, { ofUserCoupons: async () => [] } as unknown as UsageStore);
  const none = { pageSize: 0, pageToken: "", statuses: [] };
  const request = { $typeName: "coupon.v1.ListUserCouponsRequest" as const, userId, ...none };
  const ask = (showUsages: boolean) => list({ ...request, showExpired: false, showUsages }, callContext(deadlineMs));
  const first = await ask(false);
  expect(await ask(false)).toBe(first);
  expect(await ask(true)).not.toBe(first);
  expect(await ask(false)).toBe(first);
});
