import type { TransactionSql } from "postgres";
import { remainingCount } from "../../../domain/coupon.js";
import { bucketCountFor, type HoldingPage } from "../../../reservation/packed-holdings.js";
import type { GateFacts } from "../../../reservation/port.js";
import { type CouponRow, couponColumns, toCoupon } from "../coupons/coupon-row.js";
import { longStatementTimeoutMs } from "../errors.js";
import { BucketSort, type SortRoom } from "./bucket-sort.js";

export interface ReadBounds {
  /** Holdings read at once. */
  readonly rowsAtOnce: number;
  readonly room: SortRoom;
}

/** The first page may take long to find. The receiver is told that often that it goes on. */
const aliveEveryMs = 1_000;
/** All will be read, so what finds all soonest is best. */
const settings = [
  "cursor_tuple_fraction = 1",
  `statement_timeout = ${longStatementTimeoutMs}`,
  // What found no room is handed over in between.
  `idle_in_transaction_session_timeout = ${longStatementTimeoutMs}`,
];
/** In a binary cursor, bytes are not turned into text and back: only a FETCH by the simple protocol answers so. */
const readRows = (count: number) => `
  DECLARE page BINARY NO SCROLL CURSOR FOR SELECT string_agg(packed, ''::bytea) FROM fetch_holdings(${count});
  FETCH page; CLOSE page`;

/** Takes pages, or none while nothing is there yet. false: the reading is to end. */
export type OnHoldings = (pages: readonly HoldingPage[]) => Promise<boolean>;

/** What is read in the transaction `inTransaction`, which sees one moment; it is handed over before and after it ends. */
export async function readGateSnapshot(
  inTransaction: <T>(work: (tx: TransactionSql) => Promise<T>) => Promise<T>,
  couponId: string,
  onHoldings: OnHoldings,
  bounds: ReadBounds,
): Promise<GateFacts | null> {
  let sort: BucketSort | undefined;
  try {
    const facts = await inTransaction(async (tx) => {
      const facts = await readFacts(tx, couponId);
      if (!facts) return null;
      sort = new BucketSort(facts.bucketCount, bounds.room);
      return (await readHoldings(tx, couponId, sort, onHoldings, bounds)) ? facts : null;
    });
    return facts && sort && (await handOver(sort, onHoldings)) ? facts : null;
  } finally {
    sort?.close();
  }
}

async function readFacts(tx: TransactionSql, couponId: string): Promise<GateFacts | null> {
  const [row] = await tx<CouponRow[]>`SELECT ${tx(couponColumns)} FROM coupons WHERE id = ${couponId}`;
  if (!row) return null;
  const coupon = toCoupon(row);
  const { revision, updatedAt, startsAt, expiresAt, maxPerUser, throttle, quota } = coupon;
  return {
    revision,
    updatedAt,
    startsAt,
    expiresAt,
    maxPerUser,
    throttle,
    quota,
    paused: coupon.pausedAt !== null,
    deleted: coupon.deletedAt !== null,
    exhausted: coupon.exhaustedAt !== null,
    stock: remainingCount(coupon),
    givenBackTotal: row.releasedTotal + row.deletedTotal,
    bucketCount: bucketCountFor(coupon.issuedCount),
  };
}

async function readHoldings(
  tx: TransactionSql,
  couponId: string,
  sort: BucketSort,
  onHoldings: OnHoldings,
  { rowsAtOnce, room }: ReadBounds,
): Promise<boolean> {
  await tx.unsafe(settings.map((one) => `SET LOCAL ${one}`).join("; "));
  await tx`DECLARE holdings NO SCROLL CURSOR FOR SELECT packed FROM pack_holdings(${couponId})`;
  for (;;) {
    const answers = await whileAlive(tx.unsafe(readRows(rowsAtOnce)).raw(), onHoldings);
    if (!answers) return false;
    const rows = bytesIn(answers as unknown as RawAnswers);
    const count = rows ? sort.add(rows) : 0;
    if (count < rowsAtOnce) return true;
    // What finds no room is handed over sooner, though buckets that get more later are written twice.
    if (!(room.isFull ? await handOver(sort, onHoldings) : await onHoldings([]))) return false;
  }
}

/** Of each statement the rows, and of these the columns. */
type RawAnswers = readonly (readonly (readonly (Buffer | null)[])[])[];

function bytesIn(answers: RawAnswers): Buffer | null {
  return answers.find((rows) => rows.length > 0)?.[0]?.[0] ?? null;
}

async function handOver(sort: BucketSort, onHoldings: OnHoldings): Promise<boolean> {
  let taken = Promise.resolve(true);
  for await (const page of sort.take()) {
    // It was sorted while the one before was on its way.
    if (!(await taken)) return false;
    taken = onHoldings([page]);
    // It is waited for later.
    taken.catch(() => {});
  }
  return await taken;
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
