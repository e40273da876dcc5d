import { EventFeed } from "../following/event-feed.js";
import { EventReader } from "../following/event-reader.js";
import { Watchers } from "../following/watchers.js";
import type { FailureLog } from "../platform/failure-log.js";
import type { Metrics } from "../platform/metrics.js";
import type { EventStore } from "../storage/ports/events.js";

export type Following = ReturnType<typeof openFollowing>;

/** Those who follow the events, and what reads the events for them. */
export function openFollowing(store: EventStore, maxWatchers: number, failures: FailureLog, metrics: Metrics) {
  const reader = new EventReader(store);
  const feed = new EventFeed(reader, failures);
  const watchers = new Watchers(feed, maxWatchers, (count) => metrics.eventsSent(count));
  metrics.watchers(() => watchers.size);
  return { reader, feed, watchers };
}
