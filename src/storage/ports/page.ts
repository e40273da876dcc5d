/** Until when an answer is of use, in ms since 1970 by this machine's clock. */
export type DeadlineMs = number;

/** Of work that serves many callers, or nobody who waits: it has no deadline but the one that every query has. */
export const noDeadlineMs: DeadlineMs = Number.POSITIVE_INFINITY;

/** Names a repeated call of one method. */
export interface RequestKey {
  readonly method: string;
  readonly requestId: string;
  /** SHA-256 of the input without the request id. */
  readonly inputHash: Uint8Array;
}

export interface Page {
  /** 1 to 1,000. */
  readonly size: number;
  /** The id of the last row of the page before; null for the first page. Rows come in falling order of their ids, unless a list says otherwise. */
  readonly before: string | null;
}

/** The rows of a page, and where the next one begins. */
export interface Rows<T> {
  readonly rows: readonly T[];
  /**
   * The id that the next page comes after; null: this is the last one. A page that has less than was asked for may have a
   * next one, when so many rows that are not wanted were in the way that the store stopped looking.
   */
  readonly next: string | null;
}

/** With the moment it was read at, of the database's clock: states and statuses are derived for it. */
export interface Listed<T> extends Rows<T> {
  readonly now: Date;
}

export interface Dated<T> {
  readonly value: T;
  readonly now: Date;
}
