import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { CouponType as CouponTypes } from "../../gen/coupon/v1/coupon_pb.js";
import { type Event, EventKind } from "../../gen/coupon/v1/event_pb.js";
import { ListEventsRequestSchema, type WatchEventsRequestSchema } from "../../gen/coupon/v1/event_service_pb.js";
import { Refusal } from "../../src/domain/refusal.js";
import { callContext } from "../support/call-context.js";
import { labelsView, msOf } from "./messages.js";
import type { Model } from "./model.js";
import type { Replica } from "./service.js";
import type { Happening } from "./state.js";
import { noPurged } from "./world.js";

const deadlineMs = 20_000;
/** Small, so that a life has some pages. */
const pageSize = 7;

/** All events that meet the conditions, page by page. */
export async function listEvents(
  replica: Replica,
  wanted: MessageInitShape<typeof ListEventsRequestSchema> = {},
): Promise<Event[]> {
  const events: Event[] = [];
  for (let cursor = ""; ; ) {
    const message = { ...create(ListEventsRequestSchema, wanted), pageSize, cursor };
    const page = await replica.listEvents(message, callContext(Date.now() + deadlineMs));
    if (page instanceof Refusal) throw new Error(page.reason);
    events.push(...page.events);
    if (page.end) return events;
    cursor = page.cursor;
  }
}

/** Reads what has come since it read last. */
export class EventFollower {
  readonly ids: string[] = [];
  private cursor = "";

  async follow(replica: Replica): Promise<void> {
    for (;;) {
      const message = create(ListEventsRequestSchema, { cursor: this.cursor });
      const page = await replica.listEvents(message, callContext(Date.now() + deadlineMs));
      if (page instanceof Refusal) throw new Error(page.reason);
      this.ids.push(...page.events.map(({ id }) => id));
      this.cursor = page.cursor;
      if (page.end) return;
    }
  }
}

/** What is wrong with the events that a reader is told: each once, none before those of an earlier turn, with all that they say. */
export function wrongEvents(told: readonly Event[], model: Model): string[] {
  const wrong: string[] = [];
  const ids = new Set(told.map(({ id }) => id));
  if (ids.size < told.length || new Set(told.map(({ cursor }) => cursor)).size < told.length)
    wrong.push("one is told twice");
  const expected = model.state.history.map((one) => ({
    turn: one.turn,
    text: expectedText(one, model),
    isMatched: false,
  }));
  let turn = 0;
  for (const event of told) {
    if (isPurge(event)) continue;
    const text = textOf(event);
    const isLock = event.kind === EventKind.USER_COUPON_LOCKED;
    const match = expected.find((one) => !one.isMatched && one.text === text);
    if (!match) {
      // At once, one lock may be asked for twice: that is one change, whether it is told of once or twice.
      if (!isLock || !expected.some((one) => one.text === text)) wrong.push(`not expected: ${text}`);
      continue;
    }
    match.isMatched = true;
    if (match.turn < turn) wrong.push(`too late: ${text}`);
    turn = Math.max(turn, match.turn);
  }
  for (const { isMatched, text } of expected)
    if (!isMatched && !text.startsWith("USER_COUPON_LOCKED")) wrong.push(`missing: ${text}`);
  return [...wrong, ...wrongPurges(told, model)];
}

function isPurge({ kind }: Event): boolean {
  return kind === EventKind.CODES_PURGED || kind === EventKind.USER_COUPONS_PURGED;
}

/** All that was purged is told, in as many events as it took. */
function wrongPurges(told: readonly Event[], model: Model): string[] {
  return model.state.coupons.flatMap(({ id }) => {
    const countOf = (...kinds: EventKind[]) =>
      told
        .filter(({ couponId, kind }) => couponId === id && kinds.includes(kind))
        .reduce((sum, { count }) => sum + Number(count), 0);
    const { expired, deleted, released, codes } = model.state.purged[id] ?? noPurged;
    const counts = [countOf(EventKind.USER_COUPONS_PURGED), countOf(EventKind.CODES_PURGED, EventKind.CODES_DELETED)];
    const right = [expired + deleted + released, codes];
    return counts.join() === right.join() ? [] : [`purged of ${id}: told ${counts}, should be ${right}`];
  });
}

function textOf(event: Event): string {
  const { orderAmount, discountAmount } = event;
  return [
    EventKind[event.kind],
    event.couponId,
    event.couponType === 0 ? "-" : CouponTypes[event.couponType],
    event.userCouponId,
    event.userId,
    event.usageId,
    event.orderId,
    event.productId,
    orderAmount ? `${orderAmount.currencyCode} ${orderAmount.minorUnits}` : "",
    discountAmount ? `${discountAmount.currencyCode} ${discountAmount.minorUnits}` : "",
    event.code,
    labelsView(event.labels),
    event.couponRevision,
    event.count,
    msOf(event.time),
  ].join(", ");
}

function expectedText(one: Happening, model: Model): string {
  const coupon = model.coupon(one.couponId);
  const { userCoupons, usages } = model.state;
  const holder = userCoupons.find(({ id }) => id === one.userCouponId);
  const usage = usages.find(({ id }) => id === one.usageId);
  const labels = one.usageId !== "" ? usage?.labels : one.userCouponId !== "" ? holder?.labels : coupon.labels;
  return [
    one.kind,
    one.couponId,
    coupon.type ?? "-",
    one.userCouponId,
    one.userId,
    one.usageId,
    usage?.orderId ?? "",
    usage?.productId ?? "",
    usage ? `${usage.amount.currency} ${usage.amount.units}` : "",
    usage ? `${usage.amount.currency} ${usage.discount}` : "",
    usage?.code ?? holder?.code ?? "",
    labels ?? "",
    one.revision,
    one.count,
    one.at,
  ].join(", ");
}

export interface Wanted {
  readonly asked: MessageInitShape<typeof ListEventsRequestSchema> & MessageInitShape<typeof WatchEventsRequestSchema>;
  isMet(one: Event): boolean;
}

/** What may be asked for, and which events that leaves. */
export function filters(couponId: string, userId: string): Wanted[] {
  const kinds = [EventKind.USER_COUPON_USED, EventKind.CODES_PURGED, EventKind.USER_COUPON_ISSUED];
  const isOfUser = (one: Event) => one.userId === userId;
  return [
    { asked: { userId }, isMet: isOfUser },
    { asked: { userId, filter: { kinds } }, isMet: (one: Event) => isOfUser(one) && kinds.includes(one.kind) },
    { asked: { filter: { couponIds: [couponId] } }, isMet: (one: Event) => one.couponId === couponId },
    {
      asked: { filter: { couponTypes: [CouponTypes.FREE] } },
      isMet: ({ couponType }: Event) => couponType === CouponTypes.FREE,
    },
    { asked: { filter: { labels: { team: "growth" } } }, isMet: ({ labels }: Event) => labels.team === "growth" },
  ];
}

/** Every other watcher wants all, and the others what meets one of the conditions. */
export function wantedBy(nth: number, couponId: string, userId: string): Wanted {
  const some = filters(couponId, userId);
  return nth % 2 === 0 ? { asked: {}, isMet: () => true } : (some[(nth >> 1) % some.length] as Wanted);
}
