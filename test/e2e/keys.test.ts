import { create, type DescMethodUnary, type MessageInitShape, toBinary, toJsonString } from "@bufbuild/protobuf";
import { DurationSchema, TimestampSchema, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { beforeAll, describe, expect, test } from "vitest";
import { type EmbeddedServers, startEmbedded } from "../../embedded/embedded.js";
import { AuthService } from "../../gen/coupon/v1/auth_service_pb.js";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { freshKey } from "../../src/auth/keys/key-text.js";
import { atEndOfFile } from "../support/at-end.js";
import { type Replica, runService } from "../support/replica.js";
import { type Backing, backing, startReplicas } from "../support/service.js";
import { until } from "../support/until.js";
import { type Answer, answerOf, callConnect, callGrpc, callGrpcWeb, envelope, pathOf } from "./front-ends.js";

const { createKey, listKeys, rotateKey, expireKey, revokeKey, setCallerLimits, getCallerLimits } = AuthService.method;
const { listCoupons, pauseCoupon } = CatalogService.method;

let redis: EmbeddedServers;
let around: Backing;
let replicas: readonly [Replica, Replica];
/** Of somebody who may do all that keys allow. */
let admin: string;
const texts: string[] = [];

const atEnd = atEndOfFile();
beforeAll(async () => {
  // A Redis of its own: here it is killed.
  redis = await startEmbedded({ servers: ["redis"] });
  atEnd(() => redis.stop());
  if (!redis.redisUrl) throw new Error(`the tests need a real Redis: ${redis.redisUnavailable}`);
  around = await backing(atEnd, { redisUrl: redis.redisUrl });
  const made = await command("create", "--caller", "ops", "--scopes", "admin,catalog.read");
  expect(made.code).toBe(0);
  admin = made.out.trim();
  texts.push(admin);
  // All that may be logged is.
  const settings = { AUTH: "keys", LOG_LEVEL: "debug" };
  replicas = await startReplicas(atEnd, around.stores, settings, settings);
});

/** The service's own command, as a process. */
function command(...args: string[]) {
  return runService({ DATABASE_URL: around.stores.databaseUrl }, "keys", ...args);
}

const bearer = (text: string) => ({ authorization: `Bearer ${text}` });

function asAdmin<M extends DescMethodUnary>(method: M, request: MessageInitShape<M["input"]>) {
  return replicas[0].client.call(method, request, { headers: bearer(admin) });
}

async function made(scopes: string[], expiresMs?: number) {
  const expireTime = expiresMs === undefined ? {} : { expireTime: timestampFromMs(expiresMs) };
  const { key, keyText } = await asAdmin(createKey, { caller: "shop", scopes, ...expireTime });
  texts.push(keyText);
  await everywhere("the key is known", keyText, "OK");
  return { id: key?.id as string, text: keyText };
}

const listing = create(listCoupons.input, {});

/** What a listing of coupons is answered with, on both replicas. */
function heard(text: string): Promise<string[]> {
  const calls = replicas.map(({ client }) => client.call(listCoupons, {}, { headers: bearer(text) }));
  return Promise.all(calls.map(async (call) => (await answerOf(call)).code));
}

function everywhere(what: string, text: string, code: string): Promise<boolean> {
  return until(what, async () => (await heard(text)).every((one) => one === code));
}

/** One call by each way into the service. */
async function byEveryWay(
  method: DescMethodUnary,
  request: Record<string, unknown>,
  headers: Record<string, string>,
): Promise<Answer[]> {
  const { grpcPort, httpPort, client } = replicas[0];
  const message = create(method.input, request);
  const bytes = toBinary(method.input, message);
  const path = pathOf(method);
  return await Promise.all([
    answerOf(client.call(method, request, { headers })),
    callConnect(httpPort, path, toJsonString(method.input, message), headers),
    callGrpcWeb(httpPort, path, envelope(bytes), headers),
    callGrpc(httpPort, path, envelope(bytes), headers),
    callGrpc(grpcPort, path, envelope(bytes), headers),
  ]);
}

describe("by every way into the service", () => {
  test("a key that holds lets its caller in, and to what its scopes allow", async () => {
    const { text } = await made(["catalog.read"]);
    for (const { code } of await byEveryWay(listCoupons, {}, bearer(text))) expect(code).toBe("OK");
    const closed = await byEveryWay(pauseCoupon, { couponId: crypto.randomUUID() }, bearer(text));
    for (const answer of closed)
      expect(answer).toMatchObject({ code: "PERMISSION_DENIED", reason: "PERMISSION_DENIED" });
    for (const { code } of await byEveryWay(listKeys, {}, bearer(text))) expect(code).toBe("PERMISSION_DENIED");
  });

  test("whatever is wrong with a key, it is told the same", async () => {
    const { id, text } = await made(["catalog.read"]);
    const revoked = await made(["catalog.read"]);
    await asAdmin(revokeKey, { keyId: revoked.id });
    await everywhere("the key is revoked", revoked.text, "UNAUTHENTICATED");
    const wrong: Record<string, string>[] = [
      {},
      { authorization: text },
      bearer(""),
      bearer("ck_"),
      bearer(text.slice(0, -1)),
      bearer(freshKey().text),
      bearer(`ck_${id}_${freshKey().text.slice(-32)}`),
      bearer(revoked.text),
      bearer("eyJhbGciOiJub25lIn0.e30."),
    ];
    const answers = await Promise.all(wrong.map((headers) => byEveryWay(listCoupons, {}, headers)));
    const [first] = answers[0] as Answer[];
    expect(first).toMatchObject({ code: "UNAUTHENTICATED", reason: "UNAUTHENTICATED", fields: [] });
    const sayings = new Set(
      answers.flat().map(({ code, reason, message }) => `${code} ${reason} ${message.replace(/^.*: /, "")}`),
    );
    expect([...sayings]).toEqual([`UNAUTHENTICATED UNAUTHENTICATED ${first?.message.replace(/^.*: /, "")}`]);
    const metrics = await (await fetch(`http://127.0.0.1:${replicas[0].httpPort}/metrics`)).text();
    for (const why of ["malformed", "unknown", "wrong secret", "revoked"]) {
      expect(metrics).toMatch(new RegExp(`^coupon_auth_failures_total\\{way="key",why="${why}"\\} [1-9]`, "m"));
    }
    expect(metrics).toMatch(/^coupon_auth_failures_total\{way="none",why="missing"\} [1-9]/m);
  });

  test("HTTP's own status says so, and what is asked for", async () => {
    const response = await fetch(`http://127.0.0.1:${replicas[0].httpPort}${pathOf(listCoupons)}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: toJsonString(listCoupons.input, listing),
    });
    expect([response.status, response.headers.get("www-authenticate")]).toEqual([401, "Bearer"]);
  });
});

test("all that is wrong with a request about keys is named at once", async () => {
  const never = create(TimestampSchema, { seconds: -1n });
  const fields = async (call: Promise<unknown>) => (await answerOf(call)).fields;
  expect(await fields(asAdmin(createKey, { caller: "", scopes: ["catalog.read"], expireTime: never }))).toEqual([
    "caller",
    "expire_time",
  ]);
  const overlap = create(DurationSchema, { seconds: 1n, nanos: 1 });
  expect(await fields(asAdmin(rotateKey, { keyId: "x", overlap, expireTime: never }))).toEqual([
    ...["key_id", "overlap", "expire_time"],
  ]);
  expect(await fields(asAdmin(expireKey, { keyId: "x", expireTime: never }))).toEqual(["key_id", "expire_time"]);
});

describe("on every replica", () => {
  test("a key holds soon, and soon not any more when it has been revoked", async () => {
    const { id, text } = await made(["catalog.read"]);
    const { key } = await asAdmin(revokeKey, { keyId: id });
    expect(key?.revokeTime).toBeDefined();
    await everywhere("the key is revoked", text, "UNAUTHENTICATED");
  });

  test("a key that is made to expire does", async () => {
    const { id, text } = await made(["catalog.read"], Date.now() + 3_600_000);
    await asAdmin(expireKey, { keyId: id, expireTime: timestampFromMs(Date.now() + 1_500) });
    await everywhere("the key has expired", text, "UNAUTHENTICATED");
  });

  test("both keys hold while one replaces the other, and then the new one alone", async () => {
    const old = await made(["catalog.read"]);
    const { keyText } = await asAdmin(rotateKey, { keyId: old.id, overlap: { seconds: 3_600n } });
    texts.push(keyText);
    await everywhere("the new key is known", keyText, "OK");
    expect(await heard(old.text)).toEqual(["OK", "OK"]);
    // The overlap is over.
    await asAdmin(expireKey, { keyId: old.id, expireTime: timestampFromMs(Date.now() + 1_000) });
    await everywhere("the old key has expired", old.text, "UNAUTHENTICATED");
    expect(await heard(keyText)).toEqual(["OK", "OK"]);
  });

  test("the command ends a key, too", async () => {
    const { id, text } = await made(["catalog.read"]);
    expect(await command("revoke", id)).toMatchObject({ code: 0, out: "" });
    await everywhere("the key is revoked", text, "UNAUTHENTICATED");
  });
});

test("what was changed about keys holds at once on the replica that was asked", async () => {
  const first = async (text: string) => {
    const call = replicas[0].client.call(listCoupons, {}, { headers: bearer(text) });
    return (await answerOf(call)).code;
  };
  // By chance the copy may be read just then; not five times.
  for (let round = 0; round < 5; round++) {
    const { key, keyText } = await asAdmin(createKey, { caller: "hasty", scopes: ["catalog.read"] });
    expect(await first(keyText)).toBe("OK");
    const next = await asAdmin(rotateKey, { keyId: key?.id as string });
    expect(await first(next.keyText)).toBe("OK");
    await asAdmin(revokeKey, { keyId: key?.id as string });
    expect([await first(keyText), await first(next.keyText)]).toEqual(["UNAUTHENTICATED", "OK"]);
    texts.push(keyText, next.keyText);
  }
});

test("a caller can be held to less than others, and again to as much, whichever of its keys it brings", async () => {
  const { key, keyText } = await asAdmin(createKey, { caller: "wild", scopes: ["catalog.read"] });
  texts.push(keyText);
  const other = await made(["catalog.read"]);
  await everywhere("the key is known", keyText, "OK");
  const manage = { perSecond: 1, atOnce: 1 };
  const set = { caller: "wild", limits: { manage, use: { perSecond: 0 } }, requestId: "tame" };
  for (let again = 0; again < 2; again++)
    expect((await asAdmin(setCallerLimits, set)).limits).toMatchObject({ manage });
  expect((await asAdmin(getCallerLimits, { caller: "wild" })).limits).toMatchObject({ manage });
  const limited = async (text: string) => {
    const codes = await Promise.all(Array.from({ length: 4 }, () => heard(text)));
    return codes.map((both) => both.includes("RESOURCE_EXHAUSTED"));
  };
  await until("each replica holds it to its limits", async () => (await limited(keyText)).every(Boolean));
  expect(await limited(other.text)).toEqual([false, false, false, false]);
  await asAdmin(setCallerLimits, { caller: "wild" });
  await until("nobody holds it to any", async () => !(await limited(keyText)).some(Boolean));
  expect((await answerOf(asAdmin(getCallerLimits, { caller: "nobody" }))).reason).toBe("CALLER_NOT_FOUND");
  await asAdmin(revokeKey, { keyId: key?.id as string });
});

test("a repeated request is told which key was made, and not the key", async () => {
  const request = { caller: "shop", scopes: ["use"], requestId: "once" };
  const first = await asAdmin(createKey, request);
  texts.push(first.keyText);
  expect(first.keyText).toMatch(/^ck_/);
  expect(await asAdmin(createKey, request)).toEqual({ ...first, keyText: "" });
});

test("while Redis is away keys are known and revoked all the same", async () => {
  const { id, text } = await made(["catalog.read"]);
  process.kill(redis.redisPid as number, "SIGSTOP");
  try {
    await asAdmin(revokeKey, { keyId: id });
    await everywhere("the key is revoked", text, "UNAUTHENTICATED");
    await made(["catalog.read"]);
  } finally {
    process.kill(redis.redisPid as number, "SIGKILL");
  }
});

test("no key is in a log, a metric or a table", async () => {
  const { sql } = around;
  const rows = [
    ...(await sql`SELECT k::text AS content FROM caller_keys k`),
    ...(await sql`SELECT r::text AS content FROM requests r`),
    ...(await sql`SELECT e::text AS content FROM events e`),
  ].map(({ content }) => content as string);
  const metrics = await Promise.all(
    replicas.map(async ({ httpPort }) => (await fetch(`http://127.0.0.1:${httpPort}/metrics`)).text()),
  );
  const logs = replicas.map((replica) => replica.log());
  expect(logs.join()).toContain("a call brings no key that holds");
  const everything = [...rows, ...metrics, ...logs].join("\n");
  expect(texts.length).toBeGreaterThan(8);
  for (const text of texts) {
    // Its public part is there.
    expect(everything).toContain(text.slice(3, 15));
    expect(everything.includes(text.slice(16))).toBe(false);
  }
});
