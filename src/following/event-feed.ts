import { setTimeout as sleep } from "node:timers/promises";
import { type Event, type EventFilter, type EventPosition, everyEvent } from "../domain/event.js";
import type { Refusal } from "../domain/refusal.js";
import { steadyMs } from "../platform/clock.js";
import type { FailureLog } from "../platform/failure-log.js";
import { SharedReads } from "../platform/shared-reads.js";
import type { EventPage } from "../storage/ports/events.js";
import { noDeadlineMs } from "../storage/ports/page.js";
import { type EventReader, pendingPauseMs } from "./event-reader.js";

/** How often the table is looked at while somebody watches: it costs less than a NOTIFY in every commit would. */
const tickMs = 200;
/** After a look that has failed. */
const failedPauseMs = 1_000;
/** Events that are read at once, by the feed and by whoever is behind it. */
export const maxInPage = 500;
/** Events that are kept for those who watch. Whoever is further behind reads the table. */
const maxKept = 5_000;

/** Someone who is told of what comes. All of these must be quick, and must not throw. */
export interface Follower {
  /** All that has happened between two positions. */
  onEvents(events: readonly Event[], after: EventPosition, upTo: EventPosition): void;
  /** Time has passed. */
  onTick(nowMs: number): void;
  /** What was shown may not be true any more: whoever follows has to begin anew. */
  onHistoryLost(): void;
}

/** The newest events, read once for all who follow, and only while somebody does. */
export class EventFeed {
  private readonly followers = new Set<Follower>();
  private kept: Event[] = [];
  private keptAfter = 0;
  private readTo: EventPosition | null = null;
  private history = 0;
  private isRunning = false;
  private readonly abort = new AbortController();
  private pageQueue: Promise<unknown> = Promise.resolve();
  private readonly pages = new SharedReads<string, EventPage>((key) => this.inTurn(key));

  constructor(
    private readonly reader: EventReader,
    private readonly failures: Pick<FailureLog, "failed" | "succeeded">,
  ) {}

  /** The last position that was read; null: none yet. */
  get position(): EventPosition | null {
    return this.readTo;
  }

  add(follower: Follower): void {
    this.followers.add(follower);
    if (this.isRunning || this.abort.signal.aborted) return;
    this.isRunning = true;
    void this.run();
  }

  remove(follower: Follower): void {
    this.followers.delete(follower);
  }

  close(): void {
    this.abort.abort();
  }

  /** What comes after a position, as far as it is kept here; undefined: that is too long ago. */
  keptSince(after: EventPosition): readonly Event[] | undefined {
    if (this.readTo === null || after.seq < this.keptAfter) return undefined;
    let low = 0;
    let high = this.kept.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.kept[middle]!.position.seq > after.seq) high = middle;
      else low = middle + 1;
    }
    return this.kept.slice(low, low + maxInPage);
  }

  /** Reads the table for those who are behind: one page after the other, and the same one once for all who ask for it. */
  page(after: EventPosition, filter: EventFilter): Promise<EventPage> {
    return this.pages.read(JSON.stringify([after, filter]));
  }

  /** CURSOR_TOO_OLD, unless what comes after it is all there. */
  check(position: EventPosition): Promise<Refusal | undefined> {
    return this.reader.check(position, noDeadlineMs);
  }

  private inTurn(key: string): Promise<EventPage> {
    const [after, filter] = JSON.parse(key) as [EventPosition, EventFilter];
    const page = this.pageQueue.then(() => this.reader.page(after, maxInPage, filter, noDeadlineMs));
    this.pageQueue = page.catch(() => {});
    return page;
  }

  private async run(): Promise<void> {
    while (this.followers.size > 0 && !this.abort.signal.aborted) {
      let pauseMs = tickMs;
      try {
        await this.read();
        this.failures.succeeded("read events");
        if (this.reader.isPending) pauseMs = pendingPauseMs;
      } catch (error) {
        this.failures.failed("read events", error);
        pauseMs = failedPauseMs;
      }
      const nowMs = steadyMs();
      for (const follower of this.followers) follower.onTick(nowMs);
      await sleep(pauseMs, undefined, { signal: this.abort.signal }).catch(() => {});
    }
    this.isRunning = false;
    this.forget();
  }

  private async read(): Promise<void> {
    const decided = await this.reader.advance();
    if (this.history !== this.reader.history) {
      this.history = this.reader.history;
      this.forget();
      for (const follower of this.followers) follower.onHistoryLost();
    }
    if (decided === null) return;
    if (this.readTo === null) {
      this.keptAfter = decided.seq;
      this.readTo = decided;
    }
    while (this.readTo.seq < decided.seq) {
      const after: EventPosition = this.readTo;
      const { events, lookedTo } = await this.reader.page(after, maxInPage, everyEvent, noDeadlineMs);
      // A month may have been dropped meanwhile.
      this.readTo = lookedTo ?? decided;
      this.keep(events);
      for (const follower of this.followers) follower.onEvents(events, after, this.readTo);
    }
  }

  private keep(events: readonly Event[]): void {
    this.kept.push(...events);
    const surplus = this.kept.length - maxKept;
    if (surplus <= 0) return;
    this.keptAfter = this.kept[surplus - 1]!.position.seq;
    this.kept = this.kept.slice(surplus);
  }

  private forget(): void {
    this.kept = [];
    this.readTo = null;
  }
}
