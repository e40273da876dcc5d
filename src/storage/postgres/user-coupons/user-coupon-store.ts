import { sql as statement } from "drizzle-orm";
import { type Reason, Refusal } from "../../../domain/refusal.js";
import type { UserCoupon, UserCouponStatus } from "../../../domain/user-coupon.js";
import {
  type Dated,
  type DeadlineMs,
  type Listed,
  noDeadlineMs,
  type Page,
  type RequestKey,
} from "../../ports/page.js";
import type { UserChoice } from "../../ports/usages.js";
import type { FoundUserCoupon, GivenBack, UserCouponStore, UserCouponWithCoupon } from "../../ports/user-coupons.js";
import { CountedCoupons, type CouponVersion } from "../coupons/counted-coupons.js";
import { FewAtOnce } from "../coupons/few-at-once.js";
import { passingHeld } from "../coupons/held-coupons.js";
import type { Connection, Database } from "../database.js";
import { guarded } from "../errors.js";
import { findEarlier, once, readClock, recordRequest, type Tx } from "../requests.js";
import { TurnBatch } from "../turn-batch.js";
import { UserCouponPages } from "./user-coupon-page.js";

/** User coupons that are read in one query. */
const maxGets = 64;

/** Deletions of one coupon: there may be two connections for all. */
const mostAtOnce = 1;

interface UserCouponRow extends UserCoupon {
  readonly ordinal: number;
  readonly now: Date;
  readonly revision: number;
  readonly couponUpdatedAt: Date;
  readonly issuedCount: number;
  readonly usedCount: number;
  readonly couponPlaceCount: number;
  readonly exhaustedAt: Date | null;
}

/** The columns of `user_coupons u` that make a UserCoupon. */
export function userCouponColumns(sql: Connection["sql"]) {
  return sql`u.id, u.coupon_id, u.user_id, u.issued_at, u.valid_until, u.max_uses, u.use_count, u.place_count,
    u.locked_until, u.claim_until, u.released_at, u.code, u.discount, u.labels`;
}

interface DeletionRow extends Record<string, unknown> {
  readonly outcome: string;
  readonly couponId: string;
  readonly requestId: string | null;
  readonly returned: boolean;
  readonly restocked: boolean;
  readonly freed: boolean;
  readonly released: boolean;
  readonly lockedUntilMs: number | null;
  readonly givenBackNo: number | null;
}

interface ReleasedRow extends Pick<GivenBack, "couponId" | "userId" | "freed" | "givenBackNo"> {
  readonly id: string;
  readonly requestId: string | null;
}

export class PostgresUserCouponStore implements UserCouponStore {
  private readonly coupons = new CountedCoupons();
  private readonly pages: UserCouponPages;
  private readonly fewAtOnce = new FewAtOnce(mostAtOnce);
  private readonly gets = new TurnBatch<UserChoice, Dated<FoundUserCoupon> | null>({
    maxItems: maxGets,
    run: (items) => this.read(items),
  });

  constructor(private readonly database: Database) {
    this.pages = new UserCouponPages(database);
  }

  get(userId: string, userCouponId: string, deadlineMs: DeadlineMs): Promise<Dated<FoundUserCoupon> | null> {
    return guarded(deadlineMs, () => this.gets.add({ userId, userCouponId }));
  }

  list(
    userId: string,
    page: Page,
    statuses: readonly UserCouponStatus[] | null,
    deadlineMs: DeadlineMs,
  ): Promise<Listed<UserCouponWithCoupon>> {
    return this.pages.read(userId, page, statuses, deadlineMs);
  }

  async delete(
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
    const remove = async (tx: Tx) => {
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
      const { couponId, requestId, returned, freed, released, givenBackNo } = row as DeletionRow;
      // Before who released it has told the gate to put it back, this would let the gate forget it.
      if (!released || freed)
        await beforeCommit({
          ...{ couponId, userId, userCouponId, requestId: requestId ?? "" },
          ...{ restocked: returned, freed, givenBackNo },
        });
      await recordRequest(tx, { restocked }, request, now);
      return { restocked, replayed: false };
    };
    const found = await this.get(userId, userCouponId, deadlineMs);
    const couponIds = found ? [found.value.coupon.id] : [];
    return await this.fewAtOnce.run(couponIds, () => once(this.database, request, deadlineMs, remove));
  }

  async release(limit: number): Promise<GivenBack[]> {
    const rows = await passingHeld((skipHeld) =>
      this.database.background.run(
        noDeadlineMs,
        ({ sql }) => sql<ReleasedRow[]>`SELECT * FROM release_user_coupons(${limit}, ${skipHeld})`,
      ),
    );
    return rows.map(({ id, requestId, ...same }) => ({
      userCouponId: id,
      requestId: requestId ?? "",
      restocked: true,
      ...same,
    }));
  }

  async expire(limit: number): Promise<number> {
    const [row] = await passingHeld((skipHeld) =>
      this.database.background.run(
        noDeadlineMs,
        ({ sql }) => sql<{ looked: number }[]>`SELECT expire_user_coupons(${limit}, ${skipHeld}) AS looked`,
      ),
    );
    return row?.looked ?? 0;
  }

  /** One by one by their keys, at every size of the tables. */
  private read(items: readonly UserChoice[]): Promise<(Dated<FoundUserCoupon> | null)[]> {
    return this.database.reads.run(noDeadlineMs, ({ sql }) => this.readOn(sql, items));
  }

  private async readOn(
    sql: Connection["sql"],
    items: readonly UserChoice[],
  ): Promise<(Dated<FoundUserCoupon> | null)[]> {
    const rows = await sql<(UserCouponRow & { requestId: string | null })[]>`
      SELECT asked.ordinal, clock.now, u.request_id, ${userCouponColumns(sql)},
        c.revision, c.updated_at AS coupon_updated_at, c.issued_count, c.used_count, c.place_count AS coupon_place_count, c.exhausted_at
      FROM (SELECT coupon_clock() AS now OFFSET 0) clock
      CROSS JOIN (
        SELECT a.*, row_number() OVER () AS ordinal
        FROM json_to_recordset(${JSON.stringify(items)}::text::json) AS a ("userId" text, "userCouponId" uuid)
        LIMIT ${sql.unsafe(String(maxGets))}
      ) asked
      CROSS JOIN LATERAL (SELECT * FROM user_coupons WHERE id = asked."userCouponId" OFFSET 0) u
      CROSS JOIN LATERAL (SELECT * FROM coupons WHERE id = u.coupon_id OFFSET 0) c
      WHERE u.user_id = asked."userId" AND u.deleted_at IS NULL`;
    const coupons = await this.coupons.get(sql, rows.map(versionOf));
    const found = new Map(
      rows.map(
        (
          {
            ordinal,
            now,
            revision: _,
            couponUpdatedAt: _u,
            issuedCount: __,
            usedCount: ___,
            couponPlaceCount: _p,
            exhaustedAt: _e,
            requestId,
            ...row
          },
          n,
        ) => [ordinal, { value: { userCoupon: row, coupon: coupons[n]!, requestId }, now }],
      ),
    );
    return items.map((_, index) => found.get(index + 1) ?? null);
  }
}

function versionOf({
  couponId,
  revision,
  couponUpdatedAt,
  issuedCount,
  usedCount,
  couponPlaceCount,
  exhaustedAt,
}: UserCouponRow): CouponVersion {
  const counts = { issuedCount, usedCount, placeCount: couponPlaceCount, exhaustedAt };
  return { id: couponId, revision, updatedAt: couponUpdatedAt, counts };
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
