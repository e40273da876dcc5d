import { once } from "node:events";
import * as http from "node:http";
import * as http2 from "node:http2";
import { connect } from "node:net";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import postgres, { type Sql } from "postgres";
import { afterAll, beforeAll, describe, type TestContext, test } from "vitest";
import { IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import { packageRoot } from "../../src/platform/package-root.js";
import { letIn } from "../support/clients.js";
import { type ReplicaProcess, startReplica } from "../support/replica.js";
import { createStores, type TestStores } from "../support/stores.js";
import { until } from "../support/until.js";
import { answerOf } from "./front-ends.js";
import { createSample, issue, issued, readCoupon } from "./samples.js";

/** What is kept of a log that nobody reads; the pipe, and who reads it, have some more. */
const keptBytes = 4 * 1024 * 1024;
const pipeBytes = 256 * 1024;
const lineBytes = 32 * 1024;

let stores: TestStores;
let sql: Sql;

beforeAll(async () => {
  stores = await createStores();
  sql = postgres(stores.databaseUrl, { max: 3, onnotice: () => {} });
});

afterAll(async () => {
  await sql?.end({ timeout: 5 });
  await stores?.drop();
});

async function start({ onTestFinished }: TestContext, settings: Record<string, string> = {}): Promise<ReplicaProcess> {
  const replica = await startReplica(stores, settings);
  onTestFinished(() => replica.kill());
  return replica;
}

const exitOf = ({ process: child }: ReplicaProcess) =>
  new Promise<number | null>((resolve) => child.once("exit", (code) => resolve(code)));

async function page(replica: ReplicaProcess, path: string): Promise<[number, string]> {
  const response = await fetch(`http://127.0.0.1:${replica.httpPort}${path}`);
  return [response.status, await response.text()];
}

async function atWork(replica: ReplicaProcess): Promise<number> {
  return Number(/^coupon_calls_in_flight (\d+)$/m.exec((await page(replica, "/metrics"))[1])?.[1]);
}

/** A client with one connection, over which it sends one call after the other. */
function keepAlive({ httpPort }: ReplicaProcess, { onTestFinished }: TestContext) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  onTestFinished(() => agent.destroy());
  /** Answers the status and what becomes of the connection, or what went wrong. */
  const call = (path: string, body: object) =>
    new Promise<string>((resolve) => {
      const headers = { "content-type": "application/json" };
      const request = http.request({ host: "127.0.0.1", port: httpPort, method: "POST", path, headers, agent });
      request.on("error", (error: NodeJS.ErrnoException) => resolve(`${error.code} reused: ${request.reusedSocket}`));
      request.on("response", (response) => {
        response.on("error", (error) => resolve(String(error)));
        response.on("end", () => resolve(`${response.statusCode} ${response.headers.connection}`));
        response.resume();
      });
      request.end(JSON.stringify(body));
    });
  return { call };
}

describe("a log that nobody reads", () => {
  /** Loaded into the service: each line has its version, so few calls make much of it. */
  const longVersion = `
    const { parse } = JSON;
    JSON.parse = (...given) => {
      const value = parse(...given);
      return value?.name === "coupon-service" ? { ...value, version: "x".repeat(${lineBytes}) } : value;
    };`;

  test("is kept up to a bound; what is too much is dropped, counted and told of, and calls are served", async (context) => {
    const { expect } = context;
    const hook = `data:text/javascript,${encodeURIComponent(longVersion)}`;
    const replica = await start(context, { LOG_LEVEL: "info", NODE_OPTIONS: `--import=${hook}` });
    const exited = exitOf(replica);
    const { id } = await createSample(replica.client);
    const dropped = async () =>
      Number(/^coupon_log_lines_dropped_total (\d+)$/m.exec((await page(replica, "/metrics"))[1])?.[1]);
    const written = () => replica.log().split('"msg":"call"}').length - 1;
    const wrong = () => replica.client.call(IssuanceService.method.issueCoupon, {});
    let calls = 1;
    const call = async () => {
      expect(await answerOf(letIn(wrong))).toMatchObject({ reason: "INVALID_FIELD" });
      calls += 1;
    };
    await until("it is in the log", () => written() === calls);
    expect(await dropped()).toBe(0);

    replica.process.stdout?.pause();
    while (calls * lineBytes < keptBytes + 2 * pipeBytes) await call();
    expect(await dropped()).toBeGreaterThan(0);
    await issued(replica.client, id, "one");
    calls += 1;

    replica.process.stdout?.resume();
    const told = /"lines":(\d+),"msg":"lines of the log were dropped[^"]*"/;
    const lines = await until("it says so", () => told.exec(replica.log())?.[1]);
    expect(Number(lines)).toBe(await dropped());
    expect(written() + Number(lines)).toBeGreaterThanOrEqual(calls);
    expect(Buffer.byteLength(replica.log())).toBeLessThan(keptBytes + 2 * pipeBytes);

    replica.process.stdout?.pause();
    while (calls * lineBytes < keptBytes + 4 * pipeBytes) await call();
    replica.process.kill("SIGTERM");
    expect(await exited).toBe(0);
  });
});

