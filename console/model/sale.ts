import { type Activity, type Coupon, numberOf } from "./messages.js";

/** Over how long a rate is taken: long enough to be calm, short enough to see a sale begin. */
const rateWindowS = 6;
/** Points of a plot, the newest. */
const maxPoints = 600;

export interface StockPoint {
  /** In s, by the browser's clock. */
  readonly atS: number;
  readonly issued: number;
  /** null: without limit. */
  readonly left: number | null;
  /** Issued in a second since the point before; null in the first. */
  readonly rate: number | null;
}

/** What stands of a coupon, as it was read one time after the other. */
export class StockHistory {
  readonly points: StockPoint[] = [];

  /** Answers whether anything has changed. */
  add(atS: number, coupon: Coupon): boolean {
    const issued = numberOf(coupon.issuedCount);
    const left = coupon.remainingCount === undefined ? null : numberOf(coupon.remainingCount);
    const last = this.points.at(-1);
    if (last && atS <= last.atS) return false;
    // What was released or deleted makes the count fall; nothing is issued backwards.
    const rate = last ? Math.max(0, issued - last.issued) / (atS - last.atS) : null;
    this.points.push({ atS, issued, left, rate });
    if (this.points.length > maxPoints) this.points.shift();
    return !last || last.issued !== issued || last.left !== left;
  }

  /** Issues in a second, lately; null: not known yet. */
  get rate(): number | null {
    const last = this.points.at(-1);
    const first = this.points.find(({ atS }) => last && atS >= last.atS - rateWindowS);
    const before = first === last ? this.points.at(-2) : first;
    if (!last || !before) return null;
    return Math.max(0, last.issued - before.issued) / (last.atS - before.atS);
  }
}

/** In how many s the stock is gone at this rate; null: nobody can say. */
export function soldOutInS(left: number | null, rate: number | null): number | null {
  if (left === null || left === 0 || rate === null || rate <= 0) return null;
  return left / rate;
}

interface Counted {
  readonly outcomes: ReadonlyMap<string, number>;
  readonly latencies: readonly number[];
}

/** What one replica has counted, and what has changed since its answer before. */
interface ReplicaState {
  readonly atS: number;
  readonly counted: Counted;
  readonly answeredRate: number;
  readonly refusedRate: number;
  readonly latencies: readonly number[];
}

/** How long what a replica has said counts for what it does now. */
const replicaFreshS = 45;
const maxReplicas = 100;

export interface ActivityPoint {
  readonly atS: number;
  readonly answeredRate: number;
  readonly refusedRate: number;
  /** In ms; null: nobody has asked. */
  readonly p50: number | null;
  readonly p99: number | null;
}

/** What became of the requests, of all replicas that have answered while the page was open: each answer is of one of them. */
export class ActivityHistory {
  readonly points: ActivityPoint[] = [];
  /** Since the page was opened: "" is answered with a user coupon, all others are reasons. */
  readonly totals = new Map<string, number>();
  private readonly replicas = new Map<string, ReplicaState>();

  get replicaCount(): number {
    return this.replicas.size;
  }

  /** Answers whether anybody has asked for the coupon since the answer before. */
  add(atS: number, activity: Activity): boolean {
    const name = activity.replicaId ?? "";
    const counted = countedOf(activity);
    const before = this.replicas.get(name);
    // A coupon that the replica had lost sight of is counted anew.
    const base = before && total(before.counted) <= total(counted) ? before.counted : nothing;
    // The first answer of a replica says what was before: that is no rate.
    const since = before ? difference(counted, base) : nothing;
    const spanS = before ? Math.max(0.001, atS - before.atS) : 1;
    const answered = since.outcomes.get("") ?? 0;
    const refused = [...since.outcomes.values()].reduce((sum, count) => sum + count, 0) - answered;
    // It goes to the end, so that those that have not answered for the longest time go first.
    this.replicas.delete(name);
    this.replicas.set(name, {
      ...{ atS, counted, latencies: since.latencies },
      ...{ answeredRate: answered / spanS, refusedRate: refused / spanS },
    });
    if (this.replicas.size > maxReplicas) this.replicas.delete(this.replicas.keys().next().value as string);
    if (!before) return false;
    for (const [reason, count] of since.outcomes) this.totals.set(reason, (this.totals.get(reason) ?? 0) + count);
    const bounds = (activity.latencies ?? []).map(({ atMost }) => secondsOf(atMost) * 1_000);
    this.points.push(this.pointAt(atS, bounds));
    if (this.points.length > maxPoints) this.points.shift();
    return answered + refused > 0;
  }

  /** All replicas together, each by its newest answer. */
  private pointAt(atS: number, boundsMs: readonly number[]): ActivityPoint {
    const fresh = [...this.replicas.values()].filter((replica) => replica.atS >= atS - replicaFreshS);
    const sum = (of: (replica: ReplicaState) => number) => fresh.reduce((all, replica) => all + of(replica), 0);
    const latencies = boundsMs.map((_, at) => sum((replica) => replica.latencies[at] ?? 0));
    return {
      atS,
      answeredRate: sum(({ answeredRate }) => answeredRate),
      refusedRate: sum(({ refusedRate }) => refusedRate),
      p50: quantile(boundsMs, latencies, 0.5),
      p99: quantile(boundsMs, latencies, 0.99),
    };
  }
}

const nothing: Counted = { outcomes: new Map(), latencies: [] };

function difference(now: Counted, before: Counted): Counted {
  const outcomes = [...now.outcomes].map(([name, count]) => [name, count - (before.outcomes.get(name) ?? 0)] as const);
  return {
    outcomes: new Map(outcomes.filter(([, count]) => count > 0)),
    latencies: now.latencies.map((count, at) => count - (before.latencies[at] ?? 0)),
  };
}

function countedOf({ outcomes, latencies }: Activity): Counted {
  return {
    outcomes: new Map(
      (outcomes ?? []).map(({ reason, count }) => [(reason ?? "").replace(/^ERROR_REASON_/, ""), numberOf(count)]),
    ),
    latencies: (latencies ?? []).map(({ count }) => numberOf(count)),
  };
}

const total = ({ latencies }: Counted) => latencies.reduce((sum, count) => sum + count, 0);

/** "1.500s" is 1.5; absent: without end. */
export function secondsOf(duration: string | undefined): number {
  return duration === undefined ? Number.POSITIVE_INFINITY : Number.parseFloat(duration);
}

/** By counts in ranges with these upper ends: where in its range it lies, is taken to be by even distances. */
export function quantile(boundsMs: readonly number[], counts: readonly number[], share: number): number | null {
  const all = counts.reduce((sum, count) => sum + count, 0);
  if (all <= 0) return null;
  const rank = share * all;
  let below = 0;
  for (const [at, count] of counts.entries()) {
    if (count > 0 && below + count >= rank) {
      const from = at === 0 ? 0 : (boundsMs[at - 1] as number);
      const to = boundsMs[at] as number;
      return Number.isFinite(to) ? from + (to - from) * ((rank - below) / count) : from;
    }
    below += count;
  }
  return null;
}
