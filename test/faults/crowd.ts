import { createHash } from "node:crypto";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { Sql } from "postgres";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import { RedisGate, type RedisGateOptions } from "../../src/reservation/redis/redis-gate.js";
import { CallError, type GrpcClient } from "../support/clients.js";
import { unreported } from "../support/unreported.js";
import { until } from "../support/until.js";

const unavailable = 14;
const deadlineExceeded = 4;
/** A server says how long to wait; a test waits no longer than this, for its outages are short. */
const longestRetryPauseMs = 250;
const callTimeoutMs = 4_000;
/** Far above the longest outage of a test: a call that is still not answered then will not be. */
const giveUpAfterMs = 45_000;

export interface Want {
  readonly couponId: string;
  readonly userId: string;
  readonly requestId: string;
}

/** What became of a crowd of callers, each of which retried until it was told yes or no. */
export class Tally {
  /** The user coupon by coupon and user. */
  readonly acknowledged = new Map<string, string>();
  /** The final refusals, by reason. */
  readonly refused = new Map<string, Want[]>();
  /** Passing failures that were met on the way, by `code reason`. */
  readonly passing = new Map<string, number>();
  replayed = 0;

  count(reason: string): number {
    return this.refused.get(reason)?.length ?? 0;
  }
}

export function holding({ couponId, userId }: Pick<Want, "couponId" | "userId">): string {
  return `${couponId} ${userId}`;
}

/** The same list in each run: users in a shuffled but fixed order. */
export function wants(couponId: string, prefix: string, count: number): Want[] {
  return Array.from({ length: count }, (_, n) => {
    const requestId = createHash("sha256").update(`${couponId} ${prefix} ${n}`).digest("hex").slice(0, 32);
    return { couponId, userId: `${prefix}-${n}`, requestId };
  });
}

export interface CrowdOptions {
  /** Taken in turn; a retry goes to the next one. */
  readonly clients: readonly GrpcClient[];
  readonly inFlight: number;
  /** Calls begun in a second at most, whether those before have been answered or not. */
  readonly perSecond?: number;
  /** Called after each yes, with how many there are. */
  readonly onAcknowledged?: (count: number) => void;
  /** Where it is counted, for whoever wants to look while the crowd is at it. */
  readonly tally?: Tally;
}

/** Issues to everybody in the list, as many at once as told. Retries what the contract says may be retried. */
export async function issueToAll(list: readonly Want[], options: CrowdOptions): Promise<Tally> {
  const tally = options.tally ?? new Tally();
  let next = 0;
  const { perSecond = Number.POSITIVE_INFINITY } = options;
  const startedMs = Date.now();
  const caller = async () => {
    for (let at = next++; at < list.length; at = next++) {
      const dueInMs = startedMs + (at * 1_000) / perSecond - Date.now();
      if (dueInMs > 0) await new Promise((resolve) => setTimeout(resolve, dueInMs));
      await issueTo(list[at] as Want, at, options, tally);
    }
  };
  await Promise.all(Array.from({ length: options.inFlight }, caller));
  return tally;
}

