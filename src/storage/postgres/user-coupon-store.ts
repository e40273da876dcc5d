import type { UserCoupon } from "../../domain/user-coupon.js";
import type { Dated, DeadlineMs, Listed, Page, UserCouponStore, UserCouponWithCoupon } from "../ports.js";
import { type CouponRow, toCoupon } from "./coupon-row.js";
import type { Database } from "./database.js";
import { guarded } from "./errors.js";

interface UserCouponRow extends UserCoupon {
  readonly now: Date;
}

export class PostgresUserCouponStore implements UserCouponStore {
  constructor(private readonly database: Database) {}

  async get(userId: string, userCouponId: string, deadlineMs: DeadlineMs): Promise<Dated<UserCouponWithCoupon> | null> {
    const { sql } = this.database;
    const [row] = await guarded(
      deadlineMs,
      () => sql<UserCouponRow[]>`
        SELECT id, coupon_id, user_id, issued_at, valid_until, coupon_clock() AS now
        FROM user_coupons WHERE id = ${userCouponId} AND user_id = ${userId}`,
    );
    if (!row) return null;
    const coupons = await this.couponsOf([row], deadlineMs);
    return { value: withCoupon(row, coupons), now: row.now };
  }

  async list(
    userId: string,
    page: Page,
    showExpired: boolean,
    deadlineMs: DeadlineMs,
  ): Promise<Listed<UserCouponWithCoupon>> {
    const { sql } = this.database;
    const rows = await guarded(
      deadlineMs,
      () => sql<UserCouponRow[]>`
        SELECT u.id, u.coupon_id, u.user_id, u.issued_at, u.valid_until, clock.now
        FROM (SELECT coupon_clock() AS now OFFSET 0) clock, user_coupons u JOIN coupons c ON c.id = u.coupon_id
        WHERE u.user_id = ${userId}
          AND (${page.before}::uuid IS NULL OR u.id < ${page.before}::uuid)
          AND (${showExpired} OR user_coupon_status(u.valid_until, c.expires_at, c.revoked_at, clock.now) <> 'EXPIRED')
        ORDER BY u.id DESC
        LIMIT ${page.size + 1}`,
    );
    const kept = rows.slice(0, page.size);
    const coupons = await this.couponsOf(kept, deadlineMs);
    return {
      rows: kept.map((row) => withCoupon(row, coupons)),
      hasMore: rows.length > page.size,
      now: rows[0]?.now ?? new Date(0),
    };
  }

  /** Each coupon once, however many of the rows are of it. */
  private async couponsOf(rows: readonly UserCouponRow[], deadlineMs: DeadlineMs): Promise<Map<string, CouponRow>> {
    const ids = [...new Set(rows.map((row) => row.couponId))];
    if (ids.length === 0) return new Map();
    const { sql } = this.database;
    const found = await guarded(
      deadlineMs,
      () => sql<CouponRow[]>`SELECT * FROM coupons WHERE id = ANY (${ids}::uuid[])`,
    );
    return new Map(found.map((coupon) => [coupon.id, coupon]));
  }
}

function withCoupon({ now: _, ...userCoupon }: UserCouponRow, coupons: Map<string, CouponRow>): UserCouponWithCoupon {
  return { userCoupon, coupon: toCoupon(coupons.get(userCoupon.couponId) as CouponRow) };
}
