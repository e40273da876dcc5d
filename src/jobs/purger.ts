import type { PurgeStore, PurgeTerms, PurgeWalk } from "../storage/ports/purge.js";
import type { Job } from "./job-loop.js";

const minuteMs = 60_000;
/** Rows looked at in one transaction, transactions of one walk in one run, and coupons that ended looked at in one run. */
const defaultBatchSize = 1_000;
const defaultMaxBatches = 500;
const maxEnded = 1_000;

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
  /** Where walks through coupons of many used user coupons have stopped; the next run goes on there. */
  private readonly stops = new Map<string, string>();
  private isClosed = false;

  constructor(
    private readonly store: PurgeStore,
    { everyMinutes, batchSize = defaultBatchSize, maxBatches = defaultMaxBatches, ...terms }: PurgeOptions,
    private readonly log: { info(details: object, message: string): void },
  ) {
    this.terms = { ...terms, batchSize };
    this.maxBatches = maxBatches;
    this.pauseMs = everyMinutes * minuteMs;
  }

  async run(): Promise<void> {
    await this.purge();
  }

  /** Ends with the batch under way. */
  async stop(): Promise<void> {
    this.isClosed = true;
  }

  /** One run; it ends early when another replica is at it. */
  async purge(): Promise<Purged> {
    const purged = { userCoupons: 0, codes: 0, requests: 0, quotaDays: 0 };
    // User coupons that ended by themselves come first: they may be of coupons that have ended.
    const walks: PurgeWalk[] = [
      { kind: "ENDED_USER_COUPONS" },
      ...(await this.store.findEnded(this.terms, maxEnded)),
      { kind: "EXPIRED_CODES" },
    ];
    let isMine = true;
    for (const walk of walks) isMine = isMine && (await this.walk(walk, purged));
    if (isMine) await this.purgeRecords(purged);
    const { dryRun } = this.terms;
    if (dryRun || Object.values(purged).some((count) => count > 0)) {
      this.log.info({ ...purged, dryRun }, dryRun ? "a purge would remove" : "purged");
    }
    return purged;
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
    if (from !== null && "couponId" in walk && !this.terms.dryRun && this.stops.size < maxEnded)
      this.stops.set(name, from);
    return true;
  }

  private async purgeRecords(purged: { requests: number; quotaDays: number }): Promise<void> {
    const { dryRun, batchSize } = this.terms;
    // Rows that stay cannot be gone through in batches.
    const terms = dryRun ? { ...this.terms, batchSize: batchSize * this.maxBatches } : this.terms;
    for (let batch = 0; batch < this.maxBatches && !this.isClosed; batch++) {
      const done = await this.store.purgeRecords(terms);
      if (done === "BUSY") return;
      purged.requests += done.requests;
      purged.quotaDays += done.quotaDays;
      if (dryRun || Math.max(done.requests, done.quotaDays) < batchSize) return;
    }
  }
}
