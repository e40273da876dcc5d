import { once } from "node:events";
import { request as httpRequest, type IncomingMessage } from "node:http";
import { text } from "node:stream/consumers";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { beforeAll, describe, expect, test } from "vitest";
import { AuthService } from "../../gen/coupon/v1/auth_service_pb.js";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { type Event, EventKind } from "../../gen/coupon/v1/event_pb.js";
import {
  EventService,
  type WatchEventsRequestSchema,
  type WatchEventsResponse,
} from "../../gen/coupon/v1/event_service_pb.js";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { atEndOfFile } from "../support/at-end.js";
import { CallError, type CallOptions } from "../support/clients.js";
import { type Replica, type ReplicaProcess, runService } from "../support/replica.js";
import { type Backing, backing, startProcesses, startReplicas } from "../support/service.js";
import { until } from "../support/until.js";
import { createSample, issue, issued } from "./samples.js";

/** Following events through the front ends. */

type WatchRequest = MessageInitShape<typeof WatchEventsRequestSchema>;
type Watch = (request: WatchRequest, signal: AbortSignal) => AsyncIterable<WatchEventsResponse>;
const { watchEvents, listEvents } = EventService.method;

let around: Backing;
let replica: Replica;
/** One that asks who calls. */
let guarded: ReplicaProcess;
let admin: string;

const atEnd = atEndOfFile();
beforeAll(async () => {
  around = await backing(atEnd);
  const made = await runService(
    { DATABASE_URL: around.stores.databaseUrl },
    ...["keys", "create", "--caller", "ops", "--scopes", "admin,catalog.write,issue,events.read"],
  );
  admin = made.out.trim();
  [replica] = await startReplicas(atEnd, around.stores, { MAX_WATCHERS: "4" });
  [guarded] = await startProcesses(atEnd, around.stores, { AUTH: "keys", MAX_WATCHERS: "4" });
});

const bearer = (text: string): CallOptions => ({ headers: { authorization: `Bearer ${text}` } });
const usersOf = (events: readonly Event[]) => new Set(events.flatMap(({ userId }) => (userId === "" ? [] : [userId])));
const kindsOf = (events: readonly Event[]) => events.map(({ kind }) => EventKind[kind]);

/** Over grpc-js; it ends when nobody reads any more. */
const native: Watch = (request) => replica.client.stream(watchEvents, request);
const over = (transport: () => Transport): Watch => {
  return (request, signal) => createClient(EventService, transport()).watchEvents(request, { signal });
};
const http = () => `http://127.0.0.1:${replica.httpPort}`;
const ways: [string, Watch][] = [
  ["native gRPC", native],
  ["gRPC on the HTTP port", over(() => createGrpcTransport({ baseUrl: http() }))],
  ["Connect with JSON, HTTP/1.1", over(() => createConnectTransport({ baseUrl: http(), httpVersion: "1.1" }))],
  ["Connect, HTTP/2", over(() => createConnectTransport({ baseUrl: http(), httpVersion: "2", useBinaryFormat: true }))],
  ["gRPC-Web, HTTP/1.1", over(() => createGrpcWebTransport({ baseUrl: http(), httpVersion: "1.1" }))],
];

/** What comes until `enough` of it has, and the cursor after it. */
async function take(
  watch: Watch,
  request: WatchRequest,
  enough: (events: readonly Event[]) => boolean,
  onBegun = () => {},
) {
  const client = new AbortController();
  const events: Event[] = [];
  let cursor = "";
  try {
    for await (const message of watch(request, client.signal)) {
      if (cursor === "") void onBegun();
      events.push(...message.events);
      cursor = message.cursor;
      if (enough(events)) break;
    }
  } finally {
    client.abort();
  }
  return { events, cursor };
}

async function reasonOf(stream: AsyncIterable<unknown>): Promise<string | undefined> {
  try {
    for await (const _ of stream);
    return "OK";
  } catch (error) {
    if (error instanceof CallError) return error.reason;
    return ConnectError.from(error).findDetails(ErrorInfoSchema)[0]?.reason;
  }
}

const watchersOf = async ({ httpPort }: Replica) =>
  Number(/^coupon_watchers (\d+)/m.exec(await (await fetch(`http://127.0.0.1:${httpPort}/metrics`)).text())?.[1]);

