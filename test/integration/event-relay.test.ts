import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test } from "vitest";
import { EventReader } from "../../src/following/event-reader.js";
import { EventRelay, maxBatchBytes } from "../../src/jobs/event-relay.js";
import { KafkaPublisher } from "../../src/publishing/kafka-publisher.js";
import type { EventRecord, Publisher } from "../../src/publishing/port.js";
import { PostgresEventStore } from "../../src/storage/postgres/events/event-store.js";
import { PostgresRelayStore } from "../../src/storage/postgres/events/relay-store.js";
import { until } from "../support/until.js";
import { type ClockedDatabase, openClockedDatabase } from "./clocked-database.js";

/** Events are published at least once and in order, by one replica at a time, whatever happens to it. */

const now = new Date("2026-11-10T10:00:00.000Z");
let world: ClockedDatabase;
/** What came to the topic, by whichever relay. */
let topic: string[];

beforeAll(async () => {
  world = await openClockedDatabase(now, 4);
});
afterAll(() => world.close());
beforeEach(async () => {
  await world.sql`DELETE FROM events`;
  await world.sql`DELETE FROM relay_state`;
  topic = [];
});

async function write(...users: string[]): Promise<void> {
  for (const user of users)
    await world.sql`INSERT INTO events (kind, happened_at, coupon_id, user_id) VALUES ('USER_COUPON_ISSUED', ${now}, ${randomUUID()}, ${user})`;
}

type Publish = (records: readonly EventRecord[]) => Promise<void>;
const arrive: Publish = async (records) => void topic.push(...records.map(({ key }) => key));

/** A relay as one replica has it. `size`: bytes of each event. */
function replica({
  publish = arrive,
  from = "beginning",
  size = 10,
}: {
  publish?: Publish;
  from?: "now" | "beginning";
  size?: number;
} = {}) {
  const seen = { sent: 0, gaps: 0, holder: false, lag: { events: -1, ms: -1 }, errors: [] as string[] };
  const publisher: Publisher = { publish, close: async () => {} };
  const relay = new EventRelay({
    ...{
      reader: new EventReader(new PostgresEventStore(world.database)),
      store: new PostgresRelayStore(world.database),
    },
    ...{ publisher, name: "test", holder: "a test", from },
    encode: ({ userId }) => ({ key: userId as string, headers: {}, value: Buffer.alloc(size) }),
    log: { info: () => {}, error: (_, message) => seen.errors.push(message) },
    metrics: {
      published: (count) => {
        seen.sent += count;
      },
      missed: () => {
        seen.gaps += 1;
      },
      holds: (isHolder) => {
        seen.holder = isHolder;
      },
      lag: (lag) => {
        seen.lag = lag;
      },
    },
  });
  return { relay, seen };
}

const later = (ms: number) => world.setClock(new Date(now.getTime() + ms));
const state = async () => {
  const [row] = await world.sql`
    SELECT r.fence::int, r.held_until, (SELECT user_id FROM events WHERE seq = r.place_seq) AS place FROM relay_state r`;
  return row;
};

test("one replica publishes, in order and once; when it stops another one goes on at once", async () => {
  await world.setClock(now);
  const [one, two] = [replica(), replica()];
  await write("a", "b");
  await one.relay.run();
  await two.relay.run();
  expect(topic).toEqual(["a", "b"]);
  expect([one.seen.holder, two.seen.holder]).toEqual([true, false]);
  expect(await state()).toMatchObject({ fence: 1, place: "b" });
  await write("c");
  await two.relay.run();
  expect(topic).toEqual(["a", "b"]);
  await one.relay.stop();
  await one.relay.run();
  expect(await state()).toMatchObject({ held_until: null });
  await two.relay.run();
  expect(topic).toEqual(["a", "b", "c"]);
  expect([one.seen.holder, two.seen.holder]).toEqual([false, true]);
});

test("a replica that was held up past its lease moves the place no more, and sends no more", async () => {
  await world.setClock(now);
  let goOn!: () => void;
  const held = new Promise<void>((resolve) => {
    goOn = resolve;
  });
  const sentBySlow: string[] = [];
  const slow = replica({
    // A batch has one event.
    size: maxBatchBytes,
    publish: async (records) => {
      sentBySlow.push(...records.map(({ key }) => key));
      await held;
      await arrive(records);
    },
  });
  await write("a", "b");
  const run = slow.relay.run();
  await until("it sends", () => sentBySlow.length === 1);
  const other = replica();
  await later(7_000);
  await other.relay.run();
  expect(topic).toEqual([]);
  await later(8_001);
  await other.relay.run();
  await write("c");
  await other.relay.run();
  goOn();
  await run;
  expect(slow.seen.holder).toBe(false);
  expect(await state()).toMatchObject({ fence: 2, place: "c" });
  await slow.relay.run();
  await slow.relay.stop();
  expect(sentBySlow).toEqual(["a"]);
  expect(topic).toEqual(["a", "b", "c", "a"]);
  // It gave up nothing that is another one's.
  expect((await state())?.held_until).not.toBeNull();
});

