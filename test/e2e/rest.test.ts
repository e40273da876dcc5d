import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { connect as connectHttp2 } from "node:http2";
import { connect } from "node:net";
import { gunzipSync, gzipSync } from "node:zlib";
import { afterAll, describe, expect, test } from "vitest";
import { oneReplica } from "../support/service.js";
import { until } from "../support/until.js";

const { replica } = await oneReplica(afterAll, { CORS_ORIGINS: "https://shop.example", LOG_LEVEL: "info" });
const at = (path: string) => `http://127.0.0.1:${replica.httpPort}${path}`;

interface Told {
  readonly status: number;
  readonly headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: as JSON came.
  readonly json: any;
}

async function rest(method: string, path: string, body?: object): Promise<Told> {
  const response = await fetch(at(path), {
    method,
    ...(body && { body: JSON.stringify(body), headers: { "content-type": "application/json" } }),
  });
  const text = await response.text();
  return { status: response.status, headers: response.headers, json: text === "" ? undefined : JSON.parse(text) };
}

async function ok(method: string, path: string, body?: object): Promise<Told["json"]> {
  const { status, json } = await rest(method, path, body);
  expect({ path, status, json }).toEqual({ path, status: 200, json: expect.anything() });
  return json;
}

/** Status, reason and fields. */
async function refused(method: string, path: string, body?: object): Promise<unknown[]> {
  const { status, json } = await rest(method, path, body);
  // biome-ignore lint/suspicious/noExplicitAny: as JSON came.
  const detail = (type: string) => json.details.find((one: any) => one["@type"] === `type.googleapis.com/${type}`);
  // biome-ignore lint/suspicious/noExplicitAny: as JSON came.
  const fields = detail("google.rpc.BadRequest")?.fieldViolations.map(({ field }: any) => field);
  return [status, detail("google.rpc.ErrorInfo")?.reason, ...(fields ?? [])];
}

const coupon = {
  name: "Ten percent",
  discount: { percentageBasisPoints: 1_000 },
  expireTime: new Date(Date.now() + 86_400_000).toISOString(),
};
const order = () => ({
  productId: "ride",
  orderId: randomUUID(),
  orderAmount: { currencyCode: "USD", minorUnits: "10000" },
});

