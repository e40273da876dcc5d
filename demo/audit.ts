import postgres from "postgres";
import { Api } from "../bench/support/api.js";
import { CatalogService } from "../gen/coupon/v1/catalog_service_pb.js";
import { UserCouponService } from "../gen/coupon/v1/user_coupon_service_pb.js";
import type { Acknowledgement } from "./ledger.js";
import { userIdOf } from "./plan.js";

const acknowledgementsPerQuery = 1_000;
/** How many users are asked for through each replica. */
const sampledWinners = 200;
const sampledLosers = 50;
const listsAtOnce = 8;
/** More than a user may hold, so that one too many would show. */
const listPageSize = 10;

export interface AuditInput {
  readonly databaseUrl: string;
  /** The replicas that are still there. */
  readonly targets: readonly string[];
  readonly couponId: string;
  readonly seed: number;
  readonly acknowledgements: readonly Acknowledgement[];
  /** When the first SOLD_OUT was heard, in ms since 1970 by this machine's clock, which is Postgres' clock, too; null: never. */
  readonly firstSoldOutAtMs: number | null;
  /** Users of the plan who were told no, and clearly, whenever they asked. */
  readonly losers: readonly number[];
}

export interface Audit {
  /** From SQL. */
  readonly rowsInPostgres: number;
  readonly duplicateHolders: number;
  readonly acknowledgedButMissing: number;
  readonly issuedCountInPostgres: number;
  readonly issueEventsInPostgres: number;
  /** How many were issued after somebody had been told that there are none left. */
  readonly issuedAfterSoldOut: number;
  /** From the API. */
  readonly issuedCountInApi: number;
  /** Lists read through every replica, and how many of them did not show what they should. */
  readonly listsRead: number;
  readonly wrongLists: number;
}

/** Reads back what really happened, from the database itself and through the API, never from counters of the load. */
export async function runAudit(input: AuditInput): Promise<Audit> {
  const sql = postgres(input.databaseUrl, { max: 1, onnotice: () => {} });
  try {
    return { ...(await auditSql(sql, input)), ...(await auditApi(input)) };
  } finally {
    await sql.end();
  }
}

async function auditSql(sql: postgres.Sql, input: AuditInput) {
  const { couponId, seed, acknowledgements, firstSoldOutAtMs } = input;
  const [row] = await sql`
    SELECT (SELECT count(*) FROM user_coupons WHERE coupon_id = ${couponId})::int AS rows,
           (SELECT count(*) FROM (SELECT user_id FROM user_coupons WHERE coupon_id = ${couponId}
                                  GROUP BY user_id HAVING count(*) > 1) AS twice)::int AS duplicates,
           (SELECT issued_count FROM coupons WHERE id = ${couponId})::int AS issued,
           (SELECT count(*) FROM events WHERE coupon_id = ${couponId} AND kind = 'USER_COUPON_ISSUED')::int AS events,
           (SELECT count(*) FROM user_coupons
            WHERE coupon_id = ${couponId} AND issued_at > to_timestamp(${firstSoldOutAtMs}::float8 / 1000))::int AS late`;
  let acknowledgedButMissing = 0;
  for (let at = 0; at < acknowledgements.length; at += acknowledgementsPerQuery) {
    const some = acknowledgements.slice(at, at + acknowledgementsPerQuery);
    const ids = some.map((one) => one.userCouponId);
    const users = some.map((one) => userIdOf(seed, one.user));
    const [missing] = await sql`
      SELECT count(*)::int AS count
      FROM unnest(${ids}::uuid[], ${users}::text[]) AS told (id, user_id)
      WHERE NOT EXISTS (SELECT FROM user_coupons AS kept
                        WHERE kept.id = told.id AND kept.user_id = told.user_id AND kept.coupon_id = ${couponId})`;
    acknowledgedButMissing += missing!.count;
  }
  return {
    rowsInPostgres: row!.rows as number,
    duplicateHolders: row!.duplicates as number,
    acknowledgedButMissing,
    issuedCountInPostgres: row!.issued as number,
    issueEventsInPostgres: row!.events as number,
    issuedAfterSoldOut: row!.late as number,
  };
}

async function auditApi({ targets, couponId, seed, acknowledgements, losers }: AuditInput) {
  const users = [
    ...evenly(acknowledgements, sampledWinners).map(({ user, userCouponId }) => ({ user, expected: [userCouponId] })),
    ...evenly(losers, sampledLosers).map((user) => ({ user, expected: [] })),
  ];
  let listsRead = 0;
  let wrongLists = 0;
  let issuedCountInApi = -1;
  for (const target of targets) {
    const api = new Api([target]);
    try {
      const { coupon } = await api.call(CatalogService.method.getCoupon, { couponId });
      issuedCountInApi = Number(coupon?.issuedCount ?? -1n);
      const queue = [...users];
      const reader = async () => {
        for (let next = queue.pop(); next; next = queue.pop()) {
          const request = { userId: userIdOf(seed, next.user), pageSize: listPageSize };
          const { userCoupons } = await api.call(UserCouponService.method.listUserCoupons, request);
          const found = userCoupons.filter((one) => one.couponId === couponId).map((one) => one.id);
          listsRead += 1;
          if (found.join() !== next.expected.join()) wrongLists += 1;
        }
      };
      await Promise.all(Array.from({ length: listsAtOnce }, reader));
    } finally {
      api.close();
    }
  }
  return { issuedCountInApi, listsRead, wrongLists };
}

/** At most `count` of them, from everywhere. */
function evenly<T>(all: readonly T[], count: number): T[] {
  const step = Math.max(all.length / count, 1);
  return Array.from({ length: Math.min(count, all.length) }, (_, index) => all[Math.floor(index * step)]!);
}
