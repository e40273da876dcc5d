import { type Event, type EventPosition, everyEvent, firstPosition } from "../domain/event.js";
import { positionOf } from "../following/cursor.js";
import { type EventReader, pendingPauseMs } from "../following/event-reader.js";
import { steadyMs } from "../platform/clock.js";
import { batchTooLarge, type EventRecord, type Publisher } from "../publishing/port.js";
import { noDeadlineMs } from "../storage/ports/page.js";
import type { RelayLag, RelayStore } from "../storage/ports/relay.js";
import type { Job } from "./job-loop.js";

/** Whoever holds the lease and dies is replaced when this is over. */
const leaseMs = 8_000;
/** One batch. */
const publishMs = 5_000;
/** What must be left of the lease before a batch is sent, so that nothing of it leaves this process when another one may hold the lease. */
const neededMs = publishMs + 500;
/** While another replica holds the lease. */
const othersPauseMs = 1_000;
/** Between two looks for events. */
const tickMs = 200;
const firstBackoffMs = 500;
const maxBackoffMs = 10_000;
/** One run goes on for so long while there are events, so that a stop does not wait, and failures and successes are told. */
const runMs = 1_000;
const maxInPage = 500;
/** Of one batch. A broker takes 1 MiB (`max.message.bytes`) for one partition unless it is told otherwise; if less, that is found by halving. */
export const maxBatchBytes = 512 * 1024;
/** What a record takes besides its key, headers and value, and each header besides its text; rather too much. */
const recordOverhead = 64;
const headerOverhead = 10;
const patienceMs = 1_000;

export interface RelayOptions {
  readonly reader: EventReader;
  readonly store: RelayStore;
  readonly publisher: Publisher;
  readonly encode: (event: Event) => EventRecord;
  /** Each has a place, and a lease, of its own. */
  readonly name: string;
  /** This replica, for people. */
  readonly holder: string;
  /** Where a relay begins that has no place yet. */
  readonly from: "now" | "beginning";
  readonly log: { info(details: object, message: string): void; error(details: object, message: string): void };
  readonly metrics: {
    published(count: number): void;
    missed(): void;
    holds(isHolder: boolean): void;
    lag(lag: RelayLag): void;
  };
}

/** As far as this replica knows, and never longer than Postgres has it. */
interface Lease {
  readonly fence: number;
  /** By steadyMs(). */
  untilMs: number;
  place: EventPosition | null;
}

/** Publishes events in their order, at least once, and in one replica at a time: the others look whether it is still there. */
export class EventRelay implements Job {
  readonly name = "relay events";
  private lease: Lease | null = null;
  private failures = 0;
  private batchBytes = maxBatchBytes;
  private isStopping = false;
  private underWay: Promise<void> = Promise.resolve();
  private lookedMs = Number.NEGATIVE_INFINITY;

  constructor(private readonly options: RelayOptions) {}

  get pauseMs(): number {
    if (this.failures > 0) return Math.min(maxBackoffMs, firstBackoffMs * 2 ** (this.failures - 1));
    if (!this.lease) return othersPauseMs;
    return this.options.reader.isPending ? pendingPauseMs : tickMs;
  }

  run(): Promise<void> {
    if (this.isStopping) return Promise.resolve();
    const run = this.runOnce();
    this.underWay = run.catch(() => {});
    return run;
  }

  async stop(): Promise<void> {
    this.isStopping = true;
    await this.underWay;
    // It may be that Postgres is away; then the lease ends by itself.
    await this.letGo().catch(() => {});
    await this.options.publisher.close();
  }

  private async runOnce(): Promise<void> {
    try {
      await this.lookAtLag();
      if (this.lease ?? (await this.take())) await this.publishAll();
      this.failures = 0;
    } catch (error) {
      this.failures += 1;
      // Perhaps another replica gets through. What is not certain to be there is published again.
      await this.letGo().catch(() => {});
      throw error;
    }
  }

  /** In every replica: also while nobody publishes it is seen how far behind that is. */
  private async lookAtLag(): Promise<void> {
    const { store, name, metrics } = this.options;
    if (steadyMs() - this.lookedMs < othersPauseMs) return;
    const lag = await store.lag(name);
    this.lookedMs = steadyMs();
    if (lag) metrics.lag(lag);
  }

  private async take(): Promise<boolean> {
    const { store, name, holder, log } = this.options;
    const askedMs = steadyMs();
    const taken = await store.take(name, holder, leaseMs);
    if (!taken) return false;
    this.hold({ ...taken, untilMs: askedMs + leaseMs });
    log.info({ relay: name, fence: taken.fence, place: taken.place }, "this replica publishes the events from now on");
    return true;
  }

