import { create } from "@bufbuild/protobuf";
import { type ListEventsRequest, ListEventsResponseSchema } from "../../../gen/coupon/v1/event_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { firstPosition, isWanted } from "../../domain/event.js";
import { type FieldViolation, invalid } from "../../domain/refusal.js";
import { cursorOf } from "../../following/cursor.js";
import type { EventReader } from "../../following/event-reader.js";
import { steadyMs } from "../../platform/clock.js";
import { eventMessage, filterOf, mayReadCodes, readCursor } from "./event-message.js";

const defaultPageSize = 50;
/** Events that are looked through for one page. */
const maxLooked = 2_000;
/** How long a page waits for transactions that were open when it was asked for. */
const maxPatienceMs = 1_000;

export function listEvents(reader: EventReader) {
  return async (request: ListEventsRequest, context: CallContext) => {
    const violations: FieldViolation[] = [];
    const after = readCursor(request.cursor, violations) ?? firstPosition;
    if (violations.length > 0) return invalid(...violations);
    const filter = filterOf(request);
    const size = request.pageSize || defaultPageSize;
    const decided = await reader.caughtUp(Math.min(maxPatienceMs, (context.deadlineMs - steadyMs()) / 2));
    const { events, lookedTo } = await reader.page(after, maxLooked, filter, context.deadlineMs);
    const tooOld = await reader.check(after, context.deadlineMs);
    if (tooOld) return tooOld;
    const wanted = events.filter((event) => isWanted(event, filter));
    const shown = wanted.slice(0, size);
    const isCut = wanted.length > size;
    const upTo = (isCut ? shown.at(-1)?.position : lookedTo) ?? after;
    const withCode = mayReadCodes(context.principal);
    return create(ListEventsResponseSchema, {
      events: shown.map((event) => eventMessage(event, withCode)),
      cursor: upTo.seq === 0 ? "" : cursorOf(upTo),
      end: !isCut && (decided === null || upTo.seq >= decided.seq || lookedTo === null),
    });
  };
}
