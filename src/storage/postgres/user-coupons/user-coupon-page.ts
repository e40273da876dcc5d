import type { Coupon, Discount } from "../../../domain/coupon.js";
import type { Labels } from "../../../domain/labels.js";
import { type UserCoupon, type UserCouponStatus, userCouponStatus } from "../../../domain/user-coupon.js";
import { type DeadlineMs, type Listed, noDeadlineMs, type Page } from "../../ports/page.js";
import type { UserCouponWithCoupon } from "../../ports/user-coupons.js";
import { CountedCoupons, type CouponVersion } from "../coupons/counted-coupons.js";
import type { Connection, Database } from "../database.js";
import { guarded } from "../errors.js";
import { TurnBatch } from "../turn-batch.js";
import { PageMemory } from "./page-memory.js";

/** Pages that are read in one query; the function in the database reads no more either. */
const maxPages = 32;
/** User coupons of all pages of one query, unless one page has more: whoever wants 1,000 does not hold up those who want 50. */
const maxRows = 2_000;
/** User coupons that are looked at for one page of those with some statuses only; no page has more. */
export const maxLooked = 2_000;
/** What such a page counts for among others: most are full after a few. */
const filteredWeight = maxRows / 4;

interface PageItem {
  readonly userId: string;
  readonly before: string | null;
  readonly size: number;
  /** Only those that stand so; null: all. */
  readonly statuses: readonly UserCouponStatus[] | null;
}

interface Answer {
  /** One line for all rows: values without spaces, with spaces between them. null: no rows. */
  readonly rows: string | null;
  /** Where the list goes on after a page that could not be filled; null: it ends with this page, or the page is full. */
  readonly lookedTo: string | null;
  /** Every coupon of the rows of this query. */
  readonly coupons: ReadonlyMap<string, Coupon>;
  readonly now: Date;
}

interface AnswerRow {
  readonly rows: string | null;
  readonly lookedTo: string | null;
  /** Of all items together, in the first row. */
  readonly coupons: string | null;
  readonly nowMs: number;
}

/**
 * Pages of what users hold, in one round trip. A page comes as one text, for a driver takes several times as long over
 * fifty rows of values. Coupons are not read whole: definitions are remembered by their names, counts are read here,
 * in the same snapshot, and once for all the items that share the query.
 */
export class UserCouponPages {
  private readonly coupons = new CountedCoupons();
  private readonly memory = new PageMemory();
  private readonly held = new TurnBatch<PageItem, Answer>({
    maxItems: maxPages,
    weight: { of: ({ size }) => size, max: maxRows },
    run: (items) => this.query(items, false),
  });
  private readonly filtered = new TurnBatch<PageItem, Answer>({
    maxItems: maxPages,
    weight: { of: ({ size }) => Math.max(size, filteredWeight), max: maxRows },
    run: (items) => this.query(items, true),
  });

  constructor(private readonly database: Database) {}

  async read(
    userId: string,
    page: Page,
    statuses: readonly UserCouponStatus[] | null,
    deadlineMs: DeadlineMs,
  ): Promise<Listed<UserCouponWithCoupon>> {
    const item = { userId, before: page.before, size: page.size + 1, statuses };
    let answer = await guarded(deadlineMs, () => this.held.add(item));
    let rows = this.rowsOf(answer, userId);
    if (statuses) {
      const { now } = answer;
      const isWanted = ({ userCoupon, coupon }: UserCouponWithCoupon) =>
        statuses.includes(userCouponStatus(userCoupon, coupon, now));
      if (!rows.every(isWanted)) {
        if (rows.length < item.size) {
          rows = rows.filter(isWanted);
        } else {
          // There may be more behind those that are in the way. Postgres leaves them out, at a higher price.
          answer = await guarded(deadlineMs, () => this.filtered.add(item));
          rows = this.rowsOf(answer, userId);
        }
      }
    }
    const isFull = rows.length > page.size;
    const listed = isFull ? rows.slice(0, page.size) : rows;
    const next = isFull ? listed.at(-1)!.userCoupon.id : answer.lookedTo;
    return { rows: listed, next, now: answer.now };
  }

  private rowsOf({ rows: text, coupons }: Answer, userId: string): readonly UserCouponWithCoupon[] {
    if (text === null) return [];
    const known = this.memory.get(userId, text, coupons);
    if (known) return known;
    const rows = parseRows(text, coupons, userId);
    this.memory.set(userId, text, rows);
    return rows;
  }

  private query(items: readonly PageItem[], filtered: boolean): Promise<readonly Answer[]> {
    return this.database.reads.run(noDeadlineMs, ({ sql }) => this.queryOn(sql, items, filtered));
  }

  private async queryOn(
    sql: Connection["sql"],
    items: readonly PageItem[],
    filtered: boolean,
  ): Promise<readonly Answer[]> {
    const rows = await sql<AnswerRow[]>`
      SELECT * FROM list_user_coupons(${JSON.stringify(items)}::text::json, ${filtered}, ${maxLooked})`;
    const { coupons, nowMs } = rows[0]!;
    const byId = new Map(
      (await this.coupons.get(sql, parseVersions(coupons ?? ""))).map((coupon) => [coupon.id, coupon]),
    );
    const now = new Date(nowMs);
    return rows.map((row) => ({ rows: row.rows, lookedTo: row.lookedTo, coupons: byId, now }));
  }
}

/** As many as the query puts into the text of a user coupon, and of a coupon. */
const rowColumns = 5;
const versionColumns = 7;

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
  labels: null,
};

function parseRare(text: string): Rare {
  const [maxUses, useCount, placeCount, lockedUntil, claimUntil, releasedAt, code, discount, labels] = text.split(
    ",",
  ) as Nine;
  return {
    maxUses: Number(maxUses),
    useCount: Number(useCount),
    placeCount: Number(placeCount),
    lockedUntil: dateOf(lockedUntil),
    claimUntil: dateOf(claimUntil),
    releasedAt: dateOf(releasedAt),
    code: code === "" ? null : textOf(code),
    discount: discount === "" ? null : (JSON.parse(textOf(discount)) as Discount),
    labels: labels === "" ? null : (JSON.parse(textOf(labels)) as Labels),
  };
}

type Nine = [string, string, string, string, string, string, string, string, string];

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
      updatedAt: new Date(Number(values[at + 2])),
      counts: {
        issuedCount: Number(values[at + 3]),
        usedCount: Number(values[at + 4]),
        placeCount: Number(values[at + 5]),
        exhaustedAt: dateOf(values[at + 6]!),
      },
    });
  }
  return versions;
}

function dateOf(ms: string): Date | null {
  return ms === "" ? null : new Date(Number(ms));
}
