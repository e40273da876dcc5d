import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import * as grpc from "@grpc/grpc-js";
import { afterAll, describe, expect, test } from "vitest";
import { IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import { UsageService } from "../../gen/coupon/v1/usage_service_pb.js";
import { packageRoot } from "../../src/platform/package-root.js";
import { builtFile, startReplica } from "../support/replica.js";
import { backing } from "../support/service.js";
import { type ReceivedSpan, TraceReceiver } from "../support/trace-receiver.js";
import { until } from "../support/until.js";
import { createSample, issue, issued } from "./samples.js";

const method = IssuanceService.method.issueCoupon;
const path = "/coupon.v1.IssuanceService/IssueCoupon";
const callerSpan = "00f067aa0ba902b7";

const folder = await mkdtemp(join(tmpdir(), "telemetry-"));
afterAll(() => rm(folder, { recursive: true, force: true }));
const receiver = new TraceReceiver();
const address = await receiver.open();
afterAll(() => receiver.close());
const { stores } = await backing(afterAll);
const hook = pathToFileURL(join(packageRoot(), "test/support/loaded-modules.mjs"));
const watched = (name: string) => ({
  NODE_OPTIONS: `--import=${hook}`,
  LOADED_MODULES_FILE: join(folder, name),
  LOG_LEVEL: "info",
});
// As the build has made them, for tests ask what is loaded; and so one file at least proves that it serves.
const start = (settings: Record<string, string>) => startReplica(stores, settings, builtFile());
const [traced, quiet] = await Promise.all([
  start({
    ...watched("traced"),
    OTEL_EXPORTER_OTLP_ENDPOINT: address,
    OTEL_EXPORTER_OTLP_HEADERS: "authorization=Bearer%20one",
    OTEL_RESOURCE_ATTRIBUTES: "deployment.environment.name=test",
    OTEL_SERVICE_NAME: "coupons-of-test",
    OTEL_BSP_SCHEDULE_DELAY: "20",
    // Who calls decides, and those who do not say are not sampled.
    OTEL_TRACES_SAMPLER: "parentbased_always_off",
    LOG_USER_IDS: "hashed",
    LOG_USER_IDS_KEY: "a key of sixteen and more",
    ADMIN_PORT: "0",
  }),
  start(watched("quiet")),
]);
afterAll(async () => void (await Promise.all([traced.stop(), quiet.stop()])));

const traceparent = (traceId: string, flags = "01") => `00-${traceId}-${callerSpan}-${flags}`;
const spansOf = (traceId: string) => receiver.spans.filter((span) => span.traceId === traceId);
const linesOf = (replica: { log(): string }) =>
  replica
    .log()
    .split("\n")
    .filter((line) => line.includes('"msg":"call"'))
    .map((line) => JSON.parse(line) as Record<string, unknown>);

async function openMetrics(port: number | undefined) {
  const accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3";
  const response = await fetch(`http://127.0.0.1:${port}/metrics`, { headers: { accept } });
  return { headers: response.headers, text: await response.text() };
}

async function tree(traceId: string, root: string): Promise<[ReceivedSpan, Record<string, ReceivedSpan>]> {
  await until("the span of the call has been sent", () => spansOf(traceId).some(({ name }) => name === root));
  const all = spansOf(traceId);
  const [top] = all.filter(({ name }) => name === root) as [ReceivedSpan];
  const children = all.filter(({ parentSpanId }) => parentSpanId === top.spanId);
  expect(children.length).toBe(all.length - 1);
  for (const child of children) {
    expect(child.startNs).toBeGreaterThanOrEqual(top.startNs);
    expect(child.endNs).toBeLessThanOrEqual(top.endNs);
  }
  return [top, Object.fromEntries(children.map((child) => [child.name, child]))];
}

/** A native call, with what was answered besides the message. */
function callWithHeaders(port: number, couponId: string, userId: string, headers: Record<string, string>) {
  const client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
  const metadata = new grpc.Metadata();
  for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
  // As protobuf has it: coupon_id is field 1 and user_id field 2, of strings shorter than 128 bytes.
  const strings = [couponId, userId].map((one, index) => {
    const bytes = Buffer.from(one);
    return Buffer.concat([Buffer.from([((fieldNumbers[index] as number) << 3) | 2, bytes.length]), bytes]);
  });
  return new Promise<{ initial: string | undefined; trailing: string | undefined; code: number }>((resolve) => {
    let initial: string | undefined;
    const same = (bytes: Buffer) => bytes;
    const call = client.makeUnaryRequest(path, same, same, Buffer.concat(strings), metadata, () => {});
    call.on("metadata", (one: grpc.Metadata) => {
      initial = one.get("x-request-id")[0]?.toString();
    });
    call.on("status", ({ code, metadata: trailing }: grpc.StatusObject) => {
      resolve({ initial, trailing: trailing.get("x-request-id")[0]?.toString(), code });
      client.close();
    });
  });
}
const fieldNumbers = ["coupon_id", "user_id"].map(
  (name) => method.input.fields.find((field) => field.name === name)?.number as number,
);

describe("traces", () => {
  test("an issue has the caller's span as its parent, and spans of gate, queue, commit and settling, on both ports", async () => {
    const { id } = await createSample(traced.client);
    // The first finds the gate without the coupon.
    await issued(traced.client, id, "warm");
    await until("the gate has the coupon", async () => {
      await issue(traced.client, id, `try ${Math.random()}`);
      const text = await (await fetch(`http://127.0.0.1:${traced.adminPort}/metrics`)).text();
      return /coupon_gate_admissions_total\{outcome="RESERVED"\} [1-9]/.test(text);
    });
    const [native, json, rest] = ["4", "5", "b"].map((first) => `${first}bf92f3577b34da6a3ce929d0e0e4736`) as [
      string,
      string,
      string,
    ];
    const request = { target: { case: "couponId" as const, value: id }, userId: "native" };
    await traced.client.call(method, request, { headers: { traceparent: traceparent(native) } });
    await fetch(`http://127.0.0.1:${traced.httpPort}${path}`, {
      method: "POST",
      headers: { "content-type": "application/json", traceparent: traceparent(json), "x-request-id": "of-json" },
      body: JSON.stringify({ couponId: id, userId: "json" }),
    });
    await fetch(`http://127.0.0.1:${traced.httpPort}/v1/coupons/${id}:issue`, {
      method: "POST",
      headers: { "content-type": "application/json", traceparent: traceparent(rest) },
      body: JSON.stringify({ userId: "rest" }),
    });
    for (const [traceId, system] of [
      [native, "grpc"],
      [json, "connectrpc"],
      [rest, "http"],
    ] as const) {
      const [top, steps] = await tree(traceId, "coupon.v1.IssuanceService/IssueCoupon");
      expect(top.parentSpanId).toBe(callerSpan);
      expect(top.attributes).toMatchObject({
        "rpc.system.name": system,
        "rpc.method": "coupon.v1.IssuanceService/IssueCoupon",
        "rpc.response.status_code": "OK",
        "coupon.reason": "OK",
        "coupon.id": id,
      });
      expect(top.resource).toMatchObject({
        "service.name": "coupons-of-test",
        "deployment.environment.name": "test",
      });
      expect(Object.keys(steps).sort()).toEqual(["commit issue", "gate admit", "queue issue", "settle issue"]);
      expect(steps["gate admit"]?.attributes).toMatchObject({ "coupon.gate.outcome": "RESERVED" });
      expect(steps["commit issue"]?.attributes).toMatchObject({ "coupon.batch.size": 1 });
    }
    const { headers, text } = await openMetrics(traced.adminPort);
    expect(headers.get("content-type")).toContain("application/openmetrics-text");
    for (const traceId of [native, json, rest])
      expect(text).toMatch(
        new RegExp(`^rpc_server_call_duration_seconds_bucket.*IssueCoupon.* # \\{trace_id="${traceId}"`, "m"),
      );
    expect(receiver.headers[0]).toMatchObject({ path: "/v1/traces", authorization: "Bearer one" });
    expect(JSON.stringify(receiver.spans, (_, one) => String(one))).not.toContain("native");
  });

  test("a use has spans of what it reads and of its commit", async () => {
    const { id } = await createSample(traced.client);
    const held = await issued(traced.client, id, "user");
    const traceId = "6bf92f3577b34da6a3ce929d0e0e4736";
    await traced.client.call(
      UsageService.method.useCoupons,
      {
        userId: "user",
        coupons: [{ target: { case: "userCouponId", value: held.id } }],
        orderAmount: { currencyCode: "EUR", minorUnits: 1_000n },
        orderId: "one",
        productId: "p",
      },
      { headers: { traceparent: traceparent(traceId) } },
    );
    const [, steps] = await tree(traceId, "coupon.v1.UsageService/UseCoupons");
    const names = ["read", "use"].flatMap((queue) => [`commit ${queue}`, `queue ${queue}`, `settle ${queue}`]);
    expect(Object.keys(steps).sort()).toEqual(names.sort());
  });

  test("a call that its caller has not sampled is not sent, and its trace is in the log all the same", async () => {
    const { id } = await createSample(traced.client);
    const [not, sampled] = ["7bf92f3577b34da6a3ce929d0e0e4736", "8bf92f3577b34da6a3ce929d0e0e4736"] as const;
    for (const [traceId, flags] of [
      [not, "00"],
      [sampled, "01"],
    ] as const) {
      const headers = { traceparent: traceparent(traceId, flags) };
      const request = { target: { case: "couponId" as const, value: id }, userId: flags };
      await traced.client.call(method, request, { headers });
    }
    await until("the later one has come", () => spansOf(sampled).length > 0);
    expect(spansOf(not)).toEqual([]);
    await until("the line", () => linesOf(traced).some((line) => line.trace_id === not));
    const { text } = await openMetrics(traced.adminPort);
    expect([text.includes(not), text.includes(sampled)]).toEqual([false, true]);
  });

  test("what cannot be sent is told once, and calls go on", async () => {
    const { id } = await createSample(traced.client);
    receiver.status = 400;
    const before = receiver.headers.length;
    for (const [index, user] of ["one", "two"].entries()) {
      const headers = { traceparent: traceparent(`9${index}f92f3577b34da6a3ce929d0e0e4736`) };
      const target = { case: "couponId" as const, value: id };
      await traced.client.call(method, { target, userId: user }, { headers });
      await until("they were refused", () => receiver.headers.length > before + index);
    }
    const failures = () => traced.log().match(/"work":"export traces"/g) ?? [];
    await until("the line", () => failures().length > 0);
    receiver.status = 200;
    expect(failures()).toHaveLength(1);
    const text = await (await fetch(`http://127.0.0.1:${traced.adminPort}/metrics`)).text();
    expect(text).toMatch(/coupon_trace_spans_total\{outcome="FAILED"\} [1-9]/);
  });
});

describe("request ids", () => {
  test("an answer names its call, on both ports, also when it is a refusal", async () => {
    const { id } = await createSample(quiet.client);
    const headers = { "x-request-id": "mine-1" };
    expect(await callWithHeaders(quiet.grpcPort, id, "u", headers)).toMatchObject({ code: 0, initial: "mine-1" });
    expect(await callWithHeaders(quiet.grpcPort, id, "u", headers)).toMatchObject({ code: 6, trailing: "mine-1" });
    const rest = `/v1/coupons/${id}:issue`;
    for (const [way, userId, status] of [
      [path, "v", 200],
      [path, "v", 409],
      [rest, "r", 200],
      [rest, "r", 409],
    ] as const) {
      const response = await fetch(`http://127.0.0.1:${quiet.httpPort}${way}`, {
        method: "POST",
        headers: { "content-type": "application/json", ...headers },
        body: JSON.stringify({ ...(way === path && { couponId: id }), userId }),
      });
      expect([response.status, response.headers.get("x-request-id")]).toEqual([status, "mine-1"]);
    }
  });

  test("one that is too long, or has blanks, is replaced", async () => {
    const { id } = await createSample(quiet.client);
    for (const [index, wrong] of ["x".repeat(129), "a b"].entries()) {
      const { initial } = await callWithHeaders(quiet.grpcPort, id, `w${index}`, { "x-request-id": wrong });
      expect(initial).toMatch(/^[0-9a-f-]{36}$/);
    }
  });
});

describe("the line of a call", () => {
  test("has coupon, user, service and version; no trace where calls are not traced", async () => {
    const { id } = await createSample(quiet.client);
    await quiet.client.call(
      method,
      { target: { case: "couponId", value: id }, userId: "anna" },
      { headers: { "x-request-id": "line-1", traceparent: traceparent("abf92f3577b34da6a3ce929d0e0e4736") } },
    );
    await until("the line", () => linesOf(quiet).some((one) => one.requestId === "line-1"));
    const line = linesOf(quiet).find((one) => one.requestId === "line-1");
    expect(line).toMatchObject({
      service: "coupon-service",
      coupon: id,
      user: "anna",
      status: "OK",
      rpc: "IssueCoupon",
    });
    expect(line?.version).toMatch(/^\d+\.\d+\.\d+/);
    expect(line).not.toHaveProperty("trace_id");
  });

  test("has a hash in the place of the user's id where the setting says so, the same each time", async () => {
    const coupons = [await createSample(traced.client), await createSample(traced.client)];
    for (const { id } of coupons) await issue(traced.client, id, "a user to be hidden");
    const lines = () =>
      linesOf(traced).filter(({ coupon, rpc }) => rpc === "IssueCoupon" && coupons.some(({ id }) => id === coupon));
    await until("both lines", () => lines().length === 2);
    const names = lines().map(({ user }) => user);
    expect(names[0]).toMatch(/^hmac:[\w-]{22}$/);
    expect(names[1]).toBe(names[0]);
    expect(traced.log()).not.toContain("a user to be hidden");
  });
});

describe("metrics", () => {
  const read = async (port: number | undefined) => await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();

  test("the time of calls tells a SOLD_OUT from an OK", async () => {
    const { id } = await createSample(quiet.client, { quantity: 1n });
    await issued(quiet.client, id, "first");
    await issue(quiet.client, id, "second").catch(() => {});
    const text = await read(quiet.httpPort);
    const count = (reason: string, code: string) =>
      Number(
        new RegExp(
          `^rpc_server_call_duration_seconds_count\\{rpc_system_name="grpc",rpc_method="coupon.v1.IssuanceService/IssueCoupon",rpc_response_status_code="${code}",coupon_reason="${reason}"\\} (\\d+)$`,
          "m",
        ).exec(text)?.[1],
      );
    expect(count("SOLD_OUT", "FAILED_PRECONDITION")).toBe(1);
    expect(count("OK", "OK")).toBeGreaterThan(0);
    expect(text).toMatch(/^coupon_build_info\{version="\d+\.\d+\.\d+.*",node="v\d+.*"\} 1$/m);
    expect(text).toMatch(/^coupon_redis_mode\{mode="used"\} 1$/m);
    expect(text).toMatch(/^coupon_reservations_open 0$/m);
    for (const name of ["batch_wait", "batch_commit"])
      expect(text).toMatch(new RegExp(`^coupon_${name}_seconds_count\\{queue="issue"\\} [1-9]`, "m"));
    // Where everybody may read the metrics, no coupon is named.
    expect(text).not.toMatch(/^coupon_stock_left\{/m);
  });

  test("what is left of the busiest coupons is seen on the port of administrators", async () => {
    const { id } = await createSample(traced.client, { quantity: 7n });
    await issued(traced.client, id, "one");
    const line = `coupon_stock_left{coupon_id="${id}"} 6`;
    await until("a sweep of this replica has looked at it", async () => {
      await issue(traced.client, id, "one").catch(() => {});
      return (await read(traced.adminPort)).includes(line);
    });
  });
});

test("who does not trace has loaded nothing of the SDK", async () => {
  await Promise.all([traced.stop(), quiet.stop()]);
  const sdkIn = (name: string) =>
    (JSON.parse(readFileSync(join(folder, name), "utf8")) as string[]).filter((file) =>
      /@opentelemetry.(sdk|core|exporter|otlp|resources)/.test(file),
    );
  expect(sdkIn("traced").length).toBeGreaterThan(0);
  expect(sdkIn("quiet")).toEqual([]);
});
