import { CouponType as CouponTypeMessage } from "../../../gen/coupon/v1/coupon_pb.js";
import { EventKind as EventKindMessage, type Event as EventMessage } from "../../../gen/coupon/v1/event_pb.js";
import type { EventFilter as EventFilterMessage } from "../../../gen/coupon/v1/event_service_pb.js";
import type { CouponType } from "../../domain/coupon.js";
import { type Event, type EventFilter, type EventKind, type EventPosition, eventKinds } from "../../domain/event.js";
import type { Principal } from "../../domain/principal.js";
import type { FieldViolation } from "../../domain/refusal.js";
import { cursorOf, positionOf } from "../../following/cursor.js";
import { labelsOf, moneyMessage, timestampMessage, typeOf } from "../message.js";

interface Wanted {
  readonly userId: string;
  readonly filter?: EventFilterMessage | undefined;
}

export function filterOf({ userId, filter }: Wanted): EventFilter {
  const kinds = filter?.kinds.map((kind) => EventKindMessage[kind] as EventKind) ?? [];
  const types = filter?.couponTypes.map(typeOf) ?? [];
  return {
    kinds: kinds.length > 0 ? kinds : null,
    couponIds: filter && filter.couponIds.length > 0 ? filter.couponIds.map((id) => id.toLowerCase()) : null,
    couponTypes: types.length > 0 ? types.filter((type): type is CouponType => type !== null) : null,
    userId: userId === "" ? null : userId,
    labels: filter ? labelsOf(filter.labels) : null,
  };
}

/** null: there is none. */
export function readCursor(cursor: string, violations: FieldViolation[]): EventPosition | null {
  if (cursor === "") return null;
  const position = positionOf(cursor);
  if (!position) violations.push({ field: "cursor", description: "is none of this service" });
  return position ?? null;
}

/** What is wrong with a cursor whatever is stored. */
export function wrongInCursor({ cursor }: { readonly cursor: string }): FieldViolation[] {
  const violations: FieldViolation[] = [];
  readCursor(cursor, violations);
  return violations;
}

/** Whether a caller may know the codes that events are about. An end user's are the user's own. */
export function mayReadCodes({ scopes, userId }: Principal): boolean {
  return userId !== undefined || scopes.has("codes.read");
}

export function eventMessage(event: Event, withCode: boolean): EventMessage {
  const { position, kind, usage } = event;
  const message: EventMessage = {
    $typeName: "coupon.v1.Event",
    cursor: cursorOf(position),
    id: `${position.seq}-${position.xid}`,
    kind: (eventKinds as readonly string[]).includes(kind)
      ? EventKindMessage[kind as EventKind]
      : EventKindMessage.UNSPECIFIED,
    time: timestampMessage(event.happenedAt),
    couponId: event.couponId,
    couponType: CouponTypeMessage[event.couponType ?? "UNSPECIFIED"],
    userId: event.userId ?? "",
    userCouponId: event.userCouponId ?? "",
    usageId: usage?.id ?? "",
    orderId: usage?.orderId ?? "",
    productId: usage?.productId ?? "",
    code: withCode ? (event.code ?? "") : "",
    labels: event.labels ?? {},
    couponRevision: BigInt(event.couponRevision ?? 0),
    count: BigInt(event.count ?? 0),
  };
  if (usage) {
    message.orderAmount = moneyMessage(usage.orderAmount);
    message.discountAmount = moneyMessage(usage.discountAmount);
  }
  return message;
}
