import { StoreUnavailable } from "../../domain/refusal.js";
import type { Ask, Reservations, Settlement, Survey } from "../../reservation/port.js";
import type { IssueStore } from "../../storage/ports.js";

/** Between two sweeps of one replica. */
const sweepPauseMs = 1_000;
/** Coupons looked at in one sweep, and overdue reservations of each. */
const surveyCouponLimit = 500;
const surveyOverdueLimit = 1_000;
/** Overdue reservations settled in one sweep. */
const settleLimit = 5_000;
/** Coupons loaded at once by one replica; the others wait for the next request for them. */
const maxLoads = 8;
/** A coupon that could not be loaded, or was found to differ from Postgres, is not loaded again for this long. */
const reloadPauseMs = 250;
/** Coupons whose last load is remembered, for that pause. */
const maxRemembered = 10_000;

export interface GateKeeperLog {
  info(details: object, message: string): void;
  error(details: object, message: string): void;
}

/**
 * Keeps the reservation layer in line with Postgres: loads coupons, settles the reservations of processes that died, and
 * compares what it counts with what is stored. Every replica runs one; all of it may run twice without harm.
 */
export class GateKeeper {
  private readonly loads = new Map<string, Promise<void>>();
  private readonly pausedUntilMs = new Map<string, number>();
  private suspects = new Map<string, string>();
  private timer: NodeJS.Timeout | undefined;
  private sweeping: Promise<void> = Promise.resolve();
  private closed = false;

  constructor(
    private readonly reservations: Reservations,
    private readonly store: IssueStore,
    private readonly log: GateKeeperLog,
  ) {}

  start(): void {
    if (this.closed) return;
    this.timer = setTimeout(
      () => {
        this.sweeping = this.sweep()
          .catch((error) => this.report(error, "sweep"))
          .finally(() => this.start());
      },
      // Replicas that started together do not sweep together for ever.
      sweepPauseMs * (0.75 + Math.random() / 2),
    );
  }

  async close(): Promise<void> {
    this.closed = true;
    clearTimeout(this.timer);
    await this.sweeping;
    clearTimeout(this.timer);
    await Promise.all(this.loads.values());
  }

  /** Starts to load a coupon, unless that is under way or was tried a moment ago. Never throws. */
  load(couponId: string): void {
    if (this.closed || this.loads.has(couponId) || this.loads.size >= maxLoads) return;
    if ((this.pausedUntilMs.get(couponId) ?? 0) > Date.now()) return;
    this.pause(couponId);
    const load = this.loadNow(couponId)
      .catch((error) => this.report(error, "load"))
      .finally(() => this.loads.delete(couponId));
    this.loads.set(couponId, load);
  }

  /** Loads a coupon anew that Postgres was found to see otherwise. */
  async reload(couponId: string): Promise<void> {
    if ((this.pausedUntilMs.get(couponId) ?? 0) > Date.now()) return;
    try {
      await this.reservations.invalidate(couponId);
      this.load(couponId);
    } catch (error) {
      this.report(error, "reload");
    }
  }

  /** One round: settles what is overdue, compares what is loaded. Called by the timer, and by tests. */
  async sweep(): Promise<void> {
    const surveys = await this.reservations.survey(surveyCouponLimit, surveyOverdueLimit);
    await this.settleOverdue(surveys.flatMap((survey) => survey.overdue).slice(0, settleLimit));
    await this.compare(surveys.filter((survey) => survey.loaded));
  }

  private async loadNow(couponId: string): Promise<void> {
    const loading = await this.reservations.beginLoad(couponId);
    if (!loading) return;
    const facts = await this.store.readGate(couponId, (holders) => loading.addHolders(holders));
    if (facts) await loading.install(facts);
  }

  private async settleOverdue(asks: readonly Ask[]): Promise<void> {
    if (asks.length === 0) return;
    const issued = await this.store.findIssued(asks.map((ask) => ask.userCouponId));
    const settlements = asks.map((ask): Settlement => {
      const row = issued.get(ask.userCouponId);
      return row ? { ...ask, verdict: "CONFIRM", validUntil: row.validUntil } : { ...ask, verdict: "RELEASE" };
    });
    await this.reservations.settle(settlements);
    this.log.info({ confirmed: issued.size, released: asks.length - issued.size }, "settled overdue reservations");
  }

  /**
   * A copy of another revision is dropped. So is one whose stock differs from Postgres while nothing is pending, when
   * two rounds see the same difference: a difference that moves is only a confirmation under way.
   */
  private async compare(surveys: readonly Survey[]): Promise<void> {
    if (surveys.length === 0) return;
    const stored = await this.store.readStock(surveys.map((survey) => survey.couponId));
    const suspects = new Map<string, string>();
    for (const { couponId, loaded, pendingCount } of surveys) {
      const row = stored.get(couponId);
      if (!loaded || (row && row.revision === loaded.revision && row.remaining === loaded.stock)) continue;
      const difference = `${row?.revision}/${row?.remaining}/${loaded.stock}`;
      if (row?.revision !== loaded.revision || (pendingCount === 0 && this.suspects.get(couponId) === difference)) {
        this.log.info({ couponId, stored: row, loaded }, "reservation layer differs from postgres; loading anew");
        await this.reload(couponId);
      } else if (pendingCount === 0) {
        suspects.set(couponId, difference);
      }
    }
    this.suspects = suspects;
  }

  private pause(couponId: string): void {
    if (this.pausedUntilMs.size >= maxRemembered) this.pausedUntilMs.clear();
    this.pausedUntilMs.set(couponId, Date.now() + reloadPauseMs);
  }

  private report(error: unknown, work: string): void {
    // A store that is away is reported once, where the connection is kept.
    if (!(error instanceof StoreUnavailable)) this.log.error({ err: error, work }, "gate keeper failed");
  }
}
