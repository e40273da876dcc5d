import { type Duration, durationMs } from "@bufbuild/protobuf/wkt";
import type { WatchEventsRequest, WatchEventsResponse } from "../../../gen/coupon/v1/event_service_pb.js";
import type { StreamContext } from "../../domain/call-context.js";
import { firstPosition } from "../../domain/event.js";
import { type FieldViolation, invalid, Refusal } from "../../domain/refusal.js";
import { cursorOf } from "../../following/cursor.js";
import type { EventFeed } from "../../following/event-feed.js";
import type { EventReader } from "../../following/event-reader.js";
import type { Watched, Watchers } from "../../following/watchers.js";
import { steadyMs } from "../../platform/clock.js";
import { millisOf } from "../message.js";
import { eventMessage, filterOf, mayReadCodes, readCursor, wrongInCursor } from "./event-message.js";

const defaultHeartbeatMs = 10_000;

export function watchEvents(watchers: Watchers, feed: EventFeed, reader: EventReader) {
  return async (request: WatchEventsRequest, context: StreamContext) => {
    const violations = wrongInWatch(request);
    if (violations.length > 0) return invalid(...violations);
    const given = readCursor(request.cursor, []) ?? (request.fromBeginning ? firstPosition : null);
    const tooOld = given && (await reader.check(given, context.deadlineMs));
    if (tooOld) return tooOld;
    // Whoever watches from now on has to know since when: that waits for transactions that are open, not longer than the call may take to begin.
    const from = given ?? feed.position ?? (await reader.caughtUp(context.deadlineMs - steadyMs()));
    if (from === null) return new Refusal("STORE_UNAVAILABLE");
    const watched = watchers.watch(context.principal, {
      from,
      filter: filterOf(request),
      heartbeatMs: heartbeatOf(request.heartbeatInterval, []),
      ...context.stream,
    });
    return messagesOf(watched, mayReadCodes(context.principal));
  };
}

/** What is wrong whatever is stored. */
export function wrongInWatch(request: WatchEventsRequest): FieldViolation[] {
  const violations = wrongInCursor(request);
  if (violations.length === 0 && request.fromBeginning && request.cursor !== "")
    violations.push({ field: "from_beginning", description: "must not be set together with cursor" });
  heartbeatOf(request.heartbeatInterval, violations);
  return violations;
}

function heartbeatOf(interval: Duration | undefined, violations: FieldViolation[]): number {
  return interval ? (millisOf(interval, "heartbeat_interval", violations) ?? durationMs(interval)) : defaultHeartbeatMs;
}

async function* messagesOf(watched: AsyncIterable<Watched>, withCode: boolean): AsyncGenerator<WatchEventsResponse> {
  for await (const { events, upTo } of watched) {
    yield {
      $typeName: "coupon.v1.WatchEventsResponse",
      events: events.map((event) => eventMessage(event, withCode)),
      cursor: cursorOf(upTo),
    };
  }
}
