import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";
import { type AddressInfo, connect, createServer } from "node:net";
import { dirname, join } from "node:path";
import { type DescMethodUnary, fromBinary, getExtension } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, type MethodOptions } from "@bufbuild/protobuf/wkt";
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { protoPath as healthProtoPath } from "grpc-health-check";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { AuditService } from "../../gen/coupon/v1/audit_service_pb.js";
import { AuthService } from "../../gen/coupon/v1/auth_service_pb.js";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import { scope } from "../../gen/coupon/v1/options_pb.js";
import { UsageService } from "../../gen/coupon/v1/usage_service_pb.js";
import { UserCouponService } from "../../gen/coupon/v1/user_coupon_service_pb.js";
import { mainFile, runService, startReplica } from "../support/replica.js";
import { oneReplica } from "../support/service.js";
import { until } from "../support/until.js";
import { answerOf, callConnect, callNative, pathOf } from "./front-ends.js";
import { createSample, issue, issued, readCoupon } from "./samples.js";

const services = [AuditService, AuthService, CatalogService, IssuanceService, UserCouponService, UsageService];
const serviceNames = services.map(({ typeName }) => typeName);
const methods = services.flatMap((service) => service.methods as readonly DescMethodUnary[]);

const { stores, replica, sql } = await oneReplica(afterAll);

/** A client of a service that is described by a .proto file of a package. */
function clientOf(
  protoFile: string,
  service: string,
  port: number,
  options: grpc.ClientOptions = {},
): grpc.Client & Record<string, unknown> {
  const definition = loadSync(protoFile, { enums: String, defaults: true, oneofs: true })[service];
  const Client = grpc.makeGenericClientConstructor(definition as grpc.ServiceDefinition, service);
  const client = new Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure(), options);
  onTestFinished(() => client.close());
  return client as never;
}

/** Every message of a stream of answers, and how it ended. */
interface Stream extends grpc.ClientDuplexStream<object, Record<string, unknown>> {}
function follow(stream: Stream) {
  const seen: Record<string, unknown>[] = [];
  const ended = new Promise<grpc.status | undefined>((resolve) => {
    stream.on("data", (message) => seen.push(message));
    stream.on("error", (error: grpc.ServiceError) => resolve(error.code));
    stream.on("end", () => resolve(undefined));
  });
  return { seen, ended };
}

test.for(["GRPC_PORT", "HTTP_PORT", "ADMIN_PORT"])("a start says that another program has %s", async (setting) => {
  const { code, errors } = await runService({ DATABASE_URL: stores.databaseUrl, [setting]: String(replica.grpcPort) });
  expect(code).toBe(1);
  expect(errors).toContain(
    `coupon-service: cannot listen for ${setting}: EADDRINUSE: address already in use 127.0.0.1:${replica.grpcPort}\n`,
  );
});

/** gRPC is spoken on both. */
const ports = [
  ["the gRPC port", replica.grpcPort],
  ["the HTTP port", replica.httpPort],
] as const;

const healthOf = (port: number, options?: grpc.ClientOptions) =>
  clientOf(healthProtoPath, "grpc.health.v1.Health", port, options);
const watchOf = (client: ReturnType<typeof healthOf>) =>
  follow((client.watch as (request: object) => Stream)({ service: "" }));

describe.for(ports)("health on %s", ([, port]) => {
  type Unary = (
    request: object,
    answer: (error: grpc.ServiceError | null, message?: { status: string }) => void,
  ) => void;
  const check = (client: ReturnType<typeof healthOf>, service: string) =>
    new Promise<string | number>((resolve) => {
      const call = (client.check as Unary).bind(client);
      call({ service }, (error, message) => resolve(error?.code ?? (message?.status as string)));
    });

  test.for([["the server", ""], ...serviceNames.map((name) => [name, name])])("Check of %s", async ([, service]) => {
    expect(await check(healthOf(port), service as string)).toBe("SERVING");
  });

  test("Check of a service that is not there", async () => {
    expect(await check(healthOf(port), "coupon.v1.NoSuchService")).toBe(grpc.status.NOT_FOUND);
  });

  test("Watch is open to 50 on one connection, and then still to those on others", async () => {
    const client = healthOf(port);
    const watches = Array.from({ length: 50 }, () => watchOf(client));
    await until("all are told", () => watches.every(({ seen }) => seen.length > 0));
    expect(await watchOf(client).ended).toBe(grpc.status.RESOURCE_EXHAUSTED);
    expect(await check(client, "")).toBe("SERVING");
    const other = watchOf(healthOf(port, { "grpc.use_local_subchannel_pool": 1 }));
    await until("another one is told", () => other.seen.length > 0);
  });
});

