import * as http from "node:http";
import * as http2 from "node:http2";
import { afterAll, describe, expect, test } from "vitest";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { CouponState } from "../../gen/coupon/v1/coupon_pb.js";
import type { Replica } from "../support/replica.js";
import { backing, startReplicas } from "../support/service.js";
import { callConnect, callGrpc, callGrpcWeb, callRest, envelope, pathOf } from "./front-ends.js";
import { createSample, readCoupon } from "./samples.js";

const shop = "https://shop.example";

const { stores } = await backing(afterAll);
/** For this machine alone, for everybody, and for everybody from pages of all origins. */
const [local, open, any] = await startReplicas(
  afterAll,
  stores,
  { CORS_ORIGINS: shop },
  { AUTH: "off", ADMIN_PORT: "0" },
  { AUTH: "off", CORS_ORIGINS: "*" },
);

const list = pathOf(CatalogService.method.listCoupons);
const empty = envelope(new Uint8Array());
type Call = (port: number, headers: Record<string, string>) => Promise<{ code: string; reason?: string | undefined }>;
const protocols: [string, Call][] = [
  ["Connect", (port, headers) => callConnect(port, list, "{}", headers)],
  ["gRPC-Web", (port, headers) => callGrpcWeb(port, list, empty, headers)],
  ["gRPC", (port, headers) => callGrpc(port, list, empty, headers)],
  ["REST", (port, headers) => callRest(port, { verb: "POST", url: "/v1/events:list", body: "{}" }, headers)],
];
const foreign = [shop, "null", "http://localhost:1", "http://127.0.0.1", "https://127.0.0.1.evil.example", "nonsense"];
const refused = { code: "PERMISSION_DENIED", reason: "PERMISSION_DENIED" };

describe.for(protocols)("a call by %s", ([, call]) => {
  test("of a page of another origin is refused", async () => {
    for (const origin of foreign) {
      expect([origin, await call(open.httpPort, { origin })]).toEqual([origin, expect.objectContaining(refused)]);
    }
    for (const origin of ["null", "https://shop.example.evil"])
      expect(await call(local.httpPort, { origin })).toMatchObject(refused);
  });

  test("of the service's own pages, of one that is named, and of who is no page, is served", async () => {
    for (const { httpPort } of [local, open]) {
      expect(await call(httpPort, {})).toMatchObject({ code: "OK" });
      for (const scheme of ["http", "https"])
        expect(await call(httpPort, { origin: `${scheme}://127.0.0.1:${httpPort}` })).toMatchObject({ code: "OK" });
    }
    expect(await call(local.httpPort, { origin: shop })).toMatchObject({ code: "OK" });
    for (const origin of foreign) expect(await call(any.httpPort, { origin })).toMatchObject({ code: "OK" });
  });

  test("of a page that the browser knows to be the service's own is served behind a proxy with another host", async () => {
    const headers = { origin: "https://coupons.example", "sec-fetch-site": "same-origin" };
    expect(await call(open.httpPort, headers)).toMatchObject({ code: "OK" });
    expect(await call(open.httpPort, { ...headers, "sec-fetch-site": "same-site" })).toMatchObject(refused);
  });

  test("of a page that the browser knows to be another one's is refused, though it has the service's host: it came without TLS", async () => {
    const origin = `http://127.0.0.1:${open.httpPort}`;
    for (const site of ["cross-site", "same-site"])
      expect(await call(open.httpPort, { origin, "sec-fetch-site": site })).toMatchObject(refused);
  });
});

/** With a host of its own, which fetch does not let one say. */
function overHttp1({ httpPort }: Replica, method: string, path: string, headers: Record<string, string>) {
  return new Promise<number | undefined>((resolve, reject) => {
    const options = { host: "127.0.0.1", port: httpPort, method, path, headers, agent: false as const };
    const request = http.request(options, (response) => {
      response.resume();
      response.on("end", () => resolve(response.statusCode));
    });
    request.on("error", reject);
    request.end();
  });
}

function overHttp2({ httpPort }: Replica, method: string, path: string, { host, ...headers }: Record<string, string>) {
  return new Promise<number | undefined>((resolve, reject) => {
    const session = http2.connect(`http://127.0.0.1:${httpPort}`);
    session.on("error", reject);
    const pseudo = { ":method": method, ":path": path, ...(host && { ":authority": host }) };
    const stream = session.request({ ...pseudo, ...headers }, { endStream: true });
    stream.on("response", (head) => {
      resolve(head[":status"]);
      session.destroy();
    });
  });
}

