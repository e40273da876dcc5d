import type { OwnLimits } from "../../domain/caller-limits.js";
import type { Refusal } from "../../domain/refusal.js";
import type { AdminCall } from "./audit.js";
import type { DeadlineMs, RequestKey } from "./page.js";

/** Those for whom keys were made. */
export interface CallerStore {
  /** Null: as for all. Whoever has a copy of the keys finds them changed. Refused: CALLER_NOT_FOUND. */
  setLimits(
    caller: string,
    limits: OwnLimits | null,
    request: RequestKey | null,
    call: AdminCall,
  ): Promise<{ readonly limits: OwnLimits | null } | Refusal>;
  /** Refused: CALLER_NOT_FOUND. */
  getLimits(caller: string, deadlineMs: DeadlineMs): Promise<{ readonly limits: OwnLimits | null } | Refusal>;
}