test("Watch tells on both ports at once how it stands, and that the server goes away, which does not wait for it", async () => {
  const other = await startReplica(stores, { DRAIN_MS: "600000" });
  const streams = [other.grpcPort, other.httpPort].map((port) => watchOf(healthOf(port)));
  await until("the first messages", () => streams.every(({ seen }) => seen.length > 0));
  for (const { seen } of streams) expect(seen).toEqual([{ status: "SERVING" }]);
  const code = await other.stop();
  for (const { seen, ended } of streams) {
    // What tells a client to watch another server.
    expect(await ended).toBe(grpc.status.UNAVAILABLE);
    expect(seen).toEqual([{ status: "SERVING" }, { status: "NOT_SERVING" }]);
  }
  expect(code).toBe(0);
});

test("health in JSON", async () => {
  const ask = (service: string) =>
    fetch(`http://127.0.0.1:${replica.httpPort}/grpc.health.v1.Health/Check`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ service }),
    });
  expect(await (await ask("coupon.v1.UsageService")).json()).toEqual({ status: "SERVING" });
  expect((await ask("nothing")).status).toBe(404);
});

const reflections = ports.flatMap(([where, port]) => ["v1", "v1alpha"].map((version) => ({ version, where, port })));

describe.for(reflections)("reflection $version on $where", ({ version, port }) => {
  const protoFile = join(
    dirname(createRequire(import.meta.url).resolve("@grpc/reflection")),
    `../proto/grpc/reflection/${version}/reflection.proto`,
  );
  /** The answers to requests of one stream, one after the other. */
  const askAll = async (...requests: object[]): Promise<Record<string, unknown>[]> => {
    const client = clientOf(protoFile, `grpc.reflection.${version}.ServerReflection`, port);
    const stream = (client.serverReflectionInfo as () => Stream).call(client);
    const { seen, ended } = follow(stream);
    for (const [index, request] of requests.entries()) {
      stream.write(request);
      await until("an answer", () => seen.length > index);
    }
    stream.end();
    expect(await ended).toBeUndefined();
    return seen;
  };
  const ask = async (request: object) => (await askAll(request))[0] as Record<string, unknown>;
  const filesIn = ({ fileDescriptorResponse }: Record<string, unknown>) =>
    ((fileDescriptorResponse as { fileDescriptorProto: Buffer[] } | null)?.fileDescriptorProto ?? []).map((file) =>
      fromBinary(FileDescriptorProtoSchema, file),
    );

  const standard = ["grpc.health.v1.Health", `grpc.reflection.${version}.ServerReflection`];

  test("lists the services", async () => {
    const { listServicesResponse } = await ask({ listServices: "" });
    const names = (listServicesResponse as { service: { name: string }[] }).service.map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining([...serviceNames, ...standard]));
  });

  test("describes each service with all that it needs", async () => {
    for (const symbol of [...serviceNames, ...standard]) {
      const files = filesIn(await ask({ fileContainingSymbol: symbol }));
      const names = files.map(({ name }) => name);
      expect(names).toEqual(expect.arrayContaining(files.flatMap(({ dependency }) => dependency)));
      const described = files.flatMap((file) => file.service.map(({ name }) => `${file.package}.${name}`));
      expect(described).toContain(symbol);
    }
  });

  test.for([
    ["coupon.v1.Coupon"],
    ["coupon.v1.Coupon.quantity"],
    ["coupon.v1.IssuanceService.IssueCoupon"],
    ["coupon.v1.ERROR_REASON_SOLD_OUT"],
    ["coupon.v1.scope"],
    ["google.rpc.ErrorInfo"],
    ["grpc.health.v1.Health.Check"],
  ])("%s comes with comments", async ([symbol]) => {
    const [file] = filesIn(await ask({ fileContainingSymbol: symbol }));
    expect(file?.sourceCodeInfo?.location.some(({ leadingComments }) => leadingComments !== "")).toBe(true);
  });

  test("options are there, and what extends them is found", async () => {
    const [issuing] = filesIn(await ask({ fileContainingSymbol: "coupon.v1.IssuanceService" }));
    const method = issuing?.service[0]?.method.find(({ name }) => name === "IssueCoupon");
    expect(getExtension(method?.options as MethodOptions, scope)).toBe("issue");
    const [options] = filesIn(
      await ask({
        fileContainingExtension: { containingType: "google.protobuf.MethodOptions", extensionNumber: 51_701 },
      }),
    );
    expect(options?.name).toBe("coupon/v1/options.proto");
    const { allExtensionNumbersResponse } = await ask({ allExtensionNumbersOfType: "google.protobuf.MethodOptions" });
    expect((allExtensionNumbersResponse as { extensionNumber: number[] }).extensionNumber).toContain(51_701);
  });

  test("a stream gets what it has got only when it asks for it", async () => {
    const [first, second, again, missing] = await askAll(
      { fileByFilename: "coupon/v1/usage_service.proto" },
      { fileByFilename: "coupon/v1/user_coupon_service.proto" },
      { fileByFilename: "coupon/v1/usage_service.proto" },
      { fileByFilename: "coupon/v1/nothing.proto" },
    );
    const had = filesIn(first as never).map(({ name }) => name);
    const got = filesIn(second as never).map(({ name }) => name);
    expect(had.length).toBeGreaterThan(1);
    expect(got.filter((name) => had.includes(name))).toEqual([]);
    expect(filesIn(again as never).map(({ name }) => name)).toEqual(["coupon/v1/usage_service.proto"]);
    expect(missing?.errorResponse).toMatchObject({ errorCode: grpc.status.NOT_FOUND });
  });
});

