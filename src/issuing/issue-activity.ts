import { type Reason, Refusal, refusalIn } from "../domain/refusal.js";
import { BoundedCache } from "../platform/bounded-cache.js";
import { newId } from "../platform/new-id.js";

/** Coupons that are counted at once, about 400 bytes each: those that were asked for last. */
const maxCoupons = 1_000;
/** Upper ends of the ranges in which times are counted, in ms; what took longer is counted behind the last. */
export const activityBoundsMs: readonly number[] = [
  ...[1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700],
  ...[1_000, 1_500, 2_000, 3_000, 5_000, 10_000],
];

/** What says nothing of whether there is such a coupon: whoever makes up ids must not push out those that are sold. */
const provesNothing: ReadonlySet<ActivityOutcome> = new Set<ActivityOutcome>([
  "COUPON_NOT_FOUND",
  "STORE_UNAVAILABLE",
  "OVERLOADED",
  "DEADLINE_EXCEEDED",
  "INTERNAL",
]);

export type ActivityOutcome = Reason | "OK";

/** What became of the requests for one coupon, of this process, since it began to count. Counts only grow. */
export interface CouponActivity {
  readonly sinceMs: number;
  readonly outcomes: ReadonlyMap<ActivityOutcome, number>;
  /** One count for each bound, and one for what took longer. */
  readonly latencies: readonly number[];
}

interface Counts {
  readonly sinceMs: number;
  readonly outcomes: Map<ActivityOutcome, number>;
  readonly latencies: number[];
}

/** Counts in memory what became of requests, by coupon, for those who look on: no store hears of it. */
export class IssueActivity {
  /** Another one after each start. */
  readonly replicaId: string;
  private readonly coupons = new BoundedCache<Counts>(maxCoupons);

  constructor(private readonly nowMs: () => number) {
    this.replicaId = newId(nowMs());
  }

  /** Answers what the work does, and counts it. */
  async observe<T>(couponId: string, work: () => Promise<T | Refusal>): Promise<T | Refusal> {
    const startedAt = performance.now();
    let outcome: ActivityOutcome = "INTERNAL";
    try {
      const answer = await work();
      outcome = answer instanceof Refusal ? answer.reason : "OK";
      return answer;
    } catch (error) {
      outcome = refusalIn(error)?.reason ?? "INTERNAL";
      throw error;
    } finally {
      this.count(couponId, outcome, performance.now() - startedAt);
    }
  }

  /** undefined: nobody has asked this process for the coupon, or not for so long that others have taken its room. */
  of(couponId: string): CouponActivity | undefined {
    // Who looks on does not make a coupon stay.
    return this.coupons.peek(couponId);
  }

  private count(couponId: string, outcome: ActivityOutcome, ms: number): void {
    let counts = this.coupons.get(couponId);
    if (!counts) {
      if (provesNothing.has(outcome)) return;
      const latencies = Array.from({ length: activityBoundsMs.length + 1 }, () => 0);
      counts = { sinceMs: this.nowMs(), outcomes: new Map(), latencies };
      this.coupons.set(couponId, counts);
    }
    counts.outcomes.set(outcome, (counts.outcomes.get(outcome) ?? 0) + 1);
    const at = activityBoundsMs.findIndex((boundMs) => ms <= boundMs);
    const bucket = at === -1 ? activityBoundsMs.length : at;
    counts.latencies[bucket] = (counts.latencies[bucket] as number) + 1;
  }
}
