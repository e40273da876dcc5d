import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type ClockedDatabase,
  insertCoupon,
  insertHoldings,
  openClockedDatabase,
  openCoupon,
} from "./clocked-database.js";
import { insertCodes } from "./codes-world.js";

/** What the tables refuse by themselves, whatever a function or a query of the program does wrong. */
const noon = new Date("2030-06-01T12:00:00.000Z");

let clocked: ClockedDatabase;
beforeAll(async () => {
  clocked = await openClockedDatabase(noon);
  const { sql } = clocked;
  const couponId = await insertCoupon(sql, openCoupon(noon));
  await insertHoldings(sql, [{ couponId, userId: "u", slot: 1, requestId: null, validUntil: null }], noon);
  await insertCodes(sql, await insertCoupon(sql, openCoupon(noon, { quantity: 0 })), [{}]);
  await sql`
    INSERT INTO code_jobs (id, coupon_id, pattern, terms, count, created_at)
    VALUES (${randomUUID()}, ${couponId}, '#', '{}', 3, ${noon})`;
  await sql`INSERT INTO callers (name, created_at) VALUES ('shop', ${noon})`;
  await sql`
    INSERT INTO caller_keys (id, caller, scopes, hash, created_at)
    VALUES ('a', 'shop', 'use', ${Buffer.alloc(32)}, ${noon})`;
  await sql`INSERT INTO quota_days VALUES ('group', 'user', '2030-06-01', 1)`;
  await sql`
    INSERT INTO usages (id, user_coupon_id, coupon_id, user_id, product_id, order_id, currency_code, order_amount,
      discount_amount, item, used_at)
    VALUES (${randomUUID()}, ${randomUUID()}, ${couponId}, 'u', 'p', 'o', 'USD', 100, 10, 0, ${noon})`;
});
afterAll(() => clocked?.close());

/** Of each constraint: its table, what it refuses, and what it must let pass, as the SET of an UPDATE. */
const guards: readonly (readonly [name: string, table: string, refused: readonly string[], fine: readonly string[]])[] =
  [
    [
      "coupons_never_over_quantity",
      "coupons",
      [
        "issued_count = 4, quantity = 3",
        "issued_count = -1",
        "issued_count = -1, quantity = NULL, is_code_book = false",
      ],
      [
        "issued_count = 3, quantity = 3",
        "issued_count = 0",
        "issued_count = 99, quantity = NULL, is_code_book = false",
      ],
    ],
    [
      "coupons_one_discount",
      "coupons",
      ["fixed_amount = 5", "percentage_basis_points = NULL"],
      ["percentage_basis_points = NULL, fixed_amount = 5"],
    ],
    [
      "coupons_percentage",
      "coupons",
      ["percentage_basis_points = 0", "percentage_basis_points = 10001"],
      ["percentage_basis_points = 1", "percentage_basis_points = 10000"],
    ],
    [
      "coupons_window",
      "coupons",
      ["starts_at = expires_at", "starts_at = expires_at + interval '1 ms'"],
      ["starts_at = expires_at - interval '1 ms'"],
    ],
    [
      "coupons_max_per_user",
      "coupons",
      ["max_per_user = 0", "max_per_user = 101"],
      ["max_per_user = 1", "max_per_user = 100"],
    ],
    ["coupons_max_uses", "coupons", ["max_uses = 0", "max_uses = 1001"], ["max_uses = 1", "max_uses = 1000"]],
    [
      "coupons_never_over_usage_cap",
      "coupons",
      ["place_count = 6, usage_cap = 5"],
      ["place_count = 5, usage_cap = 5", "place_count = 6, usage_cap = NULL"],
    ],
    [
      "coupons_uses_have_places",
      "coupons",
      ["used_count = 3, place_count = 2", "used_count = -1"],
      ["used_count = 2, place_count = 2", "used_count = 0, place_count = 2"],
    ],
    [
      "coupons_type",
      "coupons",
      ["type = 'OTHER'", "type = ''"],
      ["type = 'FREE'", "type = 'STANDARD'", "type = 'MEGADEAL'", "type = NULL"],
    ],
    [
      "coupons_throttle",
      "coupons",
      ["throttle_concurrent = 1", "throttle_concurrent = 1, throttle_per_second = 1"],
      ["throttle_concurrent = 1, throttle_per_second = 1, throttle_wait_ms = 1"],
    ],
    ["coupons_quota", "coupons", ["quota_group = 'g'", "quota_per_day = 1"], ["quota_group = 'g', quota_per_day = 1"]],
    [
      "coupons_books_have_quantities",
      "coupons",
      ["is_code_book = true, quantity = NULL"],
      ["is_code_book = true, quantity = 10", "is_code_book = false, quantity = NULL"],
    ],
    [
      "user_coupons_never_over_max_uses",
      "user_coupons",
      ["place_count = 3, max_uses = 2"],
      ["place_count = 2, max_uses = 2"],
    ],
    [
      "user_coupons_uses_have_places",
      "user_coupons",
      ["use_count = 2, place_count = 1, max_uses = 2", "use_count = -1"],
      ["use_count = 1, place_count = 1", "use_count = 0, place_count = 1"],
    ],
    [
      "codes_never_over_max_holders",
      "codes",
      ["holder_count = 4, max_holders = 3", "holder_count = -1", "holder_count = 1, max_holders = 0"],
      ["holder_count = 3, max_holders = 3", "holder_count = 0"],
    ],
    [
      "code_jobs_never_over_count",
      "code_jobs",
      ["made_count = 4", "made_count = -1"],
      ["made_count = 3", "made_count = 0"],
    ],
    [
      "caller_keys_hash",
      "caller_keys",
      ["hash = '\\x00'", `hash = decode(repeat('00', 33), 'hex')`],
      ["hash = decode(repeat('01', 32), 'hex')"],
    ],
    ["quota_days_count", "quota_days", ["issued_count = -1"], ["issued_count = 0"]],
    [
      "usages_discount",
      "usages",
      ["discount_amount = 101", "discount_amount = -1"],
      ["discount_amount = 100", "discount_amount = 0"],
    ],
  ];

describe.each(guards)("%s", (name, table, refused, fine) => {
  const update = (changes: string) => `UPDATE ${table} SET ${changes}`;

  test.each(refused)("refuses %s", async (changes) => {
    const said = clocked.sql.unsafe(update(changes));
    await expect(said).rejects.toMatchObject({ code: "23514", constraint_name: name });
  });

  test.each(fine)("lets %s pass", async (changes) => {
    const undone = new Error("undone");
    const tried = clocked.sql.begin(async (tx) => {
      await tx.unsafe(update(changes));
      throw undone;
    });
    await expect(tried).rejects.toBe(undone);
  });
});

test("every constraint that the tables have stands here", async () => {
  const rows = await clocked.sql`
    SELECT conname AS name FROM pg_constraint
    WHERE contype = 'c' AND connamespace = 'public'::regnamespace AND conrelid <> 0 AND convalidated`;
  expect(rows.map(({ name }) => name).sort()).toEqual(guards.map(([name]) => name).sort());
});
