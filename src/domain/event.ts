import type { CouponType, Money } from "./coupon.js";
import type { Labels } from "./labels.js";

/** What happens: the names of `coupon.v1.EventKind` without their prefix, as `events` has them. */
export const eventKinds = [
  ...(["COUPON_CREATED", "COUPON_UPDATED", "COUPON_PAUSED", "COUPON_RESUMED", "COUPON_DELETED"] as const),
  "COUPON_EXHAUSTED",
  ...(["USER_COUPON_ISSUED", "USER_COUPON_LOCKED", "USER_COUPON_UNLOCKED", "USER_COUPON_USED"] as const),
  ...(["USAGE_CANCELLED", "USER_COUPON_RELEASED", "USER_COUPON_EXPIRED", "USER_COUPON_DELETED"] as const),
  ...(["CODES_UPLOADED", "CODES_GENERATED", "CODES_EXPIRED", "CODES_DELETED", "CODES_PURGED"] as const),
  "USER_COUPONS_PURGED",
] as const;

export type EventKind = (typeof eventKinds)[number];

/**
 * A place in the order of all events. `xid` is that of the event that stands there, and so tells whether it is still the same
 * one: a primary that lost its last moments gives their numbers again.
 */
export interface EventPosition {
  /** 0: before all that ever happened. */
  readonly seq: number;
  /** Empty: no event stands there; it is the place before the oldest that is kept. */
  readonly xid: string;
}

export const firstPosition: EventPosition = { seq: 0, xid: "" };

/** Something that happened, with what is known now of what it is about. */
export interface Event {
  readonly position: EventPosition;
  /** Of a newer release, it may be none of `eventKinds`. */
  readonly kind: string;
  readonly happenedAt: Date;
  readonly couponId: string;
  readonly couponType: CouponType | null;
  readonly couponRevision: number | null;
  readonly userId: string | null;
  readonly userCouponId: string | null;
  readonly usage: EventUsage | null;
  readonly code: string | null;
  readonly labels: Labels | null;
  /** Of codes or user coupons, where an event is about many. */
  readonly count: number | null;
}

export interface EventUsage {
  readonly id: string;
  readonly orderId: string;
  readonly productId: string;
  readonly orderAmount: Money;
  readonly discountAmount: Money;
}

/** null: any. */
export interface EventFilter {
  readonly kinds: readonly EventKind[] | null;
  readonly couponIds: readonly string[] | null;
  readonly couponTypes: readonly CouponType[] | null;
  readonly userId: string | null;
  readonly labels: Labels | null;
}

export const everyEvent: EventFilter = { kinds: null, couponIds: null, couponTypes: null, userId: null, labels: null };

export function isWanted(event: Event, { kinds, couponIds, couponTypes, userId, labels }: EventFilter): boolean {
  if (userId !== null && event.userId !== userId) return false;
  if (kinds && !(kinds as readonly string[]).includes(event.kind)) return false;
  if (couponIds && !couponIds.includes(event.couponId)) return false;
  if (couponTypes && !(event.couponType && couponTypes.includes(event.couponType))) return false;
  return labels === null || hasLabels(event.labels ?? {}, labels);
}

function hasLabels(labels: Labels, wanted: Labels): boolean {
  return Object.entries(wanted).every(([key, value]) => Object.hasOwn(labels, key) && labels[key] === value);
}