describe("every RPC is served", () => {
  const rows = methods.map((method) => ({ name: method.name, method }));
  test.for(rows)("$name, by both front ends", async ({ method }) => {
    // An empty message is refused by each of them but a few, which have no required field.
    const open = ["ListCoupons", "SearchCoupons", "ListCodeJobs", "ListUsages", "GetStats"];
    // Nobody is an administrator where nobody is asked who they are.
    const refusal =
      method.parent === AuthService || method.parent === AuditService ? "PERMISSION_DENIED" : "INVALID_ARGUMENT";
    const expected = open.includes(method.name) ? "OK" : refusal;
    expect((await callNative(replica.client, method, new Uint8Array())).code).toBe(expected);
    expect((await callConnect(replica.httpPort, pathOf(method), "{}")).code).toBe(expected);
  });
});

describe("pages", () => {
  const get = async (path: string) => {
    const response = await fetch(`http://127.0.0.1:${replica.httpPort}${path}`);
    return { status: response.status, text: await response.text() };
  };

  test.for([["/healthz"], ["/readyz"], ["/readyz?verbose=1"]])("%s", async ([path]) => {
    expect((await get(path as string)).status).toBe(200);
  });

  test.for([["/"], ["/nothing"], ["/metrics/x"], ["/%"], ["/../healthz/.."]])("%s is not there", async ([path]) => {
    expect((await get(path as string)).status).toBe(404);
  });

  test("/metrics counts calls by method and outcome, from both front ends", async () => {
    const { id } = await createSample(replica.client, { quantity: 1n });
    const countOf = async (outcome: string) => {
      const { text } = await get("/metrics");
      const line = text
        .split("\n")
        .find((one) => one.includes('rpc="IssueCoupon"') && one.includes(`outcome="${outcome}"`));
      return Number(line?.split(" ").at(-1) ?? 0);
    };
    const [ok, soldOut] = [await countOf("OK"), await countOf("SOLD_OUT")];
    await issue(replica.client, id, "anna");
    await answerOf(issue(replica.client, id, "bert"));
    const body = JSON.stringify({ couponId: id, userId: "carl" });
    await callConnect(replica.httpPort, "/coupon.v1.IssuanceService/IssueCoupon", body);
    expect([await countOf("OK"), await countOf("SOLD_OUT")]).toEqual([ok + 1, soldOut + 2]);
    expect((await get("/metrics")).text).toMatch(/^coupon_calls_in_flight 0$/m);
  });

  test("/metrics has the faults of a call before there is one: what is there at the first look does not rise", async () => {
    expect((await get("/metrics")).text).toMatch(/^coupon_calls_total\{rpc="ExpireKey",outcome="INTERNAL"\} 0$/m);
  });
});

