import { expect, test } from "vitest";
import type { Event, EventFilter, EventPosition } from "../../src/domain/event.js";
import { anybody } from "../../src/domain/principal.js";
import { Refusal } from "../../src/domain/refusal.js";
import type { EventFeed, Follower } from "../../src/following/event-feed.js";
import { Watchers, type WatchOptions } from "../../src/following/watchers.js";

const at = (seq: number): EventPosition => ({ seq, xid: "7" });
const eventAt = (seq: number, userId: string) => ({ position: at(seq), kind: "USER_COUPON_ISSUED", userId }) as Event;
const filter: EventFilter = { kinds: null, couponIds: null, couponTypes: null, userId: "mine", labels: null };

/** A feed that has some events, and tells of them when the test says so. */
function feedOf(events: Event[]) {
  const followers = new Set<Follower>();
  const feed = {
    position: at(5),
    add: (one: Follower) => void followers.add(one),
    remove: (one: Follower) => void followers.delete(one),
    keptSince: (after: EventPosition) =>
      events.filter(({ position }) => position.seq > after.seq && position.seq <= feed.position.seq),
  };
  const tell = (after: number, upTo: number) => {
    feed.position = at(upTo);
    const told = events.filter(({ position }) => position.seq > after && position.seq <= upTo);
    for (const follower of followers) follower.onEvents(told, at(after), at(upTo));
  };
  return { feed: feed as unknown as EventFeed, tell, followers, now: feed };
}

function optionsOf(signal = new AbortController().signal): WatchOptions {
  const never = Number.POSITIVE_INFINITY;
  return { from: at(5), filter, heartbeatMs: never, signal, untilMs: never, mayGoOn: () => undefined };
}

/** Until the watcher has looked at what there is, and waits. */
const turns = async () => {
  for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate);
};

test("what a watcher was not told of, for it was just looking elsewhere, it finds by itself", {
  timeout: 20_000,
}, async () => {
  const events = [eventAt(6, "mine"), eventAt(7, "others"), eventAt(8, "others")];
  const { feed, tell, now } = feedOf(events);
  const stream = new Watchers(feed, 10).watch(anybody, optionsOf());
  await stream.next();
  const next = stream.next();
  await turns();
  // The sixth was read at a moment when the watcher was not waiting.
  now.position = at(6);
  tell(6, 8);
  expect((await next).value).toEqual({ events: [events[0]], upTo: at(8) });
  await stream.return(undefined);
});

test("a watcher moves on past what it does not want, and leaves the feed when its client goes", async () => {
  const { feed, tell, followers } = feedOf([eventAt(6, "others"), eventAt(9, "mine")]);
  const client = new AbortController();
  const stream = new Watchers(feed, 10).watch(anybody, optionsOf(client.signal));
  await stream.next();
  const next = stream.next();
  await turns();
  tell(5, 6);
  tell(6, 9);
  expect((await next).value).toMatchObject({ upTo: at(9), events: [{ userId: "mine" }] });
  const last = stream.next();
  await turns();
  client.abort();
  expect((await last).done).toBe(true);
  expect(followers.size).toBe(0);
});

test("whoever is behind is told when the page that was read may lack events of a month that was dropped meanwhile", async () => {
  const events = [eventAt(9, "mine")];
  const { feed } = feedOf(events);
  const behind = Object.assign(feed, {
    keptSince: () => undefined,
    page: async () => ({ events, lookedTo: at(9) }),
    check: async () => new Refusal("CURSOR_TOO_OLD"),
  });
  const stream = new Watchers(behind, 10).watch(anybody, optionsOf());
  await stream.next();
  await expect(stream.next()).rejects.toThrow("CURSOR_TOO_OLD");
});

test("one caller does not take all places", async () => {
  const watchers = new Watchers(feedOf([]).feed, 4);
  const caller = (id: string) => watchers.watch({ ...anybody, id }, optionsOf());
  const open = [caller("key:a"), caller("key:a"), caller("key:b")];
  for (const stream of open) expect((await stream.next()).done).toBe(false);
  await expect(caller("key:a").next()).rejects.toThrow("TOO_MANY_WATCHERS");
  await open[0]!.return(undefined);
  const again = caller("key:a");
  expect((await again.next()).done).toBe(false);
  watchers.end();
  await expect(again.next()).rejects.toThrow("WATCH_ENDED");
  await expect(caller("key:c").next()).rejects.toThrow("WATCH_ENDED");
});
