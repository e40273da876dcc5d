import type { PurgeStore, PurgeTerms, PurgeWalk } from "../storage/ports/purge.js";
import type { Job } from "./job-loop.js";

const minuteMs = 60_000;
/** Rows looked at in one transaction, and transactions of one walk in one run. */
const defaultBatchSize = 1_000;
const defaultMaxBatches = 500;
/** Batches of coupons looked at in one run. Most have nothing left, and then a batch takes some milliseconds. */
const defaultMaxPages = 5_000;
/** Walks that are remembered for where they stopped. */
const maxStops = 1_000;
/** What fails in one run before it ends: more than there are kinds, and few enough to leave a store alone that is away. */
const maxFailures = 10;

export interface PurgeOptions {
  /** Days after the expiry, 1 to 3,650. */
  readonly afterDays: number;
  /** Hours after a code book was deleted for which its free codes stay, 0 to 87,600. */
  readonly deletedCodesKeepHours: number;
  /** Only counts, and logs what it would do. */
  readonly dryRun: boolean;
  /** Between two rounds of one replica. */
  readonly everyMinutes: number;
  readonly batchSize?: number;
  readonly maxBatches?: number;
  readonly maxPages?: number;
}

export interface Purged {
  readonly userCoupons: number;
  readonly codes: number;
  readonly requests: number;
  readonly quotaDays: number;
}

/**
 * Removes what expired long ago and was never used, in small batches. Only one replica at a time does anything. What it
 * removed stays counted.
 */
export class Purger implements Job {
  readonly name = "purge";
  readonly pauseMs: number;
  private readonly terms: PurgeTerms;
  private readonly maxBatches: number;
  private readonly maxPages: number;
  /** Where walks through coupons of many used user coupons have stopped; the next run goes on there. */
  private readonly stops = new Map<string, string>();
  /** The last coupon that was looked at, as above; null: the next run begins with the first one. */
  private lookedTo: string | null = null;
  private isClosed = false;

  constructor(
    private readonly store: PurgeStore,
    {
      everyMinutes,
      batchSize = defaultBatchSize,
      maxBatches = defaultMaxBatches,
      maxPages = defaultMaxPages,
      ...terms
    }: PurgeOptions,
    private readonly log: { info(details: object, message: string): void },
  ) {
    this.terms = { ...terms, batchSize };
    this.maxBatches = maxBatches;
    this.maxPages = maxPages;
    this.pauseMs = everyMinutes * minuteMs;
  }

  async run(): Promise<void> {
    await this.purge();
  }

  /** Ends with the batch under way. */
  async stop(): Promise<void> {
    this.isClosed = true;
  }

  /** One run; it ends early when another replica is at it. What fails keeps nothing else from being done, and is thrown at the end. */
  async purge(): Promise<Purged> {
    const purged = { userCoupons: 0, codes: 0, requests: 0, quotaDays: 0 };
    const failures: unknown[] = [];
    const goesOn = async (work: () => Promise<boolean>) => {
      try {
        return await work();
      } catch (error) {
        failures.push(error);
        return failures.length < maxFailures;
      }
    };
    // User coupons that ended by themselves come before those of coupons that have ended: they may be of these. What may take long is last.
    const kinds = [
      () => this.walk({ kind: "ENDED_USER_COUPONS" }, purged),
      () => this.walk({ kind: "EXPIRED_CODES" }, purged),
      () => this.purgeRecords(purged),
      () => this.walkEnded(purged, goesOn),
    ];
    for (const kind of kinds) if (!(await goesOn(kind))) break;
    const { dryRun } = this.terms;
    if (dryRun || Object.values(purged).some((count) => count > 0)) {
      this.log.info({ ...purged, dryRun }, dryRun ? "a purge would remove" : "purged");
    }
    if (failures.length > 0) throw failures[0];
    return purged;
  }

  /** False: another replica is at it, or too much has failed. */
  private async walkEnded(
    purged: { userCoupons: number; codes: number },
    goesOn: (work: () => Promise<boolean>) => Promise<boolean>,
  ): Promise<boolean> {
    for (let page = 0; page < this.maxPages && !this.isClosed; page++) {
      const { walks, next } = await this.store.findEnded(this.terms, this.lookedTo);
      for (const walk of walks) {
        // First, so that coupons that always fail do not keep those behind them from being looked at.
        this.lookedTo = walk.couponId;
        if (!(await goesOn(() => this.walk(walk, purged)))) return false;
      }
      this.lookedTo = next;
      if (next === null) break;
    }
    return true;
  }

  /** False: another replica is at it. */
  private async walk(walk: PurgeWalk, purged: { userCoupons: number; codes: number }): Promise<boolean> {
    const name = JSON.stringify(walk);
    let from = this.stops.get(name) ?? null;
    this.stops.delete(name);
    for (let batch = 0; batch < this.maxBatches && !this.isClosed; batch++) {
      const done = await this.store.purge(walk, this.terms, from);
      if (done === "BUSY") return false;
      purged.userCoupons += done.userCoupons;
      purged.codes += done.codes;
      from = done.next;
      if (from === null) return true;
    }
    if (from !== null && "couponId" in walk && !this.terms.dryRun && this.stops.size < maxStops)
      this.stops.set(name, from);
    return true;
  }

  /** False: as above. */
  private async purgeRecords(purged: { requests: number; quotaDays: number }): Promise<boolean> {
    const { dryRun, batchSize } = this.terms;
    // Rows that stay cannot be gone through in batches.
    const terms = dryRun ? { ...this.terms, batchSize: batchSize * this.maxBatches } : this.terms;
    for (let batch = 0; batch < this.maxBatches && !this.isClosed; batch++) {
      const done = await this.store.purgeRecords(terms);
      if (done === "BUSY") return false;
      purged.requests += done.requests;
      purged.quotaDays += done.quotaDays;
      if (dryRun || Math.max(done.requests, done.quotaDays) < batchSize) break;
    }
    return true;
  }
}