test("a coupon book is created, found, filled, assigned, locked and redeemed", async () => {
  const name = `Book ${randomUUID().slice(0, 8)}`;
  const created = await ok("POST", "/v1/coupons?request_id=1", { ...coupon, name, codeBook: {} });
  const { id } = created.coupon;
  expect(await ok("GET", `/v1/coupons/${id}`)).toEqual(created);
  const found = await ok("GET", `/v1/coupons:search?query=${encodeURIComponent(name)}&page_size=5`);
  expect(found.coupons.map((one: { id: string }) => one.id)).toEqual([id]);
  const changed = await ok("PATCH", `/v1/coupons/${id}?update_mask=name`, { ...found.coupons[0], name: `${name}!` });
  expect(changed.coupon).toMatchObject({ id, name: `${name}!` });

  // Any printable character may be in a code, percent-encoded.
  const codes = ["SAVE/10: 50% off?", "A:use"];
  const uploaded = await ok("POST", `/v1/coupons/${id}/codes:upload`, { lines: codes.map((code) => ({ code })) });
  expect(uploaded).toMatchObject({ couponId: id, addedCount: 2 });
  for (const code of codes) {
    const path = `/v1/codes/${encodeURIComponent(code)}`;
    const user = `anna/${codes.indexOf(code)}`;
    const issued = await ok("POST", `${path}:issue`, { userId: user, requestId: `issue-${user}` });
    expect(issued.userCoupon).toMatchObject({ couponId: id, code });
    const list = await ok("GET", `/v1/users/${encodeURIComponent(user)}/coupons?statuses=USER_COUPON_STATUS_READY`);
    expect(list.userCoupons).toMatchObject([{ id: issued.userCoupon.id }]);

    const checkout = order();
    expect(await ok("POST", `${path}:quote`, { userId: user, ...checkout })).toMatchObject({ usable: true });
    const { locks } = await ok("POST", `${path}:lock`, { userId: user, ...checkout });
    expect(locks).toMatchObject([
      { userCouponId: issued.userCoupon.id, lockVersion: expect.stringMatching(/^[1-9]\d+$/) },
    ]);
    // Nobody else can use it: whoever comes without the lock's version.
    expect(await refused("POST", `${path}:use`, { userId: user, ...checkout })).toEqual([400, "LOCKED"]);
    const lockVersion = locks[0].lockVersion;
    const used = await ok("POST", `${path}:use`, { userId: user, ...checkout, lockVersion, requestId: `use-${user}` });
    expect(used).toMatchObject({ usages: [{ code }], finalAmount: { minorUnits: "9000" } });
    // The same request in its longer form.
    const again = { userId: user, ...checkout, coupons: [{ code, lockVersion }], requestId: `use-${user}` };
    expect(await ok("POST", "/v1/usages", again)).toMatchObject({ replayed: true, usages: used.usages });

    const usage = `/v1/users/${encodeURIComponent(user)}/usages/${used.usages[0].id}`;
    expect(await ok("GET", usage)).toEqual({ usage: used.usages[0] });
    expect(await ok("POST", `${usage}:cancel`)).toMatchObject({ usage: { cancelTime: expect.any(String) } });
    const lockedAgain = await ok("POST", `${path}:lock`, { userId: user });
    const version = lockedAgain.locks[0].lockVersion;
    expect(await refused("POST", `${path}:unlock`, { userId: user })).toEqual([400, "INVALID_FIELD", "lock_version"]);
    expect(await ok("POST", `${path}:unlock`, { userId: user, lockVersion: version })).toEqual({
      userCouponIds: [issued.userCoupon.id],
    });
    expect(
      await ok("DELETE", `/v1/users/${encodeURIComponent(user)}/coupons/${issued.userCoupon.id}?restock=true`),
    ).toEqual({ restocked: true });
  }
  expect((await ok("GET", `/v1/coupons/${id}/codes`)).codes).toHaveLength(2);
  expect((await ok("GET", `/v1/coupons/${id}/stats`)).stats).toMatchObject({ codeCount: "2" });
  expect((await ok("POST", `/v1/coupons/${id}:pause`)).coupon.state).toBe("COUPON_STATE_PAUSED");
  expect((await ok("DELETE", `/v1/coupons/${id}`)).coupon.deleteTime).toEqual(expect.any(String));
});

test("very many codes are uploaded in one request, and its answer may be compressed", async () => {
  const { coupon: book } = await ok("POST", "/v1/coupons", { ...coupon, codeBook: {} });
  const length = process.env.FAULT_SCALE ? 50_000 : 2_000;
  const wrongCount = length / 20;
  const lines = Array.from({ length }, (_, n) => ({ code: n % 20 === 0 ? "" : `REST-${n}` }));
  const response = await fetch(at(`/v1/coupons/${book.id}/codes:upload`), {
    method: "POST",
    headers: {
      "content-type": "application/json; charset=utf-8",
      "content-encoding": "gzip",
      "connect-timeout-ms": "30000",
    },
    body: gzipSync(JSON.stringify({ lines })),
  });
  expect(response.status).toBe(200);
  expect(response.headers.get("content-encoding")).toBe("gzip");
  expect(await response.json()).toMatchObject({ addedCount: length - wrongCount, invalidCount: wrongCount });
});

test("a time to wait that is none is refused, and named", async () => {
  for (const wrong of ["soon", "-1", "1.5", ""]) {
    const response = await fetch(at("/v1/coupons"), { headers: { "connect-timeout-ms": wrong } });
    expect([response.status, await response.text()]).toEqual([400, expect.stringContaining('"connect-timeout-ms"')]);
  }
});

