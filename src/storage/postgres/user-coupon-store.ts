import { sql as statement } from "drizzle-orm";
import { type Reason, Refusal } from "../../domain/refusal.js";
import type { UserCoupon } from "../../domain/user-coupon.js";
import type {
  Dated,
  DeadlineMs,
  GivenBack,
  Listed,
  Page,
  RequestKey,
  UserCouponStore,
  UserCouponWithCoupon,
} from "../ports.js";
import { type CouponRow, toCoupon } from "./coupon-row.js";
import type { Database } from "./database.js";
import { guarded } from "./errors.js";
import { findEarlier, once, readClock, recordRequest } from "./requests.js";

interface UserCouponRow extends UserCoupon {
  readonly now: Date;
}

/** The columns of `user_coupons u` that make a UserCoupon. */
export function userCouponColumns(sql: Database["sql"]) {
  return sql`u.id, u.coupon_id, u.user_id, u.issued_at, u.valid_until, u.max_uses, u.use_count, u.place_count,
    u.locked_until, u.claim_until, u.released_at`;
}

interface DeletionRow extends Record<string, unknown> {
  readonly outcome: string;
  readonly coupon_id: string;
  readonly request_id: string | null;
  readonly restocked: boolean;
  readonly freed: boolean;
  readonly locked_until_ms: string | null;
}

export class PostgresUserCouponStore implements UserCouponStore {
  constructor(private readonly database: Database) {}

  async get(userId: string, userCouponId: string, deadlineMs: DeadlineMs): Promise<Dated<UserCouponWithCoupon> | null> {
    const { sql } = this.database;
    const [row] = await guarded(
      deadlineMs,
      () => sql<UserCouponRow[]>`
        SELECT ${userCouponColumns(sql)}, coupon_clock() AS now
        FROM user_coupons u WHERE u.id = ${userCouponId} AND u.user_id = ${userId} AND u.deleted_at IS NULL`,
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
        SELECT ${userCouponColumns(sql)}, clock.now
        FROM (SELECT coupon_clock() AS now OFFSET 0) clock, user_coupons u JOIN coupons c ON c.id = u.coupon_id
        WHERE u.user_id = ${userId} AND u.deleted_at IS NULL
          AND (${page.before}::uuid IS NULL OR u.id < ${page.before}::uuid)
          AND (${showExpired} OR user_coupon_status(u, c, clock.now) NOT IN ('EXPIRED', 'RELEASED'))
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

  delete(
    deletion: {
      userId: string;
      userCouponId: string;
      restock: boolean;
      deleteUsed: boolean;
      request: RequestKey | null;
    },
    beforeCommit: (given: GivenBack) => Promise<void>,
    deadlineMs: DeadlineMs,
  ): Promise<{ restocked: boolean } | Refusal> {
    const { userId, userCouponId, restock, deleteUsed, request } = deletion;
    return once(this.database, request, deadlineMs, async (tx) => {
      const earlier = await findEarlier(tx, request);
      if (earlier instanceof Refusal) return earlier;
      if (earlier) return earlier.answer as { restocked: boolean };
      const [row] = await tx.execute<DeletionRow>(
        statement`SELECT * FROM delete_user_coupon(${userId}, ${userCouponId}, ${restock}, ${deleteUsed})`,
      );
      const now = await readClock(tx);
      const { outcome, restocked } = row as DeletionRow;
      if (outcome !== "DELETED") return deletionRefusal(row as DeletionRow, now);
      const { coupon_id: couponId, request_id: requestId, freed } = row as DeletionRow;
      await beforeCommit({ couponId, userId, userCouponId, requestId: requestId ?? "", restocked, freed });
      await recordRequest(tx, { restocked }, request, now);
      return { restocked };
    });
  }

  async release(limit: number): Promise<GivenBack[]> {
    const { sql } = this.database;
    const rows = await guarded(
      Number.POSITIVE_INFINITY,
      () => sql<{ id: string; couponId: string; userId: string; requestId: string | null }[]>`
        SELECT * FROM release_user_coupons(${limit})`,
    );
    return rows.map(({ id, couponId, userId, requestId }) => ({
      couponId,
      userId,
      userCouponId: id,
      requestId: requestId ?? "",
      restocked: true,
      freed: false,
    }));
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

function deletionRefusal({ outcome, locked_until_ms: lockedUntilMs }: DeletionRow, now: Date): Refusal {
  const retryAfterMs = Math.max(1, Number(lockedUntilMs) - now.getTime());
  return new Refusal(
    outcome as Reason,
    [],
    deletionMessages[outcome],
    outcome === "LOCKED" ? { retryAfterMs } : undefined,
  );
}

const deletionMessages: Record<string, string> = {
  ALREADY_USED: "a use of the user coupon stands; delete_used deletes it all the same",
};
