import type { CouponType } from "../../../domain/coupon.js";
import type { Event, EventFilter, EventPosition, EventUsage } from "../../../domain/event.js";
import type { Labels } from "../../../domain/labels.js";
import type { EventHead, EventPage, EventStore, PlaceOfEvent } from "../../ports/events.js";
import { type DeadlineMs, noDeadlineMs } from "../../ports/page.js";
import type { Connection, Database } from "../database.js";
import { keepMonths } from "../months/keep-months.js";

export class PostgresEventStore implements EventStore {
  constructor(private readonly database: Database) {}

  async head(known: EventPosition | null, isPending: boolean): Promise<EventHead> {
    const at = known?.xid ? known : null;
    const [row] = await this.database.background.run(
      noDeadlineMs,
      ({ sql }) =>
        sql<HeadRow[]>`SELECT * FROM event_head(${at?.seq ?? null}::bigint, ${at?.xid ?? null}::text, ${isPending})`,
    );
    const { newest, newestXid, isKnown, open } = row as HeadRow;
    return {
      newest: newest === null ? null : { seq: Number(newest), xid: newestXid as string },
      isKnown: at === null || isKnown,
      open: open ? open.split(" ") : [],
    };
  }

  /** What an event is about is looked up by keys, one by one, at every size of the tables. */
  page(after: number, until: number, most: number, filter: EventFilter, deadlineMs: DeadlineMs): Promise<EventPage> {
    return this.database.reads.run(deadlineMs, async ({ sql }) => {
      const rows = await sql<(EventRow & LookedRow)[]>`
        WITH looked AS MATERIALIZED (
          SELECT seq, xid::text AS xid, kind, happened_at, coupon_id, user_coupon_id, user_id, usage_id, detail FROM events
          WHERE seq > ${after}::bigint AND seq <= ${until}::bigint
          ORDER BY seq LIMIT ${most}
        )
        SELECT t.looked_to, t.looked_xid, w.*
        FROM (SELECT seq AS looked_to, xid AS looked_xid FROM looked ORDER BY seq DESC LIMIT 1) t
        LEFT JOIN (
          SELECT l.seq, l.xid, l.kind, l.happened_at, l.coupon_id, l.user_coupon_id, l.user_id, l.usage_id,
            c.type AS coupon_type, (l.detail ->> 'revision')::bigint AS revision,
            coalesce(l.detail ->> 'codeCount', l.detail ->> 'count')::bigint AS count,
            CASE WHEN l.kind = 'USER_COUPONS_PURGED' THEN (l.detail ->> 'expired')::bigint + (l.detail ->> 'deleted')::bigint
              + (l.detail ->> 'released')::bigint END AS purged_count,
            coalesce(u.code, h.code) AS code, u.order_id, u.product_id, u.currency_code, u.order_amount, u.discount_amount,
            CASE WHEN l.usage_id IS NOT NULL THEN u.labels WHEN l.user_coupon_id IS NOT NULL THEN h.labels ELSE c.labels END AS labels
          FROM looked l
          LEFT JOIN LATERAL (SELECT type, labels FROM coupons WHERE id = l.coupon_id OFFSET 0) c ON true
          LEFT JOIN LATERAL (SELECT code, labels FROM user_coupons WHERE id = l.user_coupon_id OFFSET 0) h ON true
          LEFT JOIN LATERAL (
            SELECT code, labels, order_id, product_id, currency_code, order_amount, discount_amount FROM usages
            WHERE id = l.usage_id OFFSET 0
          ) u ON true
          WHERE ${conditions(sql, filter)}
        ) w ON true
        ORDER BY w.seq`;
      const [first] = rows;
      return {
        events: rows.filter(({ seq }) => seq !== null).map(toEvent),
        lookedTo: first ? { seq: Number(first.lookedTo), xid: first.lookedXid } : null,
      };
    });
  }

  place(seq: number, deadlineMs: DeadlineMs): Promise<PlaceOfEvent> {
    return this.database.reads.run(deadlineMs, async ({ sql }) => {
      const [row] = await sql<{ xid: string | null; oldest: string | null }[]>`
        SELECT (SELECT xid::text FROM events WHERE seq = ${seq}::bigint) AS xid, (SELECT min(seq) FROM events) AS oldest`;
      return { xid: row?.xid ?? null, oldest: row?.oldest == null ? null : Number(row.oldest) };
    });
  }

  keep(keepDays: number): Promise<{ made: number; dropped: string[] }> {
    return keepMonths(this.database, "events", keepDays);
  }
}

interface HeadRow {
  readonly newest: string | null;
  readonly newestXid: string | null;
  readonly isKnown: boolean;
  readonly open: string | null;
}

interface LookedRow {
  readonly lookedTo: string;
  readonly lookedXid: string;
}

interface EventRow {
  readonly seq: number | null;
  readonly xid: string;
  readonly kind: string;
  readonly happenedAt: Date;
  readonly couponId: string;
  readonly userCouponId: string | null;
  readonly userId: string | null;
  readonly usageId: string | null;
  readonly couponType: string | null;
  readonly revision: number | null;
  readonly count: number | null;
  readonly purgedCount: number | null;
  readonly code: string | null;
  /** null: the event has no usage. */
  readonly orderId: string | null;
  readonly productId: string;
  readonly currencyCode: string;
  readonly orderAmount: number;
  readonly discountAmount: number;
  readonly labels: Labels | null;
}

/** What can be told from the row of an event alone, so that what is not wanted is not looked up. */
function conditions(sql: Connection["sql"], { kinds, couponIds, userId }: EventFilter) {
  const all = [
    ...(kinds ? [sql`l.kind IN ${sql(kinds)}`] : []),
    ...(couponIds ? [sql`l.coupon_id IN ${sql(couponIds)}`] : []),
    ...(userId === null ? [] : [sql`l.user_id = ${userId}`]),
  ];
  return all.reduce((sum, one) => sql`${sum} AND ${one}`, sql`true`);
}

function toEvent(row: EventRow): Event {
  const { kind, happenedAt, couponId, userCouponId, userId, code, labels } = row;
  return {
    ...{ kind, happenedAt, couponId, userCouponId, userId, code, labels },
    position: { seq: Number(row.seq), xid: row.xid },
    couponType: row.couponType as CouponType | null,
    couponRevision: row.revision === null ? null : Number(row.revision),
    usage: usageOf(row),
    count: row.count === null && row.purgedCount === null ? null : Number(row.count ?? row.purgedCount),
  };
}

function usageOf(row: EventRow): EventUsage | null {
  if (row.usageId === null || row.orderId === null) return null;
  const money = (minorUnits: number) => ({ currencyCode: row.currencyCode, minorUnits: Number(minorUnits) });
  return {
    ...{ id: row.usageId, orderId: row.orderId, productId: row.productId },
    ...{ orderAmount: money(row.orderAmount), discountAmount: money(row.discountAmount) },
  };
}