describe.for(ways)("over %s", ([, watch]) => {
  test("events come as they happen, each once, and one goes on after a cursor", async () => {
    const coupon = await createSample(replica.client);
    const filter = { couponIds: [coupon.id] };
    const acts = async () => {
      await issue(replica.client, coupon.id, "a");
      await replica.client.call(CatalogService.method.pauseCoupon, { couponId: coupon.id });
    };
    const first = await take(
      watch,
      { filter, fromBeginning: true },
      ({ length }) => length === 3,
      () => void acts(),
    );
    expect(kindsOf(first.events)).toEqual(["COUPON_CREATED", "USER_COUPON_ISSUED", "COUPON_PAUSED"]);
    expect(first.events[1]).toMatchObject({ couponId: coupon.id, userId: "a" });
    expect(new Set(first.events.map(({ id }) => id)).size).toBe(3);
    const after = await take(watch, { filter, cursor: first.events[0]!.cursor }, ({ length }) => length === 2);
    expect(after.events).toEqual(first.events.slice(1));
    // Nothing holds a place whose client has gone.
    await until("nobody watches", async () => (await watchersOf(replica)) === 0);
  });

  test("a cursor that is none is refused before there is a stream", async () => {
    expect(await reasonOf(watch({ cursor: "nonsense" }, AbortSignal.timeout(10_000)))).toBe("INVALID_FIELD");
  });
});

test("from now on nothing comes that was before, and a filter that nothing meets moves on by heartbeats", async () => {
  const coupon = await createSample(replica.client);
  await issued(replica.client, coupon.id, "early");
  const cursors: string[] = [];
  const request = { userId: "nobody", heartbeatInterval: { seconds: 1n } };
  for await (const { events, cursor } of replica.client.stream(watchEvents, request)) {
    expect(events).toEqual([]);
    cursors.push(cursor);
    if (cursors.length === 1) await issued(replica.client, coupon.id, "others");
    if (cursors.length === 2) break;
  }
  expect(cursors[1]).not.toBe(cursors[0]);
  // What was before the first one is not told again, and what was before the last one neither.
  const later = await replica.client.call(listEvents, { cursor: cursors[1]!, filter: { couponIds: [coupon.id] } });
  expect(later).toMatchObject({ events: [], end: true });
});

test("pages have what has just been done, by any replica, and go on where they ended", async () => {
  const coupon = await createSample(replica.client);
  for (const user of ["a", "b", "c"]) await issued(replica.client, coupon.id, user);
  const filter = { couponIds: [coupon.id] };
  const events: Event[] = [];
  let cursor = "";
  for (let end = false; !end; ) {
    const page = await replica.client.call(listEvents, { filter, pageSize: 3, cursor });
    expect(page.events.length).toBeLessThanOrEqual(3);
    events.push(...page.events);
    ({ cursor, end } = page);
  }
  expect(events.map(({ userId }) => userId)).toEqual(["", "a", "b", "c"]);
  const other = await guarded.client.call(listEvents, { filter, cursor: events[1]!.cursor }, bearer(admin));
  expect(other.events).toEqual(events.slice(2));
});

test("a cursor whose event is not kept any more is too old, and the oldest one is told", async () => {
  const coupon = await createSample(replica.client);
  const { events } = await replica.client.call(listEvents, { filter: { couponIds: [coupon.id] } });
  await createSample(replica.client);
  await replica.client.call(listEvents, {});
  await around.sql`DELETE FROM events WHERE coupon_id = ${coupon.id}`;
  const { cursor } = events[0] as Event;
  expect(await reasonOf(replica.client.stream(watchEvents, { cursor }))).toBe("CURSOR_TOO_OLD");
  await expect(replica.client.call(listEvents, { cursor })).rejects.toMatchObject({ reason: "CURSOR_TOO_OLD" });
});

test("wrong conditions are named", async () => {
  const wrong = {
    fromBeginning: true,
    cursor: "x",
    heartbeatInterval: { seconds: 31n },
    filter: { kinds: [999 as EventKind], couponIds: ["x"] },
  };
  const refused = await (async () => {
    for await (const _ of replica.client.stream(watchEvents, wrong));
  })().catch((error: CallError) => error);
  expect(refused).toMatchObject({ reason: "INVALID_FIELD" });
  expect((refused as CallError).fields).toEqual([
    "cursor",
    "filter.kinds[0]",
    "filter.coupon_ids[0]",
    "heartbeat_interval",
  ]);
});

test("there are only so many streams at once", async () => {
  const open = Array.from({ length: 4 }, () => replica.client.stream(watchEvents, {}));
  await Promise.all(open.map((stream) => stream.next()));
  expect(await reasonOf(replica.client.stream(watchEvents, {}))).toBe("TOO_MANY_WATCHERS");
  await open[0]!.return(undefined);
  await until("one has gone", async () => (await watchersOf(replica)) === 3);
  const next = replica.client.stream(watchEvents, {});
  expect((await next.next()).done).toBe(false);
  await Promise.all([next, ...open].map((stream) => stream.return(undefined)));
});

test("a stream holds no permit, and lives for longer than a call may, until the caller's own deadline", async () => {
  await until("nobody watches", async () => (await watchersOf(replica)) === 0);
  const stream = replica.client.stream(watchEvents, {}, { timeoutMs: 1_500 });
  await stream.next();
  const metrics = await (await fetch(`${http()}/metrics`)).text();
  expect(metrics).toMatch(/^coupon_calls_in_flight 0$/m);
  await expect(stream.next()).rejects.toMatchObject({ code: 4 });
  await until("nobody watches", async () => (await watchersOf(replica)) === 0);
});

