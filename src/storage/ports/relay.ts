import type { EventPosition } from "../../domain/event.js";

/** The right to publish events, for some time. */
export interface RelayLease {
  /** Larger than that of all who held it before. */
  readonly fence: number;
  /** The last event that was published; null: none, and it is not decided yet where to begin. */
  readonly place: EventPosition | null;
}

export interface RelayLag {
  /** Numbers from the place to the newest event; there are as many events at most. */
  readonly events: number;
  /** Age of the first event that is not published yet, in ms; 0: there is none. */
  readonly ms: number;
}

/** How far the events of one relay were published, and who may do so. All times are Postgres'. Throws StoreUnavailable when it is away or silent. */
export interface RelayStore {
  /** Takes the lease when nobody holds it, or its time is over; null: another one has it. */
  take(name: string, holder: string, leaseMs: number): Promise<RelayLease | null>;

  /** Makes the lease last for `leaseMs` from now, and notes a place; null: as it was. false: somebody else has taken it, and nothing was changed. */
  renew(name: string, fence: number, place: EventPosition | null, leaseMs: number): Promise<boolean>;

  /** Lets others take the lease at once, unless somebody has taken it already. */
  giveUp(name: string, fence: number): Promise<void>;

  /** null: it is not decided yet where to begin. */
  lag(name: string): Promise<RelayLag | null>;
}