async function issueTo(want: Want, at: number, options: CrowdOptions, tally: Tally): Promise<void> {
  const { clients } = options;
  const giveUpAtMs = Date.now() + giveUpAfterMs;
  for (let attempt = 0; ; attempt++) {
    try {
      const client = clients[(at + attempt) % clients.length] as GrpcClient;
      const { userCoupon, replayed } = await issue(client, want);
      tally.acknowledged.set(holding(want), userCoupon?.id ?? "");
      if (replayed) tally.replayed += 1;
      options.onAcknowledged?.(tally.acknowledged.size);
      return;
    } catch (error) {
      if (!(error instanceof CallError)) throw error;
      if (error.code !== unavailable && error.code !== deadlineExceeded) {
        const reason = error.reason ?? `code ${error.code}`;
        tally.refused.set(reason, [...(tally.refused.get(reason) ?? []), want]);
        return;
      }
      if (Date.now() > giveUpAtMs)
        throw new Error(`gave up on ${want.userId} after ${attempt} retries`, { cause: error });
      const kind = `${error.code} ${error.reason}`;
      tally.passing.set(kind, (tally.passing.get(kind) ?? 0) + 1);
      const pauseMs = Math.min(error.retryDelayMs ?? 50, longestRetryPauseMs);
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  }
}

export function issue(client: GrpcClient, { couponId, userId, requestId }: Want, timeoutMs = callTimeoutMs) {
  return client.call(
    IssuanceService.method.issueCoupon,
    { target: { case: "couponId", value: couponId }, userId, requestId },
    { timeoutMs },
  );
}

/** "ISSUED", "REPLAYED" or the reason of the refusal, with the id of what the user holds. */
export async function outcomeOf(client: GrpcClient, want: Want): Promise<string> {
  try {
    const { userCoupon, replayed } = await issue(client, want);
    return replayed ? `REPLAYED ${userCoupon?.id}` : "ISSUED";
  } catch (error) {
    if (error instanceof CallError) return error.reason ?? `code ${error.code}`;
    throw error;
  }
}

export async function createCoupon(
  client: GrpcClient,
  quantity: number,
  window: { startsInMs?: number; endsInMs?: number } = {},
): Promise<string> {
  const now = Date.now();
  const { coupon } = await client.call(CatalogService.method.createCoupon, {
    coupon: {
      name: `${quantity} of them`,
      discount: { kind: { case: "percentageBasisPoints", value: 1_000 } },
      startTime: timestampFromMs(now + (window.startsInMs ?? -60_000)),
      expireTime: timestampFromMs(now + (window.endsInMs ?? 3_600_000)),
      quantity: BigInt(quantity),
    },
  });
  if (!coupon) throw new Error("no coupon was created");
  return coupon.id;
}

export interface StoredCoupon {
  readonly issuedCount: number;
  readonly rows: number;
  readonly users: number;
  readonly events: number;
}

/** Looks at Postgres and Redis past the service. */
export class Audit {
  constructor(private readonly sql: Sql) {}

  async stored(couponId: string): Promise<StoredCoupon> {
    const [row] = await this.sql<[StoredCoupon]>`
      SELECT c.issued_count::int AS "issuedCount", count(u.id)::int AS rows, count(DISTINCT u.user_id)::int AS users,
        (SELECT count(*)::int FROM events e WHERE e.coupon_id = c.id AND e.kind = 'USER_COUPON_ISSUED') AS events
      FROM coupons c LEFT JOIN user_coupons u ON u.coupon_id = c.id WHERE c.id = ${couponId} GROUP BY c.id`;
    return row;
  }

  /** The user coupon's id by coupon and user, as `Tally.acknowledged` has it. */
  async holdings(): Promise<Map<string, string>> {
    const rows = await this.sql`SELECT id, coupon_id, user_id FROM user_coupons`;
    return new Map(rows.map((row) => [holding({ couponId: row.coupon_id, userId: row.user_id }), row.id]));
  }

  connection(): Sql {
    return this.sql;
  }
}

/** Of what callers were told, what Postgres does not have or has differently. Must be empty. */
export async function missing(audit: Audit, ...tallies: readonly Tally[]): Promise<string[]> {
  const holdings = await audit.holdings();
  return tallies.flatMap((tally) =>
    [...tally.acknowledged].filter(([key, id]) => holdings.get(key) !== id).map(([key]) => key),
  );
}

/** Whom Postgres says to hold one although the last word to them was no. Must be empty. */
export async function refusedButStored(audit: Audit, ...tallies: readonly Tally[]): Promise<string[]> {
  const holdings = await audit.holdings();
  const refused = tallies.flatMap((tally) => [...tally.refused.values()].flat());
  return refused.map(holding).filter((key) => holdings.has(key));
}

/** Much longer than stock is held for nobody: only what never comes back takes so long. */
const longestWaitMs = 60_000;

/** Sells the rest to new users, as a shop would: stock that was held for nobody must come back. */
export async function sellTheRest(
  audit: Audit,
  clients: readonly GrpcClient[],
  couponId: string,
  quantity: number,
): Promise<Tally> {
  const all = new Tally();
  let round = 0;
  await until(
    `all ${quantity} are sold`,
    async () => {
      const left = quantity - (await audit.stored(couponId)).rows;
      if (left <= 0) return true;
      round += 1;
      const sold = await issueToAll(wants(couponId, `late-${round}`, Math.min(left, 100)), { clients, inFlight: 20 });
      for (const [key, id] of sold.acknowledged) all.acknowledged.set(key, id);
      return false;
    },
    longestWaitMs,
  );
  return all;
}

/** Waits until the gate counts what Postgres counts, with nothing pending. */
export async function untilGateIsEven(
  audit: Audit,
  redis: { redisUrl: string; keyPrefix: string; settings?: RedisGateOptions["settings"] },
  quantities: ReadonlyMap<string, number>,
): Promise<void> {
  const gate = new RedisGate({
    url: redis.redisUrl,
    keyPrefix: redis.keyPrefix,
    failures: unreported,
    ...(redis.settings && { settings: redis.settings }),
  });
  try {
    await gate.ready();
    await until("the gate counts what Postgres counts", async () => {
      const surveys = new Map((await gate.survey(1_000, 10)).map((survey) => [survey.couponId, survey]));
      for (const [couponId, quantity] of quantities) {
        const survey = surveys.get(couponId);
        const remaining = quantity - (await audit.stored(couponId)).issuedCount;
        // A coupon that is not loaded counts nothing, so it cannot be wrong.
        if (survey && (survey.pendingCount > 0 || (survey.loaded && survey.loaded.stock !== remaining))) {
          throw new Error(`stored ${remaining}, gate ${JSON.stringify(survey)}`);
        }
      }
      return true;
    });
  } finally {
    await gate.close();
  }
}
