import type { CallTrace } from "../domain/call-context.js";
import type { CouponType } from "../domain/coupon.js";
import type { Labels } from "../domain/labels.js";
import { type Reason, Refusal, requestIdReused } from "../domain/refusal.js";
import { steadyMs } from "../platform/clock.js";
import { SharedReads } from "../platform/shared-reads.js";
import type { TargetStore } from "../storage/ports/issues.js";
import type { DeadlineMs } from "../storage/ports/page.js";
import type { Issued, Issuer } from "./issuer.js";
import type { YieldPermit } from "./last-units.js";

/** Coupons of a type that are tried for one call. */
const maxCandidates = 100;
/**
 * How long a list of them serves, and how many times as long as it took to read; but never longer than the bound, after which what other
 * replicas have changed is known. What this one has changed is known at once.
 */
const leastListMs = 250;
const listWorth = 10;
const mostListMs = 1_000;

/** Reasons of one coupon that say nothing about the next one. */
const passing: ReadonlySet<Reason> = new Set<Reason>([
  "COUPON_NOT_FOUND",
  "COUPON_PAUSED",
  "COUPON_NOT_STARTED",
  "COUPON_ENDED",
  "USAGE_CAP_REACHED",
  "ALREADY_ISSUED",
  "QUOTA_REACHED",
  "SOLD_OUT",
  "THROTTLED",
]);

interface Candidates {
  readonly couponIds: readonly string[];
  readonly untilMs: number;
}

export interface TypeRequest {
  readonly type: CouponType;
  readonly userId: string;
  /** "" when the caller gave none. */
  readonly requestId: string;
  /** null: none. */
  readonly labels: Labels | null;
  /** Of the call, if it is traced. */
  readonly trace?: CallTrace | undefined;
}

/** Issues any coupon of a type: the first that can be issued, in the order in which they expire. */
export class TypeIssuer {
  private readonly lists = new Map<CouponType, Candidates>();
  private readonly reads = new SharedReads((type: CouponType) => this.readNow(type));
  /** Grows with each change here: a list that was being read then may lack it. */
  private changes = 0;

  constructor(
    private readonly issuer: Issuer,
    private readonly store: TargetStore,
  ) {}

  async issue(request: TypeRequest, deadlineMs: DeadlineMs, yieldPermit?: YieldPermit): Promise<Issued | Refusal> {
    const earlier = await this.issueEarlier(request, deadlineMs);
    if (earlier) return earlier;
    const tried = new Set<string>();
    let refusal = new Refusal("SOLD_OUT");
    // A list that was read a moment ago may lack what has come since.
    for (const read of [() => this.listOf(request.type), () => this.reads.read(request.type)]) {
      for (const couponId of await read()) {
        if (tried.has(couponId)) continue;
        tried.add(couponId);
        const answer = await this.issuer.issue({ couponId, ...request }, deadlineMs, yieldPermit);
        if (!(answer instanceof Refusal)) return answer;
        if (answer.reason === "REQUEST_ID_REUSED") {
          // The same request at the same moment may have come by another coupon of the type.
          return (await this.issueEarlier(request, deadlineMs)) ?? answer;
        }
        if (!passing.has(answer.reason)) return answer;
        // It was deleted, or made one of another type.
        if (answer.reason !== "COUPON_NOT_FOUND") refusal = answer;
      }
    }
    return refusal;
  }

  /** Coupons were changed by this replica: the next call reads which there are. */
  forget(): void {
    this.changes += 1;
    this.lists.clear();
  }

  /** What an earlier call with this request id has issued, through the same way as any repeated call of that coupon. */
  private async issueEarlier(request: TypeRequest, deadlineMs: DeadlineMs): Promise<Issued | Refusal | null> {
    if (request.requestId === "") return null;
    const earlier = await this.store.findEarlierIssue(request.requestId, deadlineMs);
    if (!earlier) return null;
    if (earlier.userId !== request.userId || earlier.type !== request.type) return requestIdReused();
    return await this.issuer.issue({ couponId: earlier.couponId, ...request }, deadlineMs);
  }

  /** One that was read a moment ago, if there is one. */
  private listOf(type: CouponType): Promise<readonly string[]> {
    const known = this.lists.get(type);
    return known && steadyMs() < known.untilMs ? Promise.resolve(known.couponIds) : this.reads.read(type);
  }

  private async readNow(type: CouponType): Promise<readonly string[]> {
    const { changes } = this;
    const startedAt = steadyMs();
    const couponIds = await this.store.listIssuable(type, maxCandidates);
    const now = steadyMs();
    const servesMs = Math.min(mostListMs, Math.max(leastListMs, (now - startedAt) * listWorth));
    if (changes === this.changes) this.lists.set(type, { couponIds, untilMs: now + servesMs });
    return couponIds;
  }
}
