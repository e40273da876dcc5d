import type { Coupon } from "../../domain/coupon.js";
import type { UserCouponWithCoupon } from "../ports/user-coupons.js";

/** Rows that are remembered, of all users together; about 1 KiB each. */
const maxRows = 20_000;

type Rows = readonly UserCouponWithCoupon[];

/**
 * What a user was shown last. When Postgres says the same again, word for word and with the same coupons, the same array
 * is handed out, and what was made of it can be used again.
 */
export class PageMemory {
  private readonly pages = new Map<string, { readonly text: string; readonly rows: Rows }>();
  private rowCount = 0;

  /** `text` names its rows by their ids, so that no two users have the same. */
  get(userId: string, text: string, coupons: ReadonlyMap<string, Coupon>): Rows | undefined {
    const known = this.pages.get(userId);
    if (known?.text !== text) return undefined;
    return known.rows.every(({ coupon }) => coupons.get(coupon.id) === coupon) ? known.rows : undefined;
  }

  set(userId: string, text: string, rows: Rows): void {
    this.forget(userId);
    if (rows.length > maxRows) return;
    this.pages.set(userId, { text, rows });
    this.rowCount += rows.length;
    while (this.rowCount > maxRows) this.forget(this.pages.keys().next().value as string);
  }

  private forget(userId: string): void {
    this.rowCount -= this.pages.get(userId)?.rows.length ?? 0;
    this.pages.delete(userId);
  }
}