test("a request names user coupons by a list or by one code", async () => {
  const both = { code: "A", coupons: [{ code: "B", lockVersion: "1" }], userId: "anna", lockVersion: "1", ...order() };
  for (const path of ["/v1/usages:quote", "/v1/userCoupons:lock", "/v1/userCoupons:unlock", "/v1/usages"]) {
    const isUnlock = path.endsWith("unlock");
    const { productId, orderId, orderAmount, ...unlocking } = both;
    const said = isUnlock ? unlocking : both;
    const { code, coupons, lockVersion, ...neither } = said;
    expect(await refused("POST", path, neither)).toEqual([400, "INVALID_FIELD", "coupons"]);
    expect(await refused("POST", path, said)).toEqual([400, "INVALID_FIELD", "code"]);
    const late = { ...neither, coupons: [{ code: "B", lockVersion: "1" }], lockVersion };
    expect(await refused("POST", path, late)).toEqual([400, "INVALID_FIELD", "lock_version"]);
    expect(await refused("POST", path, { ...neither, code: "\u0001" })).toContain("code");
    if (isUnlock) continue;
    const currency = { ...neither, orderAmount: { currencyCode: "QQQ", minorUnits: "1" } };
    expect(await refused("POST", path, currency)).toEqual([
      400,
      "INVALID_FIELD",
      "coupons",
      "order_amount.currency_code",
    ]);
  }
});

