import { setTimeout as sleep } from "node:timers/promises";
import { type EventFilter, type EventPosition, firstPosition } from "../domain/event.js";
import { Refusal } from "../domain/refusal.js";
import { steadyMs } from "../platform/clock.js";
import { SharedReads } from "../platform/shared-reads.js";
import type { EventPage, EventStore } from "../storage/ports/events.js";
import type { DeadlineMs } from "../storage/ports/page.js";
import { cursorOf } from "./cursor.js";

/** A head that waits until those who may still write before it have ended. */
interface Mark {
  readonly upTo: EventPosition;
  /** Those of them that are still open. */
  open: readonly string[];
}

/** With more, new ones are not noted: those that are there say enough. */
const maxMarks = 64;
/** Between two looks at transactions that are still open. */
export const pendingPauseMs = 50;

/**
 * Reads events in their order, and none before everything that comes before it is known. Numbers are drawn in one order and
 * become visible in another one: so it notes the newest number and who was at work then, and reads up to that number
 * when all of those have ended. What is behind that moves on only.
 */
export class EventReader {
  private decidedTo: EventPosition | null = null;
  private marks: Mark[] = [];
  private historyNumber = 0;
  private readonly looks = new SharedReads<"head", EventPosition | null>(() => this.look());

  constructor(private readonly store: Pick<EventStore, "head" | "page" | "place">) {}

  /** Up to here everything is known; null: nothing is yet. */
  get decided(): EventPosition | null {
    return this.decidedTo;
  }

  /** Whether heads are waiting for transactions to end. */
  get isPending(): boolean {
    return this.marks.length > 0;
  }

  /** Another number: a primary has lost events that were shown before. */
  get history(): number {
    return this.historyNumber;
  }

  /** Looks how far the events have come. Answers up to where everything is known by now, and not what was the newest: null: nothing yet. */
  advance(): Promise<EventPosition | null> {
    return this.looks.read("head");
  }

  /** Looks until everything is known that can be seen now, or for `patienceMs`. Answers up to where everything is known; null: nothing is. */
  async caughtUp(patienceMs: number): Promise<EventPosition | null> {
    const untilMs = steadyMs() + patienceMs;
    await this.advance();
    const wanted = this.marks.at(-1)?.upTo.seq ?? 0;
    while ((this.decidedTo === null || this.decidedTo.seq < wanted) && this.isPending && steadyMs() < untilMs) {
      await sleep(pendingPauseMs);
      await this.advance();
    }
    return this.decidedTo;
  }

  /** Of the first `most` events after a position those that may be wanted, as far as everything is known. */
  page(after: EventPosition, most: number, filter: EventFilter, deadlineMs: DeadlineMs): Promise<EventPage> {
    const until = this.decidedTo?.seq ?? 0;
    if (after.seq >= until) return Promise.resolve({ events: [], lookedTo: null });
    return this.store.page(after.seq, until, most, filter, deadlineMs);
  }

  /**
   * CURSOR_TOO_OLD, unless one can go on after it and miss nothing. Asked after a page was read, it says so of that page, too: whole months go,
   * the oldest first.
   */
  async check(position: EventPosition, deadlineMs: DeadlineMs): Promise<Refusal | undefined> {
    if (position.seq === 0) return undefined;
    const { xid, oldest } = await this.store.place(position.seq, deadlineMs);
    const isThere = position.xid === "" ? oldest === null || oldest <= position.seq + 1 : xid === position.xid;
    if (isThere) return undefined;
    const before = oldest === null ? firstPosition : { seq: oldest - 1, xid: "" };
    return new Refusal("CURSOR_TOO_OLD", [], undefined, { facts: { oldest_cursor: cursorOf(before) } });
  }

  /** The newest event of the last look, or one before it; null: there was none. */
  private get lastSeen(): EventPosition | null {
    return this.marks.at(-1)?.upTo ?? this.decidedTo;
  }

  private async look(): Promise<EventPosition | null> {
    // What waits to be decided may be lost as well, and what is known before it not.
    const { newest, isKnown, open } = await this.store.head(this.lastSeen, this.isPending);
    if (!isKnown) {
      this.historyNumber += 1;
      this.decidedTo = null;
      this.marks = [];
    }
    const stillOpen = new Set(open);
    for (const mark of this.marks) mark.open = mark.open.filter((one) => stillOpen.has(one));
    if (newest === null) {
      // Whoever writes the first events of all draws numbers after the first position.
      this.decidedTo ??= firstPosition;
    } else if (newest.seq > (this.lastSeen?.seq ?? -1) && this.marks.length < maxMarks)
      this.marks.push({ upTo: newest, open });
    while (this.marks[0]?.open.length === 0) this.decidedTo = this.marks.shift()!.upTo;
    return this.decidedTo;
  }
}
