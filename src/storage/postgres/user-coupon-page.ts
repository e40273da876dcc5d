import type { Coupon, Discount } from "../../domain/coupon.js";
import { type UserCoupon, type UserCouponStatus, userCouponStatus } from "../../domain/user-coupon.js";
import type { DeadlineMs, Listed, Page, UserCouponWithCoupon } from "../ports.js";
import { CountedCoupons, type CouponVersion } from "./counted-coupons.js";
import { CouponCache } from "./coupon-cache.js";
import type { Database } from "./database.js";
import { guarded } from "./errors.js";
import { PageMemory } from "./page-memory.js";
import { TurnBatch } from "./turn-batch.js";

/** Pages that are read in one query. It stands in the query as well, where it tells the planner how many to expect. */
const maxPages = 32;

interface Ask {
  readonly userId: string;
  readonly before: string | null;
  readonly size: number;
}

interface Answer {
  /** One line for all rows: values without spaces, with spaces between them. null: no rows. */
  readonly rows: string | null;
  /** Every coupon of the rows of this query. */
  readonly coupons: ReadonlyMap<string, Coupon>;
  readonly now: Date;
}

interface AnswerRow {
  readonly rows: string | null;
  /** Of all asks together, in the first row. */
  readonly coupons: string | null;
  readonly nowMs: number;
}

/**
 * Pages of what users hold, in one round trip. A page comes as one text, for a driver takes several times as long over
 * fifty rows of values. Coupons are not read whole: definitions are remembered by their revision, counts are read here,
 * in the same snapshot, and once for all the asks that share the query.
 */
export class UserCouponPages {
  private readonly coupons: CountedCoupons;
  private readonly memory = new PageMemory();
  private readonly held = new TurnBatch<Ask, Answer>({ maxAsks: maxPages, run: (asks) => this.query(asks) });
  private readonly live = new TurnBatch<Ask, Answer>({
    maxAsks: maxPages,
    run: (asks) => this.query(asks, { onlyLive: true }),
  });

  constructor(private readonly database: Database) {
    this.coupons = new CountedCoupons(new CouponCache(database));
  }

  async read(
    userId: string,
    page: Page,
    showExpired: boolean,
    deadlineMs: DeadlineMs,
  ): Promise<Listed<UserCouponWithCoupon>> {
    const ask = { userId, before: page.before, size: page.size + 1 };
    let answer = await guarded(deadlineMs, () => this.held.add(ask));
    let rows = this.rowsOf(answer, userId);
    if (!showExpired) {
      const { now } = answer;
      const isLive = ({ userCoupon, coupon }: UserCouponWithCoupon) =>
        !hidden.includes(userCouponStatus(userCoupon, coupon, now));
      if (!rows.every(isLive)) {
        if (rows.length < ask.size) {
          rows = rows.filter(isLive);
        } else {
          // There may be more behind those that are in the way. Postgres leaves them out at a higher price.
          answer = await guarded(deadlineMs, () => this.live.add(ask));
          rows = this.rowsOf(answer, userId);
        }
      }
    }
    const hasMore = rows.length > page.size;
    return { rows: hasMore ? rows.slice(0, page.size) : rows, hasMore, now: answer.now };
  }

  private rowsOf({ rows: text, coupons }: Answer, userId: string): readonly UserCouponWithCoupon[] {
    if (text === null) return [];
    const known = this.memory.get(userId, text, coupons);
    if (known) return known;
    const rows = parseRows(text, coupons, userId);
    this.memory.set(userId, text, rows);
    return rows;
  }

