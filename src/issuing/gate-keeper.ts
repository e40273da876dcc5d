import { BoundedCache } from "../platform/bounded-cache.js";
import type { FailureLog } from "../platform/failure-log.js";
import { groupBy } from "../platform/group-by.js";
import type { Gate, GateRequest, PlaceSettlement, Settlement, Survey } from "../reservation/port.js";
import type { IssueStore, StoredCounts } from "../storage/ports/issues.js";
import type { UsageStore } from "../storage/ports/usages.js";
import type { GivenBack } from "../storage/ports/user-coupons.js";
import { LoadPace } from "./load-pace.js";

/** Coupons looked at in one sweep, and overdue reservations of each. */
const lookLimit = 500;
const overdueLimit = 1_000;
/** Overdue reservations settled in one sweep. */
const settleLimit = 5_000;
/** Coupons loaded at once by one replica, unless it is told another number; the others wait for the next request. */
const defaultMaxLoads = 8;
/** A coupon that could not be loaded, or was found to differ from Postgres, is not loaded again for this long. */
const reloadPauseMs = 250;
/** How long a coupon's difference from Postgres is remembered; while there is one, it is looked at in every round. */
const suspectMs = 60_000;
/** A coupon whose copy has missed what was given back is loaded anew for that by one replica at most this often, see `missedOf`. */
const missedPauseMs = 600_000;
/** Coupons whose last load is remembered, for these pauses. */
const maxRemembered = 10_000;

export interface GateKeeperLog {
  info(details: object, message: string): void;
}

/** Told what the keeper does, for the metrics. */
export interface GateKeeperMetrics {
  /** `bytes`: of the packed holdings. */
  loaded(outcome: "OK" | "FAILED", ms: number, bytes: number): void;
  swept(what: "stock" | "place", confirmed: number, released: number): void;
  /** What Postgres says is left of a coupon; null: it has no end. */
  stockSeen(couponId: string, stock: number | null): void;
}

/**
 * Keeps the gate in line with Postgres: loads coupons, settles the reservations of processes that died, and
 * compares what it counts with what is stored. Every replica runs one; all of it may run twice without harm.
 */
export class GateKeeper {
  private readonly loads = new Map<string, Promise<void>>();
  /** Those whose last load was a moment ago. */
  private readonly paused = new BoundedCache<true>(maxRemembered, { ttl: reloadPauseMs });
  /** By coupon: how it differed from Postgres when it was last looked at. */
  private readonly suspects = new BoundedCache<string>(maxRemembered, { ttl: suspectMs });
  /** Those that were loaded anew for what they had missed. */
  private readonly caughtUp = new BoundedCache<true>(maxRemembered, { ttl: missedPauseMs });
  /** Coupons whose copy is out of date and could not be dropped. */
  private readonly stale = new Set<string>();
  private closed = false;

  constructor(
    private readonly gate: Gate,
    private readonly store: IssueStore,
    private readonly usages: Pick<UsageStore, "findUsed">,
    private readonly log: GateKeeperLog,
    private readonly failures: Pick<FailureLog, "failed" | "succeeded">,
    private readonly maxLoads = defaultMaxLoads,
    private readonly metrics?: GateKeeperMetrics,
    readonly pace = new LoadPace(),
  ) {}

  get loadsUnderWay(): number {
    return this.loads.size;
  }

  /** Resolves when no load is under way any more. */
  async close(): Promise<void> {
    this.closed = true;
    await Promise.all(this.loads.values());
  }

  /** Starts to load a coupon, unless that is under way or was tried a moment ago. Never throws. */
  load(couponId: string): void {
    this.startLoad(couponId, couponId, () => this.loadNow(couponId));
  }

  /** The same for the places under its usage cap. */
  loadPlaces(couponId: string): void {
    this.startLoad(`places ${couponId}`, couponId, () => this.loadPlacesNow(couponId));
  }

  /** Resolves when a load of a coupon that is under way here is over, however it ends; undefined: there is none. */
  loadOf(couponId: string): Promise<void> | undefined {
    return this.loads.get(couponId);
  }

  /** Loads a coupon anew that Postgres was found to see otherwise. */
  async reload(couponId: string): Promise<void> {
    if (this.paused.has(couponId)) return;
    await this.invalidate(couponId);
    this.load(couponId);
  }