test("a client that takes nothing holds up nobody", async () => {
  await until("nobody watches", async () => (await watchersOf(replica)) === 0);
  const coupon = await createSample(replica.client);
  const slow = replica.client.stream(watchEvents, { fromBeginning: true });
  await slow.next();
  const seen = take(
    native,
    { filter: { couponIds: [coupon.id] } },
    // That the coupon was made may be among them: a moment ago is now, too.
    (events) => usersOf(events).size === 300,
    async () => {
      for (let from = 0; from < 300; from += 20)
        await Promise.all(Array.from({ length: 20 }, (_, n) => issued(replica.client, coupon.id, `u${from + n}`)));
    },
  );
  expect(usersOf((await seen).events).size).toBe(300);
  await slow.return(undefined);
});

describe("where it is asked who calls", () => {
  const createKey = async (...scopes: string[]) => {
    const made = await guarded.client.call(
      AuthService.method.createKey,
      { caller: scopes.join("-").replaceAll(/[._]/g, "-"), scopes },
      bearer(admin),
    );
    // A replica reads new keys every second.
    await until("the key is known", async () => (await reasonOfList(made.keyText)) !== "UNAUTHENTICATED");
    return { id: made.key!.id, key: made.keyText };
  };
  const reasonOfList = (key: string) =>
    guarded.client.call(listEvents, {}, bearer(key)).then(
      () => "OK",
      (error: CallError) => error.reason,
    );

  test("nobody follows without a key, or without the scope", async () => {
    expect(await reasonOf(guarded.client.stream(watchEvents, {}))).toBe("UNAUTHENTICATED");
    const { key } = await createKey("issue");
    expect(await reasonOf(guarded.client.stream(watchEvents, {}, bearer(key)))).toBe("PERMISSION_DENIED");
  });

  test("a key that is revoked ends the streams that were begun with it", async () => {
    const made = await createKey("events.read");
    const stream = guarded.client.stream(watchEvents, {}, bearer(made.key));
    await stream.next();
    await guarded.client.call(AuthService.method.revokeKey, { keyId: made.id }, bearer(admin));
    expect(await reasonOf(stream)).toBe("UNAUTHENTICATED");
    // A stream that does not end is known for one before whoever runs the tests gives up.
  }, 60_000);

  test("when the replica stops its streams end at once, and say that one goes on elsewhere", async () => {
    const baseUrl = `http://127.0.0.1:${guarded.httpPort}`;
    const streams = [
      guarded.client.stream(watchEvents, {}, bearer(admin)),
      createClient(EventService, createConnectTransport({ baseUrl, httpVersion: "1.1" })).watchEvents(
        {},
        bearer(admin),
      ),
    ].map((stream) => stream[Symbol.asyncIterator]());
    const first = await Promise.all(streams.map((stream) => stream.next()));
    expect(first.every(({ done }) => done === false)).toBe(true);
    const ends = streams.map((stream) => reasonOf({ [Symbol.asyncIterator]: () => stream }));
    guarded.process.kill("SIGTERM");
    expect(await Promise.all(ends)).toEqual(["WATCH_ENDED", "WATCH_ENDED"]);
  });
});

test("over HTTP/1.1, too, who has a message to take when the replica stops is told so when it has taken it", async () => {
  const [stopping] = await startProcesses(atEnd, around.stores, {});
  // More than there is room for on the way.
  await around.sql`
    INSERT INTO events (kind, happened_at, coupon_id, user_id)
    SELECT 'USER_COUPON_ISSUED', now(), gen_random_uuid(), repeat('u', 20000) || n FROM generate_series(1, 1000) n`;
  const baseUrl = `http://127.0.0.1:${stopping.httpPort}`;
  const message = Buffer.from(JSON.stringify({ fromBeginning: true }));
  const request = httpRequest(`${baseUrl}/${EventService.typeName}/${watchEvents.name}`, {
    ...{ method: "POST", headers: { "content-type": "application/connect+json" } },
  });
  request.end(Buffer.concat([Buffer.from([0, 0, 0, 0, message.length]), message]));
  const [response] = (await once(request, "response")) as [IncomingMessage];
  let sent = 0;
  let same = 0;
  await until("nothing more goes on its way", async () => {
    const before = sent;
    sent = Number(/^coupon_events_sent_total (\d+)$/m.exec(await (await fetch(`${baseUrl}/metrics`)).text())?.[1]);
    same = sent > 0 && sent === before ? same + 1 : 0;
    return same === 10;
  });
  expect(sent).toBeLessThan(1_000);
  stopping.process.kill("SIGTERM");
  const isRefused = () =>
    fetch(baseUrl).then(
      () => false,
      () => true,
    );
  await until("it takes no more calls", isRefused);
  expect(await text(response)).toContain("WATCH_ENDED");
});