describe.concurrent("a replica that is told to stop", () => {
  test("ends when its log takes nothing more and one of its writes waits for ever", async (context) => {
    const { expect } = context;
    const hook = pathToFileURL(join(packageRoot(), "test/support/output-sharer.mjs"));
    const replica = await start(context, { NODE_OPTIONS: `--import=${hook}`, LOG_LEVEL: "trace", DRAIN_MS: "500" });
    const ended = once(replica.process, "exit");
    const { id } = await createSample(replica.client);
    const sharer = Number(/"event":"sharer","pid":(\d+)/.exec(replica.log())?.[1]);
    // The pipe stays open, and nobody reads it.
    replica.process.stdout?.pause();
    process.kill(sharer, "SIGTERM");
    const isThere = () => process.kill(sharer, 0);
    await until("the other one has gone", () =>
      Promise.resolve()
        .then(isThere)
        .then(
          () => false,
          () => true,
        ),
    );
    await issued(replica.client, id, "one");
    replica.process.kill("SIGTERM");
    const late = new Promise((_, reject) => {
      setTimeout(() => reject(new Error("it has not ended")), 30_000).unref();
    });
    expect(await Promise.race([ended, late])).toEqual([null, "SIGKILL"]);
  });

  test("says so at once, and serves what balancers still send it", async (context) => {
    const { expect } = context;
    // Longer than a busy machine needs for what follows, and shorter than the longest of the tests beside it.
    const replica = await start(context, { DRAIN_DELAY_MS: "15000" });
    const exited = exitOf(replica);
    const { id } = await createSample(replica.client);
    replica.process.kill("SIGTERM");
    await until("it says so", async () => (await page(replica, "/readyz"))[0] === 503);
    expect(await page(replica, "/readyz")).toEqual([503, "stopping\n"]);
    expect(await page(replica, "/healthz")).toEqual([200, "ok\n"]);
    await issued(replica.client, id, "late");
    expect(await exited).toBe(0);
  });

  test("tells those whose calls do not end that they are to come again, and stores what it had begun", async (context) => {
    const { expect } = context;
    const replica = await start(context, { DRAIN_MS: "1500" });
    const exited = exitOf(replica);
    const { id } = await createSample(replica.client);
    const holder = await sql.reserve();
    await holder`BEGIN`;
    await holder`SELECT FROM coupons WHERE id = ${id} FOR UPDATE`;
    const answer = answerOf(issue(replica.client, id, "waits", "its-request"));
    await until("the call is at work", async () => (await atWork(replica)) === 1);
    replica.process.kill("SIGTERM");
    expect(await answer).toMatchObject({ code: "UNAVAILABLE", reason: "STORE_UNAVAILABLE" });
    await holder`ROLLBACK`;
    holder.release();
    expect(await exited).toBe(0);
    const [row] = await sql`SELECT count(*)::int AS count FROM user_coupons WHERE coupon_id = ${id}`;
    expect(row?.count).toBe(1);
  });

  test("waits for no message for longer than it gives calls under way, on either port", async (context) => {
    const { expect } = context;
    const replica = await start(context, { DRAIN_MS: "500" });
    const exited = exitOf(replica);
    const ends = [replica.grpcPort, replica.httpPort].map(async (port) => {
      const session = http2.connect(`http://127.0.0.1:${port}`);
      session.on("error", () => {});
      const stream = session.request({
        ":method": "POST",
        ":path": "/coupon.v1.CatalogService/ListCoupons",
        "content-type": "application/grpc",
        te: "trailers",
      });
      stream.on("error", () => {});
      let heard = "nothing";
      stream.on("response", () => {
        heard = "an answer";
      });
      const closed = new Promise<string>((resolve) => stream.once("close", () => resolve(heard)));
      await new Promise((resolve) => session.ping(resolve));
      return { closed };
    });
    const streams = await Promise.all(ends);
    replica.process.kill("SIGTERM");
    // An answer would say that the message took longer than its 10 s.
    expect(await Promise.all(streams.map(({ closed }) => closed))).toEqual(["nothing", "nothing"]);
    expect(await exited).toBe(0);
  });

  test("tells clients that keep their connections by HTTP/1.1 with an answer, and resets none of them", async (context) => {
    const { expect } = context;
    const replica = await start(context, { DRAIN_MS: "50000" });
    const exited = exitOf(replica);
    const { id } = await createSample(replica.client);
    const list = "/coupon.v1.CatalogService/ListCoupons";
    const idle = [keepAlive(replica, context), keepAlive(replica, context)];
    for (const client of idle) expect(await client.call(list, {})).toBe("200 keep-alive");
    const silent = connect(replica.httpPort, "127.0.0.1");
    silent.on("error", () => {});
    context.onTestFinished(() => void silent.destroy());
    await once(silent, "connect");
    const holder = await sql.reserve();
    await holder`BEGIN`;
    await holder`SELECT FROM coupons WHERE id = ${id} FOR UPDATE`;
    const underWay = keepAlive(replica, context).call("/coupon.v1.IssuanceService/IssueCoupon", {
      couponId: id,
      userId: "waits",
    });
    await until("the call is at work", async () => (await atWork(replica)) === 1);
    // These take turns so fast that hardly anybody ever sees one of them idle, and end with what they hear of the end.
    let answered = 0;
    const busy = Array.from({ length: 4 }, async () => {
      const client = keepAlive(replica, context);
      for (;;) {
        const heard = await client.call(list, {});
        answered += 1;
        if (heard !== "200 keep-alive") return heard;
      }
    });
    await until("the busy ones are at it", () => answered > 4);
    replica.process.kill("SIGTERM");
    await Promise.race(busy);
    // On its way when the others were told.
    expect(await idle[0]?.call(list, {})).toBe("200 close");
    expect(await Promise.all(busy)).toEqual(Array(4).fill("200 close"));
    await holder`ROLLBACK`;
    holder.release();
    expect(await underWay).toBe("200 close");
    let code: number | null | undefined;
    void exited.then((one) => {
      code = one;
    });
    // Neither the idle one nor the silent one, which may be silent for 10 s, keeps it for much longer.
    await until("the process has ended", () => code !== undefined, 8_000);
    expect(code).toBe(0);
  });

  test("25 s after its clients have connected: 9 throttled calls under way are served to the end", async (context) => {
    const { expect } = context;
    const replica = await start(context);
    const exited = exitOf(replica);
    // Longer than a client or a server leaves a connection in peace: pings come every 30 s.
    const connectedForMs = 25_000;
    const { id } = await createSample(replica.client, {
      throttle: { maxConcurrent: 1, maxPerSecond: 1, maxWait: durationFromMs(15_000) },
    });
    const connectedAtMs = Date.now();
    await until(
      "they are connected for so long",
      () => Date.now() >= connectedAtMs + connectedForMs,
      2 * connectedForMs,
    );
    const answers = Promise.all(Array.from({ length: 9 }, (_, n) => answerOf(issue(replica.client, id, `user ${n}`))));
    await until("the first is served", async () => (await readCoupon(replica.client, id)).issuedCount > 0n);
    replica.process.kill("SIGTERM");
    expect((await answers).map(({ code }) => code)).toEqual(Array(9).fill("OK"));
    expect(await exited).toBe(0);
    const [row] = await sql`SELECT count(*)::int AS count FROM user_coupons WHERE coupon_id = ${id}`;
    expect(row?.count).toBe(9);
  });
});
