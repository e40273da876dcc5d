import { mkdtemp, readdir, readFile, readlink, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, toBinary } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { afterAll, describe, expect, test } from "vitest";
import { writeMessages } from "../../bench/load/messages-file.js";
import { offer } from "../../bench/overload/offer.js";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { IssuanceService, IssueCouponRequestSchema } from "../../gen/coupon/v1/issuance_service_pb.js";
import { restFormOf } from "../support/rest-form.js";
import { backing, startProcesses, startReplicas } from "../support/service.js";
import { until } from "../support/until.js";
import { callConnect, callRest, pathOf } from "./front-ends.js";
import { createSample, issue, issued, readCoupon } from "./samples.js";
import { secureClient, serverCa, tlsFiles } from "./tls-world.js";

const { issueCoupon } = IssuanceService.method;

const { stores, sql } = await backing(afterAll);
const { TLS_CERT_FILE, TLS_KEY_FILE } = tlsFiles(afterAll).paths;
/** By themselves, for their memory and their sockets are looked at. */
const [plain, secure] = await startProcesses(
  afterAll,
  stores,
  { ADMIN_PORT: "0" },
  { ADMIN_PORT: "0", TLS_CERT_FILE, TLS_KEY_FILE },
);
const overTls = secureClient(secure.grpcPort);
afterAll(() => overTls.close());
/** So few calls at work that any crowd is too large. */
const [narrow] = await startReplicas(afterAll, stores, { MAX_IN_FLIGHT: "2" });

function message(couponId: string, userId: string): Buffer {
  const target = { case: "couponId" as const, value: couponId };
  return Buffer.from(
    toBinary(IssueCouponRequestSchema, create(IssueCouponRequestSchema, { target, userId, requestId: userId })),
  );
}

/** What a crowd is answered of which nobody can be served until the first of it was refused. */
async function whileHeld<T>(id: string, call: () => Promise<T>[], isRefused: (answer: T) => boolean): Promise<T[]> {
  let answers: Promise<T>[] = [];
  await sql.begin(async (tx) => {
    await tx`SELECT FROM coupons WHERE id = ${id} FOR UPDATE`;
    answers = call();
    let refused = () => {};
    const first = new Promise<void>((resolve) => {
      refused = resolve;
    });
    for (const answer of answers) void answer.then((one) => isRefused(one) && refused());
    await first;
  });
  return await Promise.all(answers);
}

describe("a crowd that is larger than what may be at work", () => {
  test("is answered to the last caller: issued, or told when to come again, by all ways that say so", async () => {
    const { id } = await createSample(narrow.client);
    const client = new grpc.Client(`127.0.0.1:${narrow.grpcPort}`, grpc.credentials.createInsecure(), {
      "grpc.use_local_subchannel_pool": 1,
      "grpc.enable_retries": 0,
    });
    const same = (bytes: Buffer) => bytes;
    const call = (userId: string) =>
      new Promise<grpc.ServiceError | null>((resolve) => {
        const options = { deadline: Date.now() + 20_000 };
        const bytes = message(id, userId);
        client.makeUnaryRequest(pathOf(issueCoupon), same, same, bytes, new grpc.Metadata(), options, resolve);
      });
    const crowd = () => Array.from({ length: 500 }, (_, index) => call(`crowd-${index}`));
    const errors = await whileHeld(id, crowd, (error) => error !== null);
    client.close();
    const refused = errors.filter((error) => error !== null);
    expect(refused.length).toBeGreaterThan(0);
    for (const { code, metadata } of refused) {
      expect(code).toBe(grpc.status.UNAVAILABLE);
      expect(Number(metadata.get("grpc-retry-pushback-ms")[0])).toBeGreaterThanOrEqual(500);
      expect(metadata.get("grpc-status-details-bin")).toHaveLength(1);
    }
    // Not all of them at the same time.
    expect(new Set(refused.map(({ metadata }) => metadata.get("grpc-retry-pushback-ms")[0])).size).toBeGreaterThan(1);
    expect((await readCoupon(narrow.client, id)).issuedCount).toBe(BigInt(errors.length - refused.length));

    const ways = [
      (index: number) =>
        callConnect(narrow.httpPort, pathOf(issueCoupon), JSON.stringify({ couponId: id, userId: `web-${index}` })),
      (index: number) => callRest(narrow.httpPort, restFormOf(issueCoupon, { couponId: id, userId: `rest-${index}` })),
    ];
    for (const way of ways) {
      const answers = await whileHeld(
        id,
        () => Array.from({ length: 500 }, (_, index) => way(index)),
        ({ code }) => code !== "OK",
      );
      const away = answers.filter(({ code }) => code !== "OK");
      expect(away.length).toBeGreaterThan(0);
      for (const answer of away) {
        expect(answer).toMatchObject({ code: "UNAVAILABLE", reason: "OVERLOADED" });
        expect(answer.retryDelayMs).toBeGreaterThanOrEqual(500);
      }
    }
    await issued(narrow.client, id, "the one who came when all was over");
  });

  test("does not keep health, metrics and readiness from answering, and is counted in them", async () => {
    const { id } = await createSample(narrow.client);
    const crowd = Promise.allSettled(Array.from({ length: 500 }, (_, index) => issue(narrow.client, id, `m-${index}`)));
    const get = (path: string) => fetch(`http://127.0.0.1:${narrow.httpPort}${path}`);
    expect((await get("/healthz")).status).toBe(200);
    expect((await get("/readyz")).status).toBe(200);
    await crowd;
    const metrics = await (await get("/metrics")).text();
    expect(metrics).toMatch(/^coupon_calls_shed_total\{kind="issue"\} [1-9]/m);
    expect(metrics).toMatch(/^coupon_calls_limit 2$/m);
    expect(metrics).toMatch(/^coupon_calls_in_flight 0$/m);
    expect(metrics).toMatch(/^coupon_calls_waiting 0$/m);
  });
});