  /**
   * The inner OFFSET 0 keeps the planner from walking through the rows of all users in the order of their ids, which is
   * what a generic plan makes of ORDER BY id LIMIT. What few user coupons have is left out of the text of the others.
   */
  private async query(asks: readonly Ask[], { onlyLive } = { onlyLive: false }): Promise<readonly Answer[]> {
    const { sql } = this.database;
    const rows = await sql<AnswerRow[]>`
      WITH clock AS MATERIALIZED (SELECT coupon_clock() AS now),
      page AS MATERIALIZED (
        SELECT ask.place, held.rows, held.coupon_ids
        FROM (
          SELECT * FROM ROWS FROM (
            json_to_recordset(${JSON.stringify(asks)}::text::json) AS ("userId" text, before uuid, size int)
          ) WITH ORDINALITY AS asks (user_id, before, size, place)
          LIMIT ${sql.unsafe(String(maxPages))}
        ) ask
        CROSS JOIN LATERAL (
          SELECT string_agg(one.row, ' ') AS rows, array_agg(one.coupon_id) AS coupon_ids
          FROM (
            SELECT u.coupon_id, concat(
              u.id, ' ', u.coupon_id, ' ', millis(u.issued_at), ' ', millis(u.valid_until), ' ',
              CASE WHEN u.max_uses > 1 OR u.place_count > 0 OR u.locked_until IS NOT NULL OR u.claim_until IS NOT NULL
                OR u.released_at IS NOT NULL OR u.code_id IS NOT NULL
              THEN concat(u.max_uses, ',', u.use_count, ',', u.place_count, ',',
                millis(u.locked_until), ',', millis(u.claim_until), ',', millis(u.released_at), ',',
                encode(convert_to(u.code, 'UTF8'), 'hex'), ',', encode(convert_to(u.discount::text, 'UTF8'), 'hex')) END
            ) AS row
            FROM (
              SELECT * FROM user_coupons one
              WHERE one.user_id = ask.user_id AND one.deleted_at IS NULL
                AND (ask.before IS NULL OR one.id < ask.before)
              OFFSET 0
            ) u
            ${
              onlyLive
                ? sql`JOIN coupons c ON c.id = u.coupon_id CROSS JOIN clock
                  WHERE user_coupon_status(u, c, clock.now) NOT IN ('EXPIRED', 'RELEASED')`
                : sql``
            }
            ORDER BY u.id DESC
            LIMIT ask.size
          ) one
        ) held
      )
      SELECT page.rows, millis((SELECT now FROM clock)) AS now_ms, CASE WHEN page.place = 1 THEN (
        SELECT string_agg(concat(
          c.id, ' ', c.revision, ' ', c.issued_count, ' ', c.used_count, ' ', c.place_count, ' ', millis(c.exhausted_at)
        ), ' ')
        FROM coupons c WHERE c.id = ANY (ARRAY (SELECT DISTINCT unnest(page.coupon_ids) FROM page))
      ) END AS coupons
      FROM page
      ORDER BY page.place`;
    const { coupons, nowMs } = rows[0]!;
    const byId = new Map((await this.coupons.get(parseVersions(coupons ?? ""))).map((coupon) => [coupon.id, coupon]));
    const now = new Date(nowMs);
    return rows.map((row) => ({ rows: row.rows, coupons: byId, now }));
  }
}

/** The statuses of what only a list with show_expired has. The query for the live ones names them, too. */
const hidden: readonly UserCouponStatus[] = ["EXPIRED", "RELEASED"];

/** As many as the query puts into the text of a user coupon, and of a coupon. */
const rowColumns = 5;
const versionColumns = 6;

function parseRows(text: string, coupons: ReadonlyMap<string, Coupon>, userId: string): UserCouponWithCoupon[] {
  const values = text.split(" ");
  const rows: UserCouponWithCoupon[] = [];
  for (let at = 0; at < values.length; at += rowColumns) {
    const coupon = coupons.get(values[at + 1]!)!;
    const rare = values[at + 4]!;
    const userCoupon = {
      id: values[at]!,
      couponId: coupon.id,
      userId,
      issuedAt: new Date(Number(values[at + 2])),
      validUntil: dateOf(values[at + 3]!),
      ...(rare === "" ? neverUsed : parseRare(rare)),
    };
    rows.push({ userCoupon, coupon });
  }
  return rows;
}

type Rare = Omit<UserCoupon, "id" | "couponId" | "userId" | "issuedAt" | "validUntil">;

const neverUsed: Rare = {
  maxUses: 1,
  useCount: 0,
  placeCount: 0,
  lockedUntil: null,
  claimUntil: null,
  releasedAt: null,
  code: null,
  discount: null,
};

function parseRare(text: string): Rare {
  const [maxUses, useCount, placeCount, lockedUntil, claimUntil, releasedAt, code, discount] = text.split(",") as Eight;
  return {
    maxUses: Number(maxUses),
    useCount: Number(useCount),
    placeCount: Number(placeCount),
    lockedUntil: dateOf(lockedUntil),
    claimUntil: dateOf(claimUntil),
    releasedAt: dateOf(releasedAt),
    code: code === "" ? null : textOf(code),
    discount: discount === "" ? null : (JSON.parse(textOf(discount)) as Discount),
  };
}

type Eight = [string, string, string, string, string, string, string, string];

function textOf(hex: string): string {
  return Buffer.from(hex, "hex").toString("utf8");
}

function parseVersions(text: string): CouponVersion[] {
  if (text === "") return [];
  const values = text.split(" ");
  const versions: CouponVersion[] = [];
  for (let at = 0; at < values.length; at += versionColumns) {
    versions.push({
      id: values[at]!,
      revision: Number(values[at + 1]),
      counts: {
        issuedCount: Number(values[at + 2]),
        usedCount: Number(values[at + 3]),
        placeCount: Number(values[at + 4]),
        exhaustedAt: dateOf(values[at + 5]!),
      },
    });
  }
  return versions;
}

function dateOf(ms: string): Date | null {
  return ms === "" ? null : new Date(Number(ms));
}
