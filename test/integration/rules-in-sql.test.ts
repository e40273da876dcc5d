import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type ChosenCoupon, judgeOrder } from "../../src/domain/usage.js";
import { type UserCouponStatus, userCouponStatus } from "../../src/domain/user-coupon.js";
import { type UserCouponState, userCouponStates } from "../support/user-coupon-states.js";
import { type ClockedDatabase, openClockedDatabase } from "./clocked-database.js";

const noon = new Date("2030-06-01T12:00:00.000Z");
const seed = process.env.MODEL_SEED === undefined ? {} : { seed: Number(process.env.MODEL_SEED) };
const runs = Number(process.env.MODEL_RUNS ?? 60);
/** Thousands of cases in few queries. */
const cases = { minLength: 200, maxLength: 400, size: "max" } as const;

let clocked: ClockedDatabase;

beforeAll(async () => {
  clocked = await openClockedDatabase(noon);
});
afterAll(() => clocked?.close());

/** Rows of the two tables as jsonb_populate_record() takes them: the columns that the rules read. */
function rowsOf({ userCoupon, coupon, lockVersion }: UserCouponState) {
  const text = (moment: Date | null) => moment?.toISOString() ?? null;
  return {
    u: {
      valid_until: text(userCoupon.validUntil),
      max_uses: userCoupon.maxUses,
      use_count: userCoupon.useCount,
      place_count: userCoupon.placeCount,
      locked_until: text(userCoupon.lockedUntil),
      lock_version: lockVersion,
      claim_until: text(userCoupon.claimUntil),
      released_at: text(userCoupon.releasedAt),
    },
    c: {
      expires_at: text(coupon.expiresAt),
      revoked_at: text(coupon.revokedAt),
      exhausted_at: text(coupon.exhaustedAt),
    },
  };
}

test("user_coupon_status says what userCouponStatus says, equal instants included", async () => {
  const seen = new Set<UserCouponStatus>();
  await fc.assert(
    fc.asyncProperty(fc.array(userCouponStates(noon), cases), async (all) => {
      const rows = await clocked.sql`
        SELECT user_coupon_status(
          jsonb_populate_record(NULL::user_coupons, f -> 'u'), jsonb_populate_record(NULL::coupons, f -> 'c'), ${noon}
        ) AS status
        FROM jsonb_array_elements(${clocked.sql.json(all.map(rowsOf))}) WITH ORDINALITY AS one (f, ord) ORDER BY ord`;
      const expected = all.map(({ userCoupon, coupon }) => userCouponStatus(userCoupon, coupon, noon));
      for (const status of expected) seen.add(status);
      expect(rows.map((row) => row.status)).toEqual(expected);
    }),
    { numRuns: runs, ...seed },
  );
  expect([...seen].sort()).toEqual(["EXPIRED", "LOCKED", "READY", "RELEASED", "REVOKED", "USED"]);
});

test("usage_refusal gives the first reason that judgeOrder gives, equal instants included", async () => {
  const seen = new Set<string | null>();
  const asked = fc.record({ state: userCouponStates(noon), givenVersion: fc.nat(2) });
  await fc.assert(
    fc.asyncProperty(fc.array(asked, cases), async (all) => {
      const facts = all.map(({ state, givenVersion }) => ({ ...rowsOf(state), given: givenVersion }));
      const rows = await clocked.sql`
        SELECT usage_refusal(
          jsonb_populate_record(NULL::user_coupons, f -> 'u'), jsonb_populate_record(NULL::coupons, f -> 'c'),
          (f ->> 'given')::bigint, ${noon}
        ) AS reason
        FROM jsonb_array_elements(${clocked.sql.json(facts)}) WITH ORDINALITY AS one (f, ord) ORDER BY ord`;
      const expected = all.map(({ state, givenVersion }) => {
        // Without an amount, and alone in its order: what is left is what the function knows of.
        const order = {
          userId: "u",
          choices: [{ userCouponId: "x", lockVersion: givenVersion }],
          productId: "",
          orderId: "",
        };
        const chosen = { ...state, lockToken: null } as ChosenCoupon;
        return judgeOrder({ ...order, amount: null }, [chosen], noon).objections[0]?.[0] ?? null;
      });
      for (const reason of expected) seen.add(reason);
      expect(rows.map((row) => row.reason)).toEqual(expected);
    }),
    { numRuns: runs, ...seed },
  );
  expect([...seen].map(String).sort()).toEqual(
    [
      "ALREADY_USED",
      "LOCKED",
      "LOCK_LOST",
      "USAGE_CAP_REACHED",
      "USER_COUPON_EXPIRED",
      "USER_COUPON_RELEASED",
      "USER_COUPON_REVOKED",
      "null",
    ].sort(),
  );
});