const refusesConnections = (port: number) =>
  new Promise<boolean>((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => {
      socket.destroy();
      resolve(false);
    });
    socket.once("error", () => resolve(true));
  });

const exitOf = (child: ChildProcess) => new Promise<number | null>((resolve) => child.once("exit", resolve));

describe("SIGTERM", () => {
  test("lets calls under way finish on both front ends, and what they were told is stored", async () => {
    const other = await startReplica(stores);
    const exited = exitOf(other.process);
    const { id } = await createSample(other.client, { quantity: 10n });
    const holder = await sql.reserve();
    await holder`BEGIN`;
    await holder`SELECT FROM coupons WHERE id = ${id} FOR UPDATE`;
    const native = issue(other.client, id, "native");
    const json = callConnect(
      other.httpPort,
      "/coupon.v1.IssuanceService/IssueCoupon",
      JSON.stringify({ couponId: id, userId: "json" }),
    );
    await until("an issue waits for the lock", async () => {
      const waiting = await sql`
        SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`;
      return waiting.length > 0;
    });
    await until("both calls have come in", async () => {
      const text = await (await fetch(`http://127.0.0.1:${other.httpPort}/metrics`)).text();
      return /^coupon_calls_in_flight 2$/m.test(text);
    });
    other.process.kill("SIGTERM");
    await until("nobody is let in any more", async () => {
      return (await refusesConnections(other.grpcPort)) && (await refusesConnections(other.httpPort));
    });
    // From a process manager and from `npm start`, say.
    other.process.kill("SIGTERM");
    await holder`ROLLBACK`;
    holder.release();

    const { userCoupon } = await native;
    expect((await json).code).toBe("OK");
    expect(await exited).toBe(0);
    other.client.close();
    const rows = await sql<{ id: string; user_id: string }[]>`
      SELECT id, user_id FROM user_coupons WHERE coupon_id = ${id} ORDER BY user_id DESC`;
    expect(rows.map(({ user_id }) => user_id)).toEqual(["native", "json"]);
    expect(rows[0]?.id).toBe(userCoupon?.id);
  });

  test("in the middle of 500 calls: what was acknowledged is stored, and the rest is UNAVAILABLE or stored as well", async () => {
    const other = await startReplica(stores);
    const exited = exitOf(other.process);
    const { id } = await createSample(replica.client, { quantity: 1_000n });
    let answered = 0;
    const calls = Array.from({ length: 500 }, (_, index) =>
      answerOf(issue(other.client, id, `user ${index}`)).then((answer) => {
        answered += 1;
        return { userId: `user ${index}`, ...answer };
      }),
    );
    await until("the first are answered", () => answered > 0);
    other.process.kill("SIGTERM");
    const answers = await Promise.all(calls);
    expect(await exited).toBe(0);
    other.client.close();
    expect(new Set(answers.map(({ code }) => code).filter((code) => code !== "OK" && code !== "UNAVAILABLE"))).toEqual(
      new Set(),
    );
    const rows = await sql<{ user_id: string }[]>`SELECT user_id FROM user_coupons WHERE coupon_id = ${id}`;
    const stored = new Set(rows.map(({ user_id }) => user_id));
    const missing = answers.filter(({ code, userId }) => code === "OK" && !stored.has(userId));
    expect(missing).toEqual([]);
    expect((await readCoupon(replica.client, id)).issuedCount).toBe(BigInt(rows.length));
  });

  test("is not the only way: SIGINT, and the end of whoever started it", async () => {
    const [first, second] = await Promise.all([startReplica(stores), startReplica(stores)]);
    const exits = Promise.all([exitOf(first.process), exitOf(second.process)]);
    first.process.kill("SIGINT");
    second.process.stdin?.end();
    expect(await exits).toEqual([0, 0]);
    first.client.close();
    second.client.close();
  });
});