const versions = Object.entries({ "HTTP/1.1": overHttp1, "HTTP/2": overHttp2 });

describe.for(versions)("a page over %s", ([, ask]) => {
  test("of another origin changes nothing by a call that needs no preflight, and the service's own does", async () => {
    const { id } = await createSample(open.client);
    const pause = `/v1/coupons/${id}:pause`;
    for (const headers of [{}, { "content-type": "text/plain" }])
      expect(await ask(open, "POST", pause, { ...headers, origin: "https://evil.example" })).toBe(403);
    for (const method of ["PUT", "PATCH", "DELETE"])
      expect(await ask(open, method, `/v1/coupons/${id}`, { origin: "https://evil.example" })).toBe(403);
    expect((await readCoupon(open.client, id)).state).toBe(CouponState.ACTIVE);
    expect(await ask(open, "POST", pause, { origin: `http://127.0.0.1:${open.httpPort}` })).toBe(200);
    expect((await readCoupon(open.client, id)).state).toBe(CouponState.PAUSED);
  });

  test("of another origin may ask for what changes nothing; CORS says what it can read", async () => {
    for (const path of ["/v1/coupons", "/console"])
      for (const method of ["GET", "HEAD"])
        expect(await ask(open, method, path, { origin: "https://evil.example" })).toBe(200);
  });

  test("is the service's own by its public host with the port that a scheme has anyway", async () => {
    const own = { origin: "https://coupons.example", host: "Coupons.example:443" };
    // There is no such coupon.
    expect(await ask(open, "DELETE", "/v1/coupons/1", own)).toBe(400);
    expect(await ask(open, "DELETE", "/v1/coupons/1", { ...own, host: "coupons.example:8443" })).toBe(403);
  });

  test("that has come by another name than this machine's gets nothing where this machine alone may call", async () => {
    const foreignHosts = ["evil.example", "evil.example:8080", "localhost.evil.example", "evillocalhost", "10.0.0.1"];
    for (const host of foreignHosts) {
      for (const path of ["/v1/coupons", "/console", "/healthz", "/metrics"])
        expect([host, path, await ask(local, "GET", path, { host })]).toEqual([host, path, 403]);
      const page = { host, origin: `http://${host}`, "sec-fetch-site": "same-origin" };
      expect(await ask(local, "DELETE", "/v1/coupons/1", page)).toBe(403);
      expect(await ask(open, "GET", "/v1/coupons", { host })).toBe(200);
    }
    const own = ["localhost", "LOCALHOST:1", "coupons.localhost:8080", "127.0.0.1", "127.8.9.1:80", "[::1]:8080"];
    for (const host of own) expect([host, await ask(local, "GET", "/v1/coupons", { host })]).toEqual([host, 200]);
  });
});

describe.for(versions)("a refusal over %s", ([, ask]) => {
  const counted = async ({ adminPort, httpPort }: Replica, why: string) => {
    const text = await (await fetch(`http://127.0.0.1:${adminPort ?? httpPort}/metrics`)).text();
    const [, count] = new RegExp(`^coupon_foreign_pages_total\\{why="${why}"\\} (\\d+)$`, "m").exec(text) ?? [];
    return Number(count ?? 0);
  };

  test("is counted once, by what was not the service's own; what is served is not", async () => {
    const before = [await counted(open, "origin"), await counted(local, "host")] as const;
    for (const path of ["/v1/coupons/1:pause", list, "/nowhere"])
      expect(await ask(open, "POST", path, { origin: "https://evil.example" })).toBe(403);
    expect(await ask(open, "GET", "/v1/coupons", { origin: "https://evil.example" })).toBe(200);
    expect(await ask(local, "GET", "/v1/coupons", { host: "evil.example" })).toBe(403);
    expect([await counted(open, "origin"), await counted(local, "host")]).toEqual([before[0] + 3, before[1] + 1]);
  });
});

test("health is asked as any call is", async () => {
  const check = (headers: Record<string, string>) =>
    overHttp1(open, "POST", "/grpc.health.v1.Health/Check", { "content-type": "application/proto", ...headers });
  expect(await check({})).toBe(200);
  expect(await check({ origin: "https://evil.example" })).toBe(403);
});
