import type { TransactionSql } from "postgres";
import { remainingCount } from "../../../domain/coupon.js";
import { bucketCountFor, type HoldingBucket } from "../../../reservation/packed-holdings.js";
import type { GateFacts } from "../../../reservation/port.js";
import { type CouponRow, couponColumns, toCoupon } from "../coupons/coupon-row.js";
import { longStatementTimeoutMs } from "../errors.js";

/** Buckets read at once: their bytes are turned from text into bytes within a few milliseconds. */
const pageSize = 500;
/** Postgres reads and packs all before it hands over the first page. The receiver is told that often that it goes on. */
const aliveEveryMs = 1_000;
/** A million holdings take three times as much: they are sorted with files, which a hash would need for longer. */
const settings = ["work_mem = '32MB'", "enable_hashagg = off", `statement_timeout = ${longStatementTimeoutMs}`];

type OnHoldings = (buckets: readonly HoldingBucket[]) => Promise<boolean>;

/** Within a transaction that sees one moment. */
export async function readGateSnapshot(
  tx: TransactionSql,
  couponId: string,
  onHoldings: OnHoldings,
): Promise<GateFacts | null> {
  const [row] = await tx<CouponRow[]>`SELECT ${tx(couponColumns)} FROM coupons WHERE id = ${couponId}`;
  if (!row) return null;
  const coupon = toCoupon(row);
  const { revision, startsAt, expiresAt, maxPerUser, throttle, quota } = coupon;
  const facts: GateFacts = {
    revision,
    startsAt,
    expiresAt,
    maxPerUser,
    throttle,
    quota,
    paused: coupon.pausedAt !== null,
    deleted: coupon.deletedAt !== null,
    exhausted: coupon.exhaustedAt !== null,
    stock: remainingCount(coupon),
    bucketCount: bucketCountFor(coupon.issuedCount),
  };
  await tx.unsafe(settings.map((one) => `SET LOCAL ${one}`).join("; "));
  await tx`
    DECLARE holdings NO SCROLL CURSOR FOR SELECT bucket, packed FROM pack_holdings(${couponId}, ${facts.bucketCount})`;
  const fetch = () => tx.unsafe<HoldingBucket[]>(`FETCH ${pageSize} FROM holdings`);
  let page = await whileAlive(fetch(), onHoldings);
  while (page && page.length > 0) {
    // The next page is on its way while this one is handed over.
    const [goesOn, next] = await Promise.all([onHoldings(page), fetch()]);
    if (!goesOn) return null;
    page = next;
  }
  return page && facts;
}

/** null: the receiver has ended the reading. */
async function whileAlive<T>(work: PromiseLike<T>, onHoldings: OnHoldings): Promise<T | null> {
  let goesOn = true;
  let asked = Promise.resolve();
  const timer = setInterval(() => {
    asked = onHoldings([]).then(
      (answer) => {
        goesOn &&= answer;
      },
      () => {
        goesOn = false;
      },
    );
  }, aliveEveryMs);
  try {
    const result = await work;
    clearInterval(timer);
    await asked;
    return goesOn ? result : null;
  } finally {
    clearInterval(timer);
  }
}
