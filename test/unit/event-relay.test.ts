import { beforeEach, expect, test, vi } from "vitest";
import type { Event, EventPosition } from "../../src/domain/event.js";
import type { EventReader } from "../../src/following/event-reader.js";
import { EventRelay } from "../../src/jobs/event-relay.js";
import type { RelayStore } from "../../src/storage/ports/relay.js";
import { followDate } from "../support/steady-clock.js";

/** Of the lease of one replica: until when it counts on it, and where it goes on. Its store is a list of what was asked of it. */

const leaseMs = 8_000;
/** A batch takes up to 5 seconds, and no more than this is left of the lease. */
const tooShortMs = 5_000;
const place = { seq: 5, xid: "1" };

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["Date"] });
  const follow = followDate();
  return () => {
    follow();
    vi.useRealTimers();
  };
});

/** `takeMs`: how long Postgres takes to give the lease. */
function openRelay(takeMs = 0) {
  const done: string[] = [];
  const events: Event[] = [];
  const reader: Partial<EventReader> = {
    isPending: false,
    advance: async () => place,
    caughtUp: async () => {
      done.push("begins anew");
      return place;
    },
    check: async () => undefined,
    page: async (after: EventPosition) => {
      done.push(`reads after ${after.seq}`);
      return { events: events.splice(0), lookedTo: null };
    },
  };
  const store: RelayStore = {
    take: async () => {
      vi.advanceTimersByTime(takeMs);
      return { fence: 1, place };
    },
    renew: async (_name, _fence, upTo) => {
      done.push(upTo ? `stores ${upTo.seq}` : "renews");
      return true;
    },
    giveUp: async () => {},
    lag: async () => null,
  };
  const relay = new EventRelay({
    ...{ reader: reader as EventReader, store, name: "test", holder: "a test", from: "now" },
    publisher: { publish: async () => void done.push("publishes"), close: async () => {} },
    encode: () => ({ key: "key", headers: {}, value: Buffer.from("value") }),
    log: { info: () => {}, error: () => {} },
    metrics: { published: () => {}, missed: () => {}, holds: () => {}, lag: () => {} },
  });
  return { relay, done, happens: (seq: number) => events.push({ position: { seq, xid: "1" } } as Event) };
}

test("a lease that was renewed goes on where it was", async () => {
  const { relay, done } = openRelay();
  await relay.run();
  vi.advanceTimersByTime(leaseMs - tooShortMs);
  await relay.run();
  expect(done).toEqual(["reads after 5", "renews", "reads after 5"]);
});

test("a lease with less left than a batch takes is renewed before anything is published", async () => {
  const { relay, done, happens } = openRelay();
  await relay.run();
  done.splice(0);
  vi.advanceTimersByTime(leaseMs - tooShortMs);
  happens(6);
  await relay.run();
  expect(done.slice(0, 4)).toEqual(["renews", "reads after 5", "publishes", "stores 6"]);
});

test("a lease counts from when it was asked for, and not from when the answer came", async () => {
  const { relay, done, happens } = openRelay(leaseMs - tooShortMs);
  happens(6);
  await relay.run();
  expect(done.slice(0, 3)).toEqual(["renews", "reads after 5", "publishes"]);
});
