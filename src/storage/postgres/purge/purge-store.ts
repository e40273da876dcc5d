import { noDeadlineMs } from "../../ports/page.js";
import type { EndedCouponWalk, EndedPage, PurgeBatch, PurgeStore, PurgeTerms, PurgeWalk } from "../../ports/purge.js";
import type { Connection, Database } from "../database.js";

/** Before everything that has a time. */
const beginning = "-infinity";
const leastId = "00000000-0000-0000-0000-000000000000";

interface LookedRow {
  readonly id: string;
  readonly hasUnused: boolean;
  readonly hasFreeCodes: boolean;
}

/** A row on the walk: its id, and the cursor that goes on after it, as `from` wants it. */
interface Step {
  readonly id: string;
  readonly cursor: string;
}

export class PostgresPurgeStore implements PurgeStore {
  constructor(private readonly database: Database) {}

  async findEnded(
    { afterDays, deletedCodesKeepHours, batchSize }: PurgeTerms,
    after: string | null,
  ): Promise<EndedPage> {
    const looked = await this.database.background.run(
      noDeadlineMs,
      ({ sql }) => sql<LookedRow[]>`
        SELECT * FROM list_coupons_to_purge(${after ?? leastId}, ${afterDays}::int * interval '24 hours',
          ${deletedCodesKeepHours}::int * interval '1 hour', ${batchSize})`,
    );
    const walks = looked.flatMap(({ id: couponId, hasUnused, hasFreeCodes }): EndedCouponWalk[] => [
      ...(hasUnused ? [{ kind: "USER_COUPONS_OF_ENDED_COUPON", couponId } as const] : []),
      ...(hasFreeCodes ? [{ kind: "FREE_CODES_OF_ENDED_COUPON", couponId } as const] : []),
    ]);
    return { walks, next: looked.length < batchSize ? null : (looked.at(-1)?.id ?? null) };
  }

  async purge(walk: PurgeWalk, terms: PurgeTerms, from: string | null): Promise<PurgeBatch | "BUSY"> {
    const { afterDays, deletedCodesKeepHours, dryRun, batchSize } = terms;
    const steps = await this.database.background.run(noDeadlineMs, ({ sql }) => this.steps(sql, walk, terms, from));
    if (steps.length === 0) return { userCoupons: 0, codes: 0, next: null };
    const ids = steps.map(({ id }) => id);
    const ofEnded = "couponId" in walk;
    const [done] = await this.database.background.run(noDeadlineMs, ({ sql }) =>
      walk.kind === "ENDED_USER_COUPONS" || walk.kind === "USER_COUPONS_OF_ENDED_COUPON"
        ? sql<{ userCouponCount: number; codeCount: number }[]>`
            SELECT * FROM purge_user_coupons(${ids}::uuid[], ${ofEnded}, ${afterDays}, ${dryRun})`
        : sql<{ userCouponCount: number; codeCount: number }[]>`
            SELECT 0 AS user_coupon_count, code_count
            FROM purge_codes(${ids}::text[]::bigint[], ${afterDays}, ${deletedCodesKeepHours}, ${dryRun})`,
    );
    if (!done) return "BUSY";
    const next = steps.length < batchSize ? null : (steps.at(-1)?.cursor ?? null);
    return { userCoupons: done.userCouponCount, codes: done.codeCount, next };
  }

  async purgeRecords({
    afterDays,
    dryRun,
    batchSize,
  }: PurgeTerms): Promise<{ requests: number; quotaDays: number } | "BUSY"> {
    const [done] = await this.database.background.run(
      noDeadlineMs,
      ({ sql }) => sql<{ requestCount: number; quotaDayCount: number }[]>`
        SELECT * FROM purge_records(${batchSize}, ${afterDays}, ${dryRun})`,
    );
    return done ? { requests: done.requestCount, quotaDays: done.quotaDayCount } : "BUSY";
  }

  /** The next rows of the walk; each is looked at again when its coupon is locked. */
  private steps(sql: Connection["sql"], walk: PurgeWalk, { afterDays, batchSize }: PurgeTerms, from: string | null) {
    // A subquery, so that an index is read up to it and no further.
    const horizon = sql`(SELECT coupon_clock() - ${afterDays}::int * interval '24 hours')`;
    const [first, last] = from?.split("|") ?? [];
    switch (walk.kind) {
      case "ENDED_USER_COUPONS":
        return sql<Step[]>`
          SELECT u.id, concat_ws('|', u.gone_at, u.id) AS cursor FROM user_coupons u
          WHERE u.gone_at <= ${horizon}
            AND (u.gone_at, u.id) > (${first ?? beginning}::text::timestamptz, ${last ?? leastId}::uuid)
          ORDER BY u.gone_at, u.id LIMIT ${batchSize}`;
      case "USER_COUPONS_OF_ENDED_COUPON":
        return sql<Step[]>`
          SELECT u.id, u.id AS cursor FROM user_coupons u
          WHERE u.coupon_id = ${walk.couponId} AND u.max_uses > 0 AND u.id > ${from ?? leastId}::uuid
          ORDER BY u.coupon_id, u.id LIMIT ${batchSize}`;
      case "EXPIRED_CODES":
        return sql<Step[]>`
          SELECT k.id::text, concat_ws('|', k.retired_at, k.id) AS cursor FROM codes k
          WHERE k.holder_count = 0 AND k.retired_at <= ${horizon}
            AND (k.retired_at, k.id) > (${first ?? beginning}::text::timestamptz, ${last ?? "0"}::text::bigint)
          ORDER BY k.retired_at, k.id LIMIT ${batchSize}`;
      case "FREE_CODES_OF_ENDED_COUPON":
        return sql<Step[]>`
          SELECT k.id::text, concat_ws('|', k.pick_key, k.id) AS cursor FROM codes k
          WHERE k.coupon_id = ${walk.couponId} AND k.holder_count < k.max_holders AND k.retired_at IS NULL
            AND k.pick_key >= ${first ?? "0"}::text::bigint
            AND (k.pick_key, k.id) > (${first ?? "0"}::text::bigint, ${last ?? "0"}::text::bigint)
          ORDER BY k.pick_key, k.id LIMIT ${batchSize}`;
    }
  }
}
