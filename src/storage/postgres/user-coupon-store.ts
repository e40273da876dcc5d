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
import type { Connection, Database } from "./database.js";
import { findEarlier, once, readClock, recordRequest } from "./requests.js";
import { UserCouponPages } from "./user-coupon-page.js";

interface UserCouponRow extends UserCoupon {
  readonly now: Date;
}

/** The columns of `user_coupons u` that make a UserCoupon. */
export function userCouponColumns(sql: Connection["sql"]) {
  return sql`u.id, u.coupon_id, u.user_id, u.issued_at, u.valid_until, u.max_uses, u.use_count, u.place_count,
    u.locked_until, u.claim_until, u.released_at, u.code, u.discount`;
}

interface DeletionRow extends Record<string, unknown> {
  readonly outcome: string;
  readonly couponId: string;
  readonly requestId: string | null;
  readonly restocked: boolean;
  readonly freed: boolean;
  readonly lockedUntilMs: number | null;
}

export class PostgresUserCouponStore implements UserCouponStore {
  private readonly pages: UserCouponPages;

  constructor(private readonly database: Database) {
    this.pages = new UserCouponPages(database);
  }

  async get(userId: string, userCouponId: string, deadlineMs: DeadlineMs): Promise<Dated<UserCouponWithCoupon> | null> {
    const [row] = await this.database.reads.run(
      deadlineMs,
      ({ sql }) => sql<UserCouponRow[]>`
        SELECT ${userCouponColumns(sql)}, coupon_clock() AS now
        FROM user_coupons u WHERE u.id = ${userCouponId} AND u.user_id = ${userId} AND u.deleted_at IS NULL`,
    );
    if (!row) return null;
    const { now, ...userCoupon } = row;
    const [coupon] = await this.database.reads.run(
      deadlineMs,
      ({ sql }) => sql<CouponRow[]>`SELECT * FROM coupons WHERE id = ${userCoupon.couponId}`,
    );
    return { value: { userCoupon, coupon: toCoupon(coupon!) }, now };
  }

  list(
    userId: string,
    page: Page,
    showExpired: boolean,
    deadlineMs: DeadlineMs,
  ): Promise<Listed<UserCouponWithCoupon>> {
    return this.pages.read(userId, page, showExpired, deadlineMs);
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
  ): Promise<{ restocked: boolean; replayed: boolean } | Refusal> {
    const { userId, userCouponId, restock, deleteUsed, request } = deletion;
    return once(this.database, request, deadlineMs, async (tx) => {
      const earlier = await findEarlier(tx, request);
      if (earlier instanceof Refusal) return earlier;
      if (earlier) return replayOf(earlier.answer);
      const [row] = await tx.execute<DeletionRow>(
        statement`SELECT * FROM delete_user_coupon(${userId}, ${userCouponId}, ${restock}, ${deleteUsed})`,
      );
      const now = await readClock(tx);
      const { outcome, restocked } = row as DeletionRow;
      if (outcome !== "DELETED") {
        // Unless it was this very request, at the same moment, that has done it.
        const winner = await findEarlier(tx, request);
        if (winner instanceof Refusal || !winner) return winner ?? deletionRefusal(row as DeletionRow, now);
        return replayOf(winner.answer);
      }
      const { couponId, requestId, freed } = row as DeletionRow;
      await beforeCommit({ couponId, userId, userCouponId, requestId: requestId ?? "", restocked, freed });
      await recordRequest(tx, { restocked }, request, now);
      return { restocked, replayed: false };
    });
  }

  async release(limit: number): Promise<GivenBack[]> {
    const rows = await this.database.background.run(
      Number.POSITIVE_INFINITY,
      ({ sql }) => sql<{ id: string; couponId: string; userId: string; requestId: string | null; freed: boolean }[]>`
        SELECT * FROM release_user_coupons(${limit})`,
    );
    return rows.map(({ id, couponId, userId, requestId, freed }) => ({
      couponId,
      userId,
      userCouponId: id,
      requestId: requestId ?? "",
      restocked: true,
      freed,
    }));
  }

  async lapse(limit: number): Promise<number> {
    const [row] = await this.database.background.run(
      Number.POSITIVE_INFINITY,
      ({ sql }) => sql<{ looked: number }[]>`SELECT lapse_user_coupons(${limit}) AS looked`,
    );
    return row?.looked ?? 0;
  }
}

function replayOf(answer: unknown): { restocked: boolean; replayed: boolean } {
  return { restocked: (answer as { restocked: boolean }).restocked, replayed: true };
}

function deletionRefusal({ outcome, lockedUntilMs }: DeletionRow, now: Date): Refusal {
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