describe("a fault that nobody has caught", () => {
  test("is in the log, and ends the process in order: what was accepted is answered first", async () => {
    const fault = 'process.on("SIGUSR2", () => { Promise.reject(new Error("planted")); });';
    const faulty = await startReplica(stores, {
      NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(fault)}`,
    });
    onTestFinished(() => faulty.kill());
    let written = "";
    faulty.process.stdout?.on("data", (chunk) => {
      written += String(chunk);
    });
    const exited = new Promise<number | null>((resolve) => faulty.process.once("exit", resolve));
    const throttle = { maxConcurrent: 1, maxPerSecond: 1 };
    const { id } = await createSample(faulty.client, { throttle });
    await issued(faulty.client, id, "first");
    // Waits a second in the coupon's line.
    const accepted = issue(faulty.client, id, "second");
    await until("it is at work", async () => {
      const metrics = await (await fetch(`http://127.0.0.1:${faulty.httpPort}/metrics`)).text();
      return /coupon_batch_size_count\{queue="issue"\} [1-9]/.test(metrics);
    });
    faulty.process.kill("SIGUSR2");
    expect((await accepted).userCoupon?.userId).toBe("second");
    expect(await exited).toBe(1);
    expect(written).toContain("planted");
    expect(written).toContain("unhandledRejection");
  });
});

describe("a start that cannot succeed", async () => {
  const main = await mainFile();
  /** Takes connections, and never answers. */
  const silent = createServer();
  beforeAll(() => new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve)));
  afterAll(() => void silent.close());

  function begin(settings: Record<string, string>): ChildProcess & { readonly stderr: NodeJS.ReadableStream } {
    const child = spawn(process.execPath, [main], {
      env: {
        PATH: process.env.PATH,
        HOST: "127.0.0.1",
        GRPC_PORT: "0",
        HTTP_PORT: "0",
        DATABASE_URL: stores.databaseUrl,
        REDIS_URL: stores.redisUrl,
        REDIS_KEY_PREFIX: stores.keyPrefix,
        LOG_LEVEL: "silent",
        ...settings,
      },
      stdio: ["ignore", "ignore", "pipe"],
    });
    onTestFinished(() => {
      child.kill("SIGKILL");
    });
    return child;
  }

  async function run(settings: Record<string, string>): Promise<{ code: number | null; stderr: string }> {
    const child = begin(settings);
    let stderr = "";
    child.stderr.on("data", (chunk) => {
      stderr += String(chunk);
    });
    const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
    return { code, stderr };
  }

  test("because of settings: exit 2, and each of them is named", async () => {
    const { code, stderr } = await run({ GRPC_PORT: "x", LOG_LEVEL: "loud", MAX_IN_FLIGHT: "0" });
    expect(code).toBe(2);
    for (const name of ["GRPC_PORT", "LOG_LEVEL", "MAX_IN_FLIGHT"]) expect(stderr).toContain(`  ${name}: `);
    expect(stderr).not.toMatch(/HTTP_PORT|DATABASE_URL|^ +at /m);
  });

  test("because of REDIS_URL without DATABASE_URL: exit 2", async () => {
    const { code, stderr } = await run({ DATABASE_URL: "" });
    expect([code, stderr.includes("REDIS_URL")]).toEqual([2, true]);
  });

  test("because of what is in a file that a setting names: exit 2, and the setting is named", async () => {
    const { code, stderr } = await run({ TLS_CERT_FILE: "package.json", TLS_KEY_FILE: "package.json" });
    expect([code, stderr.includes("  TLS_CERT_FILE: has no certificate")]).toEqual([2, true]);
  });

  test("because the database says nothing: it ends all the same when it is told to", async () => {
    const asked = new Promise<void>((resolve) => silent.once("connection", () => resolve()));
    const child = begin({
      DATABASE_URL: `postgres://anna@127.0.0.1:${(silent.address() as AddressInfo).port}/coupons`,
    });
    await asked;
    const exited = exitOf(child);
    child.kill("SIGTERM");
    expect(await exited).toBe(0);
  });

  test("because the port is taken: exit 1, and it says which", async () => {
    const { code, stderr } = await run({ GRPC_PORT: String(replica.grpcPort) });
    expect([code, stderr.includes(String(replica.grpcPort))]).toEqual([1, true]);
  });

  test("because the database is not there: exit 1, without the password", async () => {
    const url = new URL(stores.databaseUrl);
    url.pathname = `/missing_${randomUUID().replaceAll("-", "")}`;
    if (url.password === "") url.password = "sesame";
    const { code, stderr } = await run({ DATABASE_URL: url.href });
    expect(code).toBe(1);
    expect(stderr).not.toBe("");
    expect(stderr).not.toContain(url.password);
  });
});
