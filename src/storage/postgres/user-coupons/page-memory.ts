import { LRUCache } from "lru-cache";
import type { Coupon } from "../../../domain/coupon.js";
import type { UserCouponWithCoupon } from "../../ports/user-coupons.js";

/** Rows that are remembered, of all users together; about 1 KiB each. One with many labels counts as several. */
const maxRows = 20_000;
const bytesOfRow = 512;

type Rows = readonly UserCouponWithCoupon[];

/**
 * What a user was shown last. When Postgres says the same again, word for word and with the same coupons, the same array
 * is handed out, and what was made of it can be used again.
 */
export class PageMemory {
  private readonly pages = new LRUCache<string, { readonly text: string; readonly rows: Rows }>({
    maxSize: maxRows,
    sizeCalculation: ({ text, rows }) => Math.max(1, rows.length, Math.ceil(text.length / bytesOfRow)),
  });

  /** `text` names its rows by their ids, so that no two users have the same. */
  get(userId: string, text: string, coupons: ReadonlyMap<string, Coupon>): Rows | undefined {
    const known = this.pages.get(userId);
    if (known?.text !== text) return undefined;
    return known.rows.every(({ coupon }) => coupons.get(coupon.id) === coupon) ? known.rows : undefined;
  }

  set(userId: string, text: string, rows: Rows): void {
    this.pages.set(userId, { text, rows });
  }
}
