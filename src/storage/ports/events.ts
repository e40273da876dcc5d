import type { Event, EventFilter, EventPosition } from "../../domain/event.js";
import type { DeadlineMs } from "./page.js";

/** How far the events have come at a moment, and who may still add some that come before that. */
export interface EventHead {
  /** The last event that can be seen; null: there is none. */
  readonly newest: EventPosition | null;
  /** Whether the event that was known is still there and the same. */
  readonly isKnown: boolean;
  /**
   * Transactions that may have written events and were open after `newest` was read. Once all of them have ended, every event up to `newest` can
   * be seen, or never will be.
   */
  readonly open: readonly string[];
}

export interface EventPage {
  /** In order. */
  readonly events: readonly Event[];
  /** The last event that was looked at; null: there is none after where the page begins. */
  readonly lookedTo: EventPosition | null;
}

export interface PlaceOfEvent {
  /** Of the event that stands there; null: there is none. */
  readonly xid: string | null;
  /** The number of the first event that is kept; null: there is none. */
  readonly oldest: number | null;
}

/** The record of what happened, by months. Its reads throw DeadlinePassed, or StoreUnavailable when Postgres is away or does not answer. */
export interface EventStore {
  /** `known`: the newest event that was seen; null: none yet. Unless `isPending`, it is not asked who is at work while that is the newest. */
  head(known: EventPosition | null, isPending: boolean): Promise<EventHead>;

  /**
   * Of the first `most` events after one position, up to another, those that may be wanted: it leaves out only what is certain from the
   * event's own row.
   */
  page(after: number, until: number, most: number, filter: EventFilter, deadlineMs: DeadlineMs): Promise<EventPage>;

  /** What stands at a position. */
  place(seq: number, deadlineMs: DeadlineMs): Promise<PlaceOfEvent>;

  /**
   * Makes the partitions of the months to come, and removes those that ended `keepDays` ago; 0: none. Answers how many months were made,
   * and what was removed.
   */
  keep(keepDays: number): Promise<{ readonly made: number; readonly dropped: readonly string[] }>;
}