describe("those that wait in a coupon's queue", () => {
  test("are not at work: others are served meanwhile", async () => {
    const throttle = { maxConcurrent: 1, maxPerSecond: 1 };
    const { id: slow } = await createSample(narrow.client, { throttle });
    const { id } = await createSample(narrow.client);
    await issued(narrow.client, slow, "first");
    const waiting = Promise.allSettled(
      Array.from({ length: 6 }, (_, index) => issue(narrow.client, slow, `waits-${index}`)),
    );
    await issued(narrow.client, id, "somebody else");
    await narrow.client.call(CatalogService.method.getCoupon, { couponId: id });
    const ended = await Promise.race([waiting.then(() => "all had their tickets"), Promise.resolve("they wait")]);
    expect(ended).toBe("they wait");
    await waiting;
  });
});

/** Resident memory of a process, in MB; Linux only. */
async function rssMb(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/status`, "utf8");
  return Number(/VmRSS:\s+(\d+) kB/.exec(text)?.[1]) / 1_024;
}

/** What a process has open of the network; Linux only. */
async function socketsOf(pid: number): Promise<number> {
  const folder = `/proc/${pid}/fd`;
  // One may be closed while they are looked at.
  const links = await Promise.all((await readdir(folder)).map((name) => readlink(`${folder}/${name}`).catch(() => "")));
  return links.filter((link) => link.startsWith("socket:")).length;
}

/** The connections of this test's own client and of what it asks for metrics, and of pools that have grown. */
const fewSockets = 15;

test.each([
  { by: "plain text", replica: plain, client: plain.client, ca: {} },
  { by: "TLS", replica: secure, client: overTls, ca: { ca: serverCa.certificate } },
])(
  "a flood over many connections by $by: Postgres is not called away, nothing is lost or left, and memory stays bounded",
  async (one) => {
    const { replica, client, ca } = one;
    const { id } = await createSample(client, { quantity: 1_000_000n });
    const folder = await mkdtemp(join(tmpdir(), "coupon-flood-"));
    const messagesFile = join(folder, "messages");
    const count = 4_000;
    await writeMessages(
      messagesFile,
      Array.from({ length: count + 1 }, (_, index) => message(id, `${id}-${index}`)),
    );
    const pid = replica.process.pid as number;
    const isLinux = process.platform === "linux";
    const before = isLinux ? { rssMb: await rssMb(pid), sockets: await socketsOf(pid) } : undefined;
    const { outcomes } = await offer({
      ...ca,
      target: `127.0.0.1:${replica.grpcPort}`,
      method: pathOf(issueCoupon),
      messagesFile,
      connections: 100,
      timeoutMs: 20_000,
      mode: { kind: "open", requestsPerSecond: 2 * count, durationMs: 500 },
    });
    await rm(folder, { recursive: true, force: true });
    // Told yes, told to come again, or without a connection, which says the same.
    const known = ["OK", "OVERLOADED", "NO_CONNECTION"];
    expect(Object.keys(outcomes).filter((outcome) => !known.includes(outcome))).toEqual([]);
    expect(outcomes.OK).toBeGreaterThan(0);
    const { issuedCount } = await readCoupon(client, id);
    expect(issuedCount).toBe(BigInt(outcomes.OK as number));
    if (before) {
      expect((await rssMb(pid)) - before.rssMb).toBeLessThan(300);
      await until(
        "the clients' connections are gone",
        async () => (await socketsOf(pid)) < before.sockets + fewSockets,
      );
    }
    await until("everybody is let in again", async () => {
      const metrics = await (await fetch(`http://127.0.0.1:${replica.adminPort}/metrics`)).text();
      return /^coupon_connections_limit 4000$/m.test(metrics);
    });
    await issued(client, id, "afterwards");
  },
);
