import type { Coupon, CouponDefinition } from "../../domain/coupon.js";
import type { Refusal } from "../../domain/refusal.js";
import type { AdminCall } from "./audit.js";
import type { Dated, DeadlineMs, Listed, Page, RequestKey } from "./page.js";

/** What an edit may change besides the definition. */
export type CouponEdit = Partial<
  CouponDefinition & Pick<Coupon, "pausedAt" | "deletedAt" | "revokedAt" | "exhaustedAt">
>;

export type CouponEventKind =
  | "COUPON_CREATED"
  | "COUPON_UPDATED"
  | "COUPON_PAUSED"
  | "COUPON_RESUMED"
  | "COUPON_DELETED";

/** Every method throws DeadlinePassed, or StoreUnavailable when Postgres is away or does not answer. */
export interface CouponStore {
  /**
   * Inserts what `build` makes of the database's present time, with its event. With a request that was made before, the
   * first answer is given again, or REQUEST_ID_REUSED.
   */
  create(
    build: (now: Date) => CouponDefinition | Refusal,
    request: RequestKey | null,
    call: AdminCall,
  ): Promise<Dated<Coupon> | Refusal>;

  /**
   * The same for many, in one transaction: `build` says of each what it is to be, or why it is refused. The refused ones
   * are part of the answer.
   */
  createMany(
    build: (now: Date) => Promise<readonly (CouponDefinition | Refusal)[]>,
    request: RequestKey | null,
    call: AdminCall,
  ): Promise<Dated<readonly (Coupon | Refusal)[]> | Refusal>;

  /**
   * Locks the coupon, applies `edit`, raises the revision and appends the event, unless the edit is null: then nothing
   * changes and the coupon is the answer. `beforeCommit` runs while the lock is held.
   * COUPON_NOT_FOUND for deleted coupons; STALE_REVISION unless `revision` is 0 or current; requests as in `create`.
   */
  change(
    change: {
      readonly id: string;
      readonly revision: number;
      readonly kind: CouponEventKind;
      readonly request: RequestKey | null;
    },
    edit: (current: Coupon, now: Date) => CouponEdit | Refusal | null,
    beforeCommit: () => Promise<void>,
    call: AdminCall,
  ): Promise<Dated<Coupon> | Refusal>;

  /** Deleted coupons, too. */
  get(id: string, deadlineMs: DeadlineMs): Promise<Dated<Coupon> | null>;
  list(page: Page, showDeleted: boolean, deadlineMs: DeadlineMs): Promise<Listed<Coupon>>;
}