  /** Drops a copy that is out of date. If the gate is away, the sweep does it later. Never throws. */
  async invalidate(couponId: string): Promise<void> {
    await this.tell([couponId], () => this.gate.invalidate(couponId));
  }

  /** Tells the gate what users do not hold any more. Never throws. */
  async giveBack(given: readonly GivenBack[]): Promise<void> {
    for (const [couponId, ofCoupon] of groupBy(given, (one) => one.couponId)) {
      const settlements = ofCoupon.map(
        ({ restocked, freed: _, givenBackNo, ...request }): Settlement => ({
          outcome: restocked ? "RETURN" : "FREE",
          ...(givenBackNo !== null && { givenBackNo }),
          ...request,
        }),
      );
      await this.tell([couponId], () => this.gate.settle(settlements));
    }
  }

  /** One round over the coupons that are due: settles what is overdue, compares what is loaded. */
  async sweep(): Promise<void> {
    await this.dropStale();
    const looks = await this.gate.lookAtDue(lookLimit, overdueLimit);
    if (looks.length === 0) return;
    // Until it is known better, each of them: what could not be finished is due again.
    let again = new Set(looks.map(({ survey }) => survey.couponId));
    try {
      const surveys = looks.map(({ survey }) => survey);
      await this.settleOverdue(surveys.flatMap((survey) => survey.overdue).slice(0, settleLimit));
      await this.settleOverduePlaces(surveys);
      again = await this.compare(surveys.filter((survey) => survey.loaded || survey.places));
    } finally {
      await this.gate.endLooks(looks.map((look) => ({ look, again: again.has(look.survey.couponId) })));
    }
  }

  /** One that cannot be dropped yet keeps no other from being looked at, which may lie on another server. */
  private async dropStale(): Promise<void> {
    const some = [...this.stale].slice(0, lookLimit);
    for (const couponId of some) this.stale.delete(couponId);
    await Promise.all(some.map((couponId) => this.invalidate(couponId)));
  }

  private startLoad(name: string, couponId: string, work: () => Promise<void>): void {
    if (this.closed || this.loads.has(name) || this.loads.size >= this.maxLoads) return;
    if (this.paused.has(name)) return;
    this.paused.set(name, true);
    const load = work()
      .then(() => this.failures.succeeded("load"))
      .catch((error) => this.failures.failed("load", error, { couponId }))
      .finally(() => this.loads.delete(name));
    this.loads.set(name, load);
  }

  private async tell(couponIds: readonly string[], message: () => Promise<void>): Promise<void> {
    try {
      await message();
      this.failures.succeeded("tell");
    } catch (error) {
      for (const couponId of couponIds) if (this.stale.size < maxRemembered) this.stale.add(couponId);
      this.failures.failed("tell", error);
    }
  }

  private async loadNow(couponId: string): Promise<void> {
    const loading = await this.gate.beginLoad(couponId);
    if (!loading) return;
    const startedMs = performance.now();
    const rest = this.pace.begin(couponId);
    let bytes = 0;
    let outcome: "OK" | "FAILED" = "FAILED";
    try {
      const facts = await this.store.readGate(couponId, async (pages) => {
        for (const page of pages) bytes += page.length;
        if (!(await loading.addHoldings(pages))) return false;
        if (!this.closed) await rest();
        return true;
      });
      if (facts) await loading.install(facts);
      outcome = "OK";
    } finally {
      this.metrics?.loaded(outcome, performance.now() - startedMs, bytes);
    }
  }

  private async settleOverdue(requests: readonly GateRequest[]): Promise<void> {
    if (requests.length === 0) return;
    const issued = await this.store.findIssued(requests.map((request) => request.userCouponId));
    const settlements = requests.map((request): Settlement => {
      const row = issued.get(request.userCouponId);
      if (!row) return { ...request, outcome: "RELEASE" };
      // It was given back while the gate was away. If its stock came back, too, a later comparison sees that.
      return row.isHeld
        ? { ...request, outcome: "CONFIRM", validUntil: row.validUntil }
        : { ...request, outcome: "FREE" };
    });
    await this.gate.settle(settlements);
    const swept = { confirmed: issued.size, released: requests.length - issued.size };
    this.metrics?.swept("stock", swept.confirmed, swept.released);
    this.log.info(swept, "settled overdue reservations");
  }