describe("what cannot be served", () => {
  const id = "0192f3a0-0000-7000-8000-000000000000";
  const large = { name: "x".repeat(70_000) };
  test.for<[string, string, object | undefined, unknown[]]>([
    ["GET", `/v1/coupons/${id}`, undefined, [404, "COUPON_NOT_FOUND"]],
    ["GET", "/v1/coupons/1", undefined, [400, "INVALID_FIELD", "coupon_id"]],
    ["GET", "/v1/coupons/%00", undefined, [400, "INVALID_FIELD", "coupon_id"]],
    ["GET", "/v1/coupons/%ff", undefined, [400, "INVALID_FIELD", "coupon_id"]],
    ["GET", "/v1/coupons/..%2f..%2fetc%2fpasswd", undefined, [400, "INVALID_FIELD", "coupon_id"]],
    ["GET", "/v1/coupons?x=1&page_size=-1", undefined, [400, "INVALID_FIELD", "page_size", "x"]],
    ["POST", "/v1/coupons?discount=1", { ...coupon, nam: 1 }, [400, "INVALID_FIELD", "coupon.nam", "discount"]],
    ["POST", "/v1/coupons", undefined, [400, "INVALID_FIELD", "coupon"]],
    ["POST", "/v1/coupons", large, [413, "MESSAGE_TOO_LARGE"]],
    ["GET", "/v1/nothing", undefined, [404, undefined]],
    ["PUT", "/v1/coupons", undefined, [405, undefined]],
    ["GET", `/v1/coupons?page_token=${"x".repeat(8_192)}`, undefined, [414, undefined]],
    ["POST", "/v1/keys", { caller: "shop", scopes: ["admin"] }, [403, "PERMISSION_DENIED"]],
  ])("%s %s", async ([method, path, body, expected]) => {
    const answer = await refused(method, path, body);
    expect([answer.slice(0, 2), answer.slice(2).sort()]).toEqual([expected.slice(0, 2), expected.slice(2).sort()]);
  });

  test("a path with another method says which it has", async () => {
    const { headers, json } = await rest("PUT", `/v1/coupons/${id}`);
    expect(headers.get("allow")).toBe("GET, HEAD, PATCH, DELETE");
    expect(json).toMatchObject({ code: 12, message: expect.stringContaining("/openapi.json") });
    expect((await rest("GET", "/v1/nothing")).json).toMatchObject({
      code: 5,
      message: expect.stringContaining("/docs"),
    });
  });

  test("HEAD is GET without its body", async () => {
    const [get, head] = await Promise.all([rest("GET", "/v1/stats"), rest("HEAD", "/v1/stats")]);
    expect([head.status, head.json, head.headers.get("content-type")]).toEqual([200, undefined, "application/json"]);
    expect(get.json).toHaveProperty("stats");
  });

  test("a body that is not JSON, or compressed otherwise", async () => {
    const send = (headers: Record<string, string>) => fetch(at("/v1/coupons"), { method: "POST", headers, body: "{}" });
    expect((await send({ "content-type": "text/plain" })).status).toBe(415);
    const br = await send({ "content-type": "application/json", "content-encoding": "br" });
    expect([br.status, br.headers.get("accept-encoding")]).toEqual([415, "gzip"]);
  });

  test("no bytes make a fault of the service", async () => {
    const paths = [
      ...["/v1", "/v1/", "/v1?", "/v1/?", "/v1/coupons/", "/v1//", "/v1/coupons/:", "/v1/codes/%:use", "/v1/coupons/%"],
      ...[
        "/v1/coupons?=",
        "/v1/coupons?&&=&",
        "/v1/coupons?%",
        "/v1/coupons?__proto__[x]=1",
        "/v1/coupons?page_size=1e400",
      ],
      ...["/v1/codes/%25%30%30:use", "/v1/codes/%C0%AF:use", "/v1/coupons;x=1", "/v1/coupons#x", "/v1/coupons/*"],
      `/v1/coupons?${"a&".repeat(4_000)}`,
      `/v1/coupons?${"coupon.".repeat(1_100)}`,
      `/v1${"/x".repeat(4_000)}`,
    ];
    for (const path of paths)
      for (const method of ["GET", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE"]) {
        const socket = connect(replica.httpPort, "127.0.0.1");
        socket.write(
          `${method} ${path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n[]`,
        );
        let text = "";
        socket.setEncoding("utf8").on("data", (part) => {
          text += part;
        });
        await once(socket, "close");
        expect([method, path, text.slice(0, 12)]).toEqual([
          method,
          path,
          expect.stringMatching(/^HTTP\/1.1 [24]\d\d$/),
        ]);
      }
    expect(replica.log()).not.toContain("answer could not be sent");
    expect(replica.log()).not.toContain("call failed");
  });
});

test("over HTTP/2 it is the same, and a page of another origin may read it", async () => {
  const session = connectHttp2(at(""));
  const ask = async (headers: Record<string, string>, body = "") => {
    const stream = session.request({ origin: "https://shop.example", ...headers }, { endStream: body === "" });
    if (body !== "") stream.end(body);
    const [head] = await once(stream, "response");
    const parts: Buffer[] = [];
    for await (const part of stream) parts.push(part);
    return { head, bytes: Buffer.concat(parts) };
  };
  try {
    const { head, bytes } = await ask({ ":path": "/v1/coupons?page_size=1000", "accept-encoding": "gzip" });
    expect(head).toMatchObject({ ":status": 200, "access-control-allow-origin": "https://shop.example" });
    const text = head["content-encoding"] === "gzip" ? gunzipSync(bytes) : bytes;
    expect(JSON.parse(text.toString())).toHaveProperty("coupons");
    const wrong = await ask({ ":method": "PUT", ":path": "/v1/coupons" });
    expect(wrong.head).toMatchObject({ ":status": 405, allow: "POST, GET, HEAD" });
    const created = await ask(
      { ":method": "POST", ":path": "/v1/coupons", "content-type": "application/json" },
      JSON.stringify(coupon),
    );
    expect(created.head[":status"]).toBe(200);
    const preflight = await ask({
      ":method": "OPTIONS",
      ":path": "/v1/coupons/1",
      "access-control-request-method": "PATCH",
    });
    expect(preflight.head).toMatchObject({
      ":status": 204,
      "access-control-allow-methods": "POST, GET, PUT, PATCH, DELETE",
    });
    expect((await ask({ ":method": "HEAD", ":path": "/v1/stats" })).bytes).toHaveLength(0);
  } finally {
    session.destroy();
  }
});

test("the log says by which way a call came", async () => {
  const id = randomUUID();
  await fetch(at("/v1/stats"), { headers: { "x-request-id": id } });
  const line = () =>
    replica
      .log()
      .split("\n")
      .find((one) => one.includes(id));
  await until("the call is in the log", () => line() !== undefined);
  expect(JSON.parse(line() as string)).toMatchObject({ rpc: "GetStats", via: "rest", status: "OK" });
});
