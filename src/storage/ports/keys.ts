import type { CallerKey, FreshKey } from "../../domain/caller-key.js";
import type { OwnLimits } from "../../domain/caller-limits.js";
import type { Scope } from "../../domain/principal.js";
import type { Refusal } from "../../domain/refusal.js";
import type { AdminCall } from "./audit.js";
import type { DeadlineMs, Page, RequestKey, Rows } from "./page.js";

/** A key that is made, as it is stored. Its text never comes here. */
export type NewKey = Pick<FreshKey, "id" | "hash">;

/** A key as calls are held against it. */
export type StoredKey = Pick<CallerKey, "id" | "caller" | "scopes" | "expiresAt" | "revokedAt"> &
  Pick<NewKey, "hash"> & {
    /** Of its caller; null: as for all. */
    readonly limits: OwnLimits | null;
  };

export interface Made {
  readonly key: CallerKey;
  /** A repeated call: another key was made then, by the first one. */
  readonly isReplay: boolean;
}

export interface KeyPage {
  readonly keys: readonly StoredKey[];
  /** Where the next look begins, if this is the first page of one. Some keys may be seen again, and none is missed. */
  readonly mark: string;
  /** Where the page ends; null: it is the last. */
  readonly next: string | null;
}

/** The keys of callers. All times are of the store's clock. */
export interface KeyStore {
  /** Refused: INVALID_FIELD for an end that is not in the future. */
  create(
    key: NewKey & { readonly caller: string; readonly scopes: readonly Scope[]; readonly expiresAt: Date | null },
    request: RequestKey | null,
    call: AdminCall,
  ): Promise<Made | Refusal>;
  /** Of one caller, or of all (empty); the newest first, also those that have ended. */
  list(caller: string, page: Page, deadlineMs: DeadlineMs): Promise<Rows<CallerKey>>;
  /**
   * Refused: KEY_NOT_FOUND; KEY_ENDED; INVALID_FIELD as `create`. Without `expiresAt` the new key ends as `expiryOfNext` says.
   */
  rotate(
    id: string,
    next: NewKey & { readonly overlapMs: number; readonly expiresAt: Date | null },
    request: RequestKey | null,
    call: AdminCall,
  ): Promise<(Made & { readonly replaced: CallerKey }) | Refusal>;
  /** Refused: KEY_NOT_FOUND; KEY_ENDED; INVALID_FIELD for an end that is not in the future, or not earlier than it was. */
  expire(id: string, expiresAt: Date, request: RequestKey | null, call: AdminCall): Promise<CallerKey | Refusal>;
  /** Refused: KEY_NOT_FOUND. */
  revoke(id: string, request: RequestKey | null, call: AdminCall): Promise<CallerKey | Refusal>;
  /**
   * A page of the keys that were made or changed since an earlier look (its mark), those that do not hold any more among them; or
   * of all that hold (null). The oldest first, `size` at most, after where an earlier page has ended ("0": from the beginning).
   */
  readPage(since: string | null, after: string, size: number): Promise<KeyPage>;
}