  private hold(lease: Lease | null): void {
    this.lease = lease;
    this.options.metrics.holds(lease !== null);
  }

  /** Lets another replica go on at once. */
  private async letGo(): Promise<void> {
    const { lease } = this;
    if (!lease) return;
    this.hold(null);
    await this.options.store.giveUp(this.options.name, lease.fence);
  }

  private async publishAll(): Promise<void> {
    const { reader } = this.options;
    const untilMs = steadyMs() + runMs;
    if ((await this.keep()) && this.lease?.place === null) await this.begin(this.lease);
    await reader.advance();
    while (this.lease?.place && !this.isStopping && steadyMs() < untilMs) {
      const after = this.lease.place;
      const { events } = await reader.page(after, maxInPage, everyEvent, noDeadlineMs);
      // Asked after the page was read: its month may have been dropped meanwhile.
      if (await this.isTooOld(after)) continue;
      if (events.length === 0) return;
      for (const batch of batchesOf(events, this.options.encode, this.batchBytes)) {
        if (this.isStopping || !(await this.publish(batch))) return;
      }
    }
  }

  private async begin(lease: Lease): Promise<void> {
    const { reader, from } = this.options;
    // While a transaction holds it up, the next run asks again.
    const place = from === "beginning" ? firstPosition : await reader.caughtUp(patienceMs);
    if (place) await this.renew(lease, place);
  }

  /** false: the lease is lost. */
  private async publish(batch: Batch): Promise<boolean> {
    const { publisher, metrics } = this.options;
    if (!(await this.keep())) return false;
    const lease = this.lease as Lease;
    try {
      await publisher.publish(batch.records, publishMs);
    } catch (error) {
      // A record is never divided: one that is too large by itself stays so.
      if ((error as { code?: unknown }).code === batchTooLarge && batch.records.length > 1)
        this.batchBytes = batch.bytes / 2;
      throw error;
    }
    metrics.published(batch.records.length);
    return this.renew(lease, batch.upTo);
  }

  /** Sees to it that a whole batch fits into what is left of the lease. */
  private async keep(): Promise<boolean> {
    const { lease } = this;
    return lease !== null && (lease.untilMs - steadyMs() >= neededMs || (await this.renew(lease, null)));
  }

  private async renew(lease: Lease, place: EventPosition | null): Promise<boolean> {
    const { store, name, log } = this.options;
    const askedMs = steadyMs();
    if (!(await store.renew(name, lease.fence, place, leaseMs))) {
      log.info({ relay: name, fence: lease.fence }, "another replica publishes the events now");
      this.hold(null);
      return false;
    }
    lease.untilMs = askedMs + leaseMs;
    lease.place = place ?? lease.place;
    return true;
  }

  /** Where events were dropped before they were published, it is said, and goes on from the oldest that there are. */
  private async isTooOld(place: EventPosition): Promise<boolean> {
    const { reader, log, metrics, name } = this.options;
    const tooOld = await reader.check(place, noDeadlineMs);
    if (!tooOld) return false;
    const oldest = positionOf(String(tooOld.detail.facts?.oldest_cursor)) ?? firstPosition;
    metrics.missed();
    log.error({ relay: name, place, oldest }, "events are gone that were not published; goes on from the oldest");
    await this.renew(this.lease as Lease, oldest);
    return true;
  }
}

interface Batch {
  readonly records: readonly EventRecord[];
  readonly bytes: number;
  readonly upTo: EventPosition;
}

/** In order, each as large as it may be. */
function* batchesOf(
  events: readonly Event[],
  encode: (event: Event) => EventRecord,
  maxBytes: number,
): Generator<Batch> {
  let records: EventRecord[] = [];
  let bytes = 0;
  let upTo = firstPosition;
  for (const event of events) {
    const record = encode(event);
    const size = sizeOf(record);
    if (records.length > 0 && bytes + size > maxBytes) {
      yield { records, bytes, upTo };
      records = [];
      bytes = 0;
    }
    records.push(record);
    bytes += size;
    upTo = event.position;
  }
  if (records.length > 0) yield { records, bytes, upTo };
}

function sizeOf({ key, headers, value }: EventRecord): number {
  let size = recordOverhead + Buffer.byteLength(key) + value.length;
  for (const [name, text] of Object.entries(headers)) size += headerOverhead + name.length + Buffer.byteLength(text);
  return size;
}
