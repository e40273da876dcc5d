import type { CallContext } from "../../domain/call-context.js";
import type { Coupon } from "../../domain/coupon.js";
import type { Reason } from "../../domain/refusal.js";
import type { DeadlineMs, Page, Rows } from "./page.js";

/** An administrative call, as its record names it. What it changes and the record are one transaction. */
export type AdminCall = Pick<CallContext, "method" | "requestId" | "callerRequestId" | "principal" | "deadlineMs">;

/** What something was, or became: a coupon whole, of other things what may be known of them. */
export type Snapshot = { readonly coupon: Coupon } | Readonly<Record<string, unknown>>;

export interface RefusedCall {
  readonly call: AdminCall;
  readonly reason: Reason;
  readonly targetId: string | null;
  /** Of this time. Recorded twice, it is there once. */
  readonly id: string;
  readonly at: Date;
}

export interface AuditRecord {
  readonly id: string;
  readonly happenedAt: Date;
  readonly principal: string;
  readonly method: string;
  readonly requestId: string;
  /** Empty: there was none. */
  readonly callerRequestId: string;
  readonly outcome: "OK" | Reason;
  readonly targetId: string | null;
  readonly before: Snapshot | null;
  readonly after: Snapshot | null;
}

/** null: any. */
export interface AuditFilter {
  readonly principal: string | null;
  readonly method: string | null;
  readonly targetId: string | null;
  readonly from: Date | null;
  readonly until: Date | null;
}

/** Every method throws DeadlinePassed, or StoreUnavailable when Postgres is away or does not answer. */
export interface AuditStore {
  /** Puts calls on record that were refused. What was done is on record already: by the stores that did it. */
  recordRefused(calls: readonly RefusedCall[]): Promise<void>;

  /** The newest first. */
  list(filter: AuditFilter, page: Page, deadlineMs: DeadlineMs): Promise<Rows<AuditRecord>>;

  /** As that of events. */
  keep(keepDays: number): Promise<{ readonly made: number; readonly dropped: readonly string[] }>;
}
