import type { UserCoupon } from "../../domain/user-coupon.js";
import type { DeadlineMs, Listed, Page, UserCouponWithCoupon } from "../ports.js";
import { CountedCoupons, type CouponVersion } from "./counted-coupons.js";
import { CouponCache } from "./coupon-cache.js";
import type { Database } from "./database.js";
import { guarded } from "./errors.js";
import { TurnBatch } from "./turn-batch.js";

/** Pages that are read in one query. It stands in the query as well, where it tells the planner how many to expect. */
const maxPages = 16;

interface Ask {
  readonly userId: string;
  readonly before: string | null;
  readonly size: number;
  readonly showExpired: boolean;
}

interface Answer {
  /** One line for all rows: values without spaces, with spaces between them. null: no rows. */
  readonly rows: string | null;
  readonly nowMs: number | null;
}

/**
 * Pages of what users hold, in one round trip. A page comes as one text, for a driver takes several times as long over
 * fifty rows of values. Coupons are not read whole: definitions are remembered by their revision, counts are read here.
 */
export class UserCouponPages {
  private readonly coupons: CountedCoupons;
  private readonly batch = new TurnBatch<Ask, Answer>(maxPages, (asks) => this.query(asks));

  constructor(private readonly database: Database) {
    this.coupons = new CountedCoupons(new CouponCache(database));
  }

  async read(
    userId: string,
    page: Page,
    showExpired: boolean,
    deadlineMs: DeadlineMs,
  ): Promise<Listed<UserCouponWithCoupon>> {
    const ask = { userId, before: page.before, size: page.size + 1, showExpired };
    const { rows, nowMs } = await guarded(deadlineMs, () => this.batch.add(ask));
    const read = parseRows(rows ?? "", userId);
    const kept = read.slice(0, page.size);
    const coupons = await guarded(deadlineMs, () => this.coupons.get(kept.map(({ version }) => version)));
    return {
      rows: kept.map(({ userCoupon }, index) => ({ userCoupon, coupon: coupons[index]! })),
      hasMore: read.length > page.size,
      now: new Date(nowMs ?? 0),
    };
  }

  /**
   * The inner OFFSET 0 keeps the planner from walking through the rows of all users in the order of their ids, which is
   * what a generic plan makes of ORDER BY id LIMIT.
   */
  private async query(asks: readonly Ask[]): Promise<readonly Answer[]> {
    const { sql } = this.database;
    return await sql<Answer[]>`
      SELECT page.rows, page.now_ms
      FROM (
        SELECT * FROM ROWS FROM (
          json_to_recordset(${JSON.stringify(asks)}::text::json)
          AS ("userId" text, before uuid, size int, "showExpired" boolean)
        ) WITH ORDINALITY AS asks (user_id, before, size, show_expired, place)
        LIMIT ${sql.unsafe(String(maxPages))}
      ) ask
      CROSS JOIN LATERAL (
        SELECT string_agg(one.row, ' ') AS rows, millis(max(one.now)) AS now_ms
        FROM (
          SELECT clock.now, concat(
            u.id, ' ', u.coupon_id, ' ', millis(u.issued_at), ' ', millis(u.valid_until), ' ',
            u.max_uses, ' ', u.use_count, ' ', u.place_count, ' ',
            millis(u.locked_until), ' ', millis(u.claim_until), ' ', millis(u.released_at), ' ',
            c.revision, ' ', c.issued_count, ' ', c.used_count, ' ', c.place_count, ' ', millis(c.exhausted_at)
          ) AS row
          FROM (SELECT coupon_clock() AS now OFFSET 0) clock,
            (
              SELECT * FROM user_coupons held
              WHERE held.user_id = ask.user_id AND held.deleted_at IS NULL
                AND (ask.before IS NULL OR held.id < ask.before)
              OFFSET 0
            ) u
            JOIN coupons c ON c.id = u.coupon_id
          WHERE ask.show_expired
            OR user_coupon_status(u, c, clock.now) NOT IN ('EXPIRED', 'RELEASED')
          ORDER BY u.id DESC
          LIMIT ask.size
        ) one
      ) page
      ORDER BY ask.place`;
  }
}

interface Read {
  readonly userCoupon: UserCoupon;
  readonly version: CouponVersion;
}

/** As many as the query puts into a row. */
const columns = 15;

function parseRows(text: string, userId: string): Read[] {
  if (text === "") return [];
  const values = text.split(" ");
  const rows: Read[] = [];
  for (let at = 0; at < values.length; at += columns) {
    const couponId = values[at + 1]!;
    rows.push({
      userCoupon: {
        id: values[at]!,
        couponId,
        userId,
        issuedAt: new Date(Number(values[at + 2])),
        validUntil: dateOf(values[at + 3]!),
        maxUses: Number(values[at + 4]),
        useCount: Number(values[at + 5]),
        placeCount: Number(values[at + 6]),
        lockedUntil: dateOf(values[at + 7]!),
        claimUntil: dateOf(values[at + 8]!),
        releasedAt: dateOf(values[at + 9]!),
      },
      version: {
        id: couponId,
        revision: Number(values[at + 10]),
        counts: {
          issuedCount: Number(values[at + 11]),
          usedCount: Number(values[at + 12]),
          placeCount: Number(values[at + 13]),
          exhaustedAt: dateOf(values[at + 14]!),
        },
      },
    });
  }
  return rows;
}

function dateOf(ms: string): Date | null {
  return ms === "" ? null : new Date(Number(ms));
}