test("what was not certain to be stored is published again, by whoever gets through", async () => {
  await world.setClock(now);
  const cut = replica({ publish: () => Promise.reject(new Error("cut")) });
  await write("a", "b");
  const pauses: number[] = [];
  for (let attempt = 0; attempt < 8; attempt++) {
    await expect(cut.relay.run()).rejects.toThrow("cut");
    pauses.push(cut.relay.pauseMs);
  }
  expect(pauses).toEqual([500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000, 10_000]);
  expect(cut.seen).toMatchObject({ sent: 0, holder: false });
  const other = replica();
  await other.relay.run();
  expect(topic).toEqual(["a", "b"]);
});

test("a broker that takes only smaller batches gets smaller ones", async () => {
  await world.setClock(now);
  const sent: number[] = [];
  const strict = replica({
    size: maxBatchBytes / 10,
    publish: async (records) => {
      sent.push(records.length);
      if (records.length > 3) throw Object.assign(new Error("too large"), { code: "MESSAGE_TOO_LARGE" });
      await arrive(records);
    },
  });
  const users = Array.from({ length: 20 }, (_, index) => `user-${index + 10}`);
  await write(...users);
  for (let attempt = 0; attempt < 2; attempt++) await expect(strict.relay.run()).rejects.toThrow("too large");
  await strict.relay.run();
  expect(topic).toEqual(users);
  await write("last");
  await strict.relay.run();
  expect(topic.at(-1)).toBe("last");
  // What was found out stays: 9, 4, then 2 at a time.
  expect(sent).toEqual([9, 4, ...Array(10).fill(2), 1]);
});

test("a record that is too large by itself makes no batch smaller", async () => {
  await world.setClock(now);
  const sent: number[] = [];
  const { relay } = replica({
    publish: (records) => {
      sent.push(records.length);
      return Promise.reject(Object.assign(new Error("too large"), { code: "MESSAGE_TOO_LARGE" }));
    },
  });
  await write("a");
  for (let attempt = 0; attempt < 3; attempt++) await expect(relay.run()).rejects.toThrow("too large");
  await write("b", "c");
  await expect(relay.run()).rejects.toThrow("too large");
  expect(sent).toEqual([1, 1, 1, 3]);
});

test("every replica sees how far behind it is", async () => {
  await world.setClock(now);
  const cut = replica({ publish: () => Promise.reject(new Error("cut")) });
  await write("a", "b");
  await expect(cut.relay.run()).rejects.toThrow("cut");
  await later(3_000);
  const other = replica({ publish: () => Promise.reject(new Error("cut")) });
  await expect(other.relay.run()).rejects.toThrow("cut");
  expect(other.seen.lag.ms).toBe(3_000);
  expect(other.seen.lag.events).toBeGreaterThanOrEqual(2);
  await replica().relay.run();
  const third = replica();
  await third.relay.run();
  expect(third.seen.lag).toEqual({ events: 0, ms: 0 });
});

test("events that were dropped before they were published are missed loudly, and it goes on from the oldest", async () => {
  await world.setClock(now);
  const one = replica();
  await write("a");
  await one.relay.run();
  await one.relay.stop();
  await write("lost", "b", "c");
  await world.sql`DELETE FROM events WHERE user_id IN ('a', 'lost')`;
  const other = replica();
  await other.relay.run();
  expect(topic).toEqual(["a", "b", "c"]);
  expect(other.seen).toMatchObject({ gaps: 1, errors: [expect.stringContaining("not published")] });
});

test("a relay that begins now leaves out what was before, and nothing after", async () => {
  await world.setClock(now);
  await write("before");
  const one = replica({ from: "now" });
  await one.relay.run();
  await write("after");
  await one.relay.run();
  await one.relay.stop();
  // Where it is does not depend on where it would begin.
  await write("later");
  await replica({ from: "now" }).relay.run();
  expect(topic).toEqual(["after", "later"]);
});

test("a broker that says nothing is left in time, its connection is cut, and the next one is asked", async () => {
  const connections: Socket[][] = [];
  const brokers = await Promise.all(
    [0, 1].map(async (broker) => {
      const sockets: Socket[] = [];
      connections[broker] = sockets;
      const silent = createServer((socket) => {
        socket.on("error", () => {}).resume();
        sockets.push(socket);
      });
      silent.listen(0, "127.0.0.1");
      onTestFinished(() => void silent.close());
      await once(silent, "listening");
      return { host: "127.0.0.1", port: (silent.address() as { port: number }).port };
    }),
  );
  const publisher = new KafkaPublisher({ brokers, topic: "t", tls: undefined, sasl: undefined });
  const record = { key: "k", headers: {}, value: Buffer.from("v") };
  for (const counts of [
    [1, 0],
    [1, 1],
    [2, 1],
  ]) {
    await expect(publisher.publish([record], 500)).rejects.toThrow(
      "kafka: events were not published to the topic t: no answer within 500 ms",
    );
    await until("it was asked", () => connections.every(({ length }, broker) => length === counts[broker]));
    await until("it is cut", () => connections.flat().every(({ closed }) => closed));
  }
  await publisher.close();
});

test("who has lost the lease does not give up the next one's", async () => {
  const store = new PostgresRelayStore(world.database);
  const first = await store.take("test", "a", 1_000);
  await world.setClock(new Date(now.getTime() + 1_000));
  onTestFinished(() => world.setClock(now));
  const second = await store.take("test", "b", 1_000);
  await store.giveUp("test", first!.fence);
  expect(await store.take("test", "c", 1_000)).toBeNull();
  await store.giveUp("test", second!.fence);
  expect(await store.take("test", "c", 1_000)).not.toBeNull();
});