  private async loadPlacesNow(couponId: string): Promise<void> {
    const counts = (await this.store.readCounts([couponId])).get(couponId);
    if (!counts || counts.remainingPlaces === null) return;
    await this.gate.loadPlaces(couponId, { revision: counts.revision, remaining: counts.remainingPlaces });
    // Places that were freed since, and told of before these were known, would be missing.
    const after = (await this.store.readCounts([couponId])).get(couponId);
    if ((after?.remainingPlaces ?? 0) > counts.remainingPlaces) await this.invalidate(couponId);
  }

  private async settleOverduePlaces(surveys: readonly Survey[]): Promise<void> {
    const overdue = surveys
      .flatMap(({ couponId, overdueUsageIds }) => overdueUsageIds.map((usageId) => ({ couponId, usageId })))
      .slice(0, settleLimit);
    if (overdue.length === 0) return;
    const used = await this.usages.findUsed(overdue.map(({ usageId }) => usageId));
    await this.gate.settlePlaces(
      overdue.map((one): PlaceSettlement => ({ ...one, outcome: used.has(one.usageId) ? "CONFIRM" : "RELEASE" })),
    );
    const swept = { confirmed: used.size, released: overdue.length - used.size };
    this.metrics?.swept("place", swept.confirmed, swept.released);
    this.log.info(swept, "settled overdue places");
  }

  /**
   * A copy of another definition is dropped. So is one whose stock differs from Postgres while nothing is pending, or that has
   * missed what was given back, when two rounds see the same difference: a difference that moves is only a confirmation under
   * way. Answers those that differ.
   */
  private async compare(surveys: readonly Survey[]): Promise<Set<string>> {
    const differing = new Set<string>();
    if (surveys.length === 0) return differing;
    const stored = await this.store.readCounts(surveys.map((survey) => survey.couponId));
    for (const survey of surveys) {
      const { couponId } = survey;
      const row = stored.get(couponId);
      if (row) this.metrics?.stockSeen(couponId, row.stock);
      const missed = this.caughtUp.has(couponId) ? "" : missedOf(survey, row);
      const difference = differenceOf(survey, row) || missed;
      // Another replica may have seen the difference first: then it takes a round more.
      const before = this.suspects.get(couponId);
      this.suspects.delete(couponId);
      if (difference === "") continue;
      differing.add(couponId);
      if (difference === "definition" || before === difference) {
        if (difference === missed && !this.paused.has(couponId)) this.caughtUp.set(couponId, true);
        // Without those who asked for what is overdue: ids of users are for nobody's eyes here.
        const { overdue, overdueUsageIds, ...seen } = survey;
        const counts = { overdueCount: overdue.length, overduePlaceCount: overdueUsageIds.length };
        this.log.info({ ...seen, ...counts, stored: row }, "gate differs from postgres; loading anew");
        await this.reload(couponId);
      } else {
        this.suspects.set(couponId, difference);
      }
    }
    return differing;
  }
}

/** What a copy has otherwise than Postgres; "": nothing. What is pending makes a difference that says nothing. */
function differenceOf({ loaded, pendingCount, places, takenCount }: Survey, row: StoredCounts | undefined): string {
  const isOther = (revision: number, updatedAt: Date | null) =>
    revision !== row?.revision || (updatedAt !== null && updatedAt.getTime() !== row.updatedAt.getTime());
  if (!row || (loaded && isOther(loaded.revision, loaded.updatedAt)) || (places && isOther(places.revision, null))) {
    return "definition";
  }
  const stock = loaded && pendingCount === 0 && loaded.stock !== row.stock;
  const remaining = places && takenCount === 0 && places.remaining !== row.remainingPlaces;
  return stock || remaining ? `${row.stock}/${loaded?.stock}/${row.remainingPlaces}/${places?.remaining}` : "";
}

/**
 * Says that a copy has missed what was given back, where no stock may say so: a user may stand in it who holds nothing any more. A word
 * on its way is missed for a moment only. "": nothing is missed.
 * A replica of version 0.2 says no numbers, so beside one a copy misses all that it gives back. Hence the pause between two loads for
 * this: whatever is wrong with the numbers, they never keep a coupon from being in the gate.
 */
function missedOf({ loaded }: Survey, row: StoredCounts | undefined): string {
  const to = loaded?.givenBackTo ?? null;
  return row && to !== null && to !== row.givenBackTotal ? `given back after ${to}` : "";
}
