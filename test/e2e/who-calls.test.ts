import { readdir } from "node:fs/promises";
import { join } from "node:path";
import {
  type DescMethod,
  type DescMethodUnary,
  type DescService,
  fromJson,
  getOption,
  type JsonValue,
  toBinary,
} from "@bufbuild/protobuf";
import { afterAll, describe, expect, test } from "vitest";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import { scope as scopeOption } from "../../gen/coupon/v1/options_pb.js";
import { scopes } from "../../src/domain/principal.js";
import { packageRoot } from "../../src/platform/package-root.js";
import { audience, Issuer, issuerName, serveKeys } from "../support/issuer.js";
import { restFormOf } from "../support/rest-form.js";
import { oneReplica } from "../support/service.js";
import { until } from "../support/until.js";
import {
  type Answer,
  callConnect,
  callConnectStream,
  callGrpc,
  callGrpcWeb,
  callNative,
  callRest,
  envelope,
  pathOf,
} from "./front-ends.js";
import { sampleCoupon } from "./samples.js";

const issuer = await Issuer.create();
const { url } = await serveKeys(afterAll, () => issuer.jwks());
const { replica } = await oneReplica(afterAll, {
  AUTH: "jwt",
  JWT_ISSUER: issuerName,
  JWT_AUDIENCE: audience,
  JWT_JWKS_URL: url.href,
  JWT_USER_CLAIM: "user_id",
  LOG_LEVEL: "debug",
});

/** All of the contract, also what will be added to it. */
async function servicesOfContract(): Promise<DescService[]> {
  const generated = join(packageRoot(), "gen/coupon/v1");
  const files = (await readdir(generated)).filter((name) => name.endsWith("_pb.ts"));
  const modules = await Promise.all(files.map((name) => import(join(generated, name)) as Promise<object>));
  return modules
    .flatMap((module) => Object.values(module))
    .filter((one): one is DescService => one?.kind === "service");
}
const services = await servicesOfContract();
const methods = services.flatMap((service) => service.methods as readonly DescMethodUnary[]);
const isStream = (method: DescMethod) => method.methodKind !== "unary";
const scopeOf = (method: DescMethodUnary) => getOption(method, scopeOption);
const namesUser = (method: DescMethodUnary) => method.input.fields.some(({ name }) => name === "user_id");

const someId = "0192f3a0-0000-7000-8000-000000000000";
const order = { coupons: [{ userCouponId: someId }], productId: "ride", orderId: "1" };
/** Of each method that names a user, a request that can be read: what is another user's is found out only then. */
const requests: Readonly<Record<string, JsonValue>> = {
  IssueCoupon: { couponId: someId },
  QuoteUsage: { ...order, orderAmount: { currencyCode: "USD", minorUnits: "100" } },
  LockCoupons: { ...order, orderAmount: { currencyCode: "USD", minorUnits: "100" } },
  UnlockCoupons: { coupons: [{ userCouponId: someId, lockVersion: "1" }] },
  UseCoupons: { ...order, orderAmount: { currencyCode: "USD", minorUnits: "100" } },
  CancelUsage: { usageId: someId },
  GetUsage: { usageId: someId },
  ListUsages: {},
  GetUserCoupon: { userCouponId: someId },
  ListUserCoupons: {},
  DeleteUserCoupon: { userCouponId: someId },
  WatchEvents: {},
  ListEvents: {},
};

const requestOf = (method: DescMethodUnary, userId: string): JsonValue =>
  namesUser(method) ? { ...(requests[method.name] as object), userId } : {};

const bytesOf = (method: DescMethodUnary, userId: string) => {
  const message = fromJson(method.input, requestOf(method, userId));
  return new Uint8Array(toBinary(method.input, message));
};

type Call = (method: DescMethodUnary, userId: string, headers: Record<string, string>) => Promise<Answer>;
const ways: [string, Call][] = [
  ["native gRPC", (method, userId, headers) => callNative(replica.client, method, bytesOf(method, userId), headers)],
  [
    "JSON",
    (method, userId, headers) => {
      const callJson = isStream(method) ? callConnectStream : callConnect;
      return callJson(replica.httpPort, pathOf(method), JSON.stringify(requestOf(method, userId)), headers);
    },
  ],
  [
    "gRPC-Web",
    (method, userId, headers) =>
      callGrpcWeb(replica.httpPort, pathOf(method), envelope(bytesOf(method, userId)), headers),
  ],
  [
    "REST",
    (method, userId, headers) =>
      callRest(replica.httpPort, restFormOf(method, requestOf(method, userId), someId), headers),
  ],
];

const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
const all = scopes.join(" ");
const past = Math.floor(Date.now() / 1_000) - 60;

/** What a caller brings to a method, and how it is refused; undefined: it is not. */
interface Visitor {
  readonly what: string;
  headers(method: DescMethodUnary): Promise<Record<string, string>>;
  refused(method: DescMethodUnary): readonly [code: string, reason: string] | undefined;
}
const unknown = ["UNAUTHENTICATED", "UNAUTHENTICATED"] as const;
const forbidden = ["PERMISSION_DENIED", "PERMISSION_DENIED"] as const;
const visitors: Visitor[] = [
  { what: "nothing", headers: async () => ({}), refused: () => unknown },
  { what: "what is no token", headers: async () => bearer("nonsense"), refused: () => unknown },
  { what: "a password", headers: async () => ({ authorization: "Basic YTpi" }), refused: () => unknown },
  {
    what: "a token that has expired",
    headers: async () => bearer(await issuer.sign({ claims: { scope: all, exp: past } })),
    refused: () => unknown,
  },
  {
    what: "a token with all scopes but the method's",
    headers: async (method) =>
      bearer(await issuer.sign({ claims: { scope: scopes.filter((one) => one !== scopeOf(method)) } })),
    refused: () => forbidden,
  },
  {
    what: "a token without scopes",
    headers: async () => bearer(await issuer.sign({ claims: { scope: undefined } })),
    refused: () => forbidden,
  },
  {
    what: "another user's token",
    headers: async () => bearer(await issuer.sign({ claims: { scope: all, user_id: "mallory" } })),
    refused: (method) => {
      if (namesUser(method)) return ["NOT_FOUND", "USER_COUPON_NOT_FOUND"];
      return scopeOf(method) === "catalog.read" ? undefined : forbidden;
    },
  },
];

/** Statements that callers have caused so far, by the service's own count. */
async function statements(): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${replica.httpPort}/metrics`)).text();
  const counts = [...text.matchAll(/^coupon_pool_wait_seconds_count\{pool="(\w+)"\} (\d+)$/gm)];
  return counts.reduce((sum, [, pool, count]) => sum + (pool === "background" ? 0 : Number(count)), 0);
}

const metric = async (name: string) => {
  const text = await (await fetch(`http://127.0.0.1:${replica.httpPort}/metrics`)).text();
  return Number(
    text
      .split("\n")
      .find((line) => line.startsWith(name))
      ?.split(" ")
      .at(-1) ?? 0,
  );
};

test("the contract is whole, and of each method that names a user there is a request", () => {
  expect(methods.length).toBeGreaterThan(25);
  expect(Object.keys(requests).sort()).toEqual(
    methods
      .filter(namesUser)
      .map(({ name }) => name)
      .sort(),
  );
});

describe.for(ways)("over %s, whoever brings", ([way, call]) => {
  test.for(visitors)("$what is refused by every method, and no store is asked", async (visitor) => {
    const before = await statements();
    const answers: unknown[] = [];
    const expected: unknown[] = [];
    for (const method of methods) {
      // REST has no streams.
      if (way === "REST" && isStream(method)) continue;
      const refused = visitor.refused(method);
      if (!refused) continue;
      const { code, reason, message } = await call(method, "anna", await visitor.headers(method));
      answers.push([method.name, code, reason]);
      expected.push([method.name, ...refused]);
      // One message, whatever is wrong with what a caller brings.
      if (refused === unknown) expect(message).toContain("the call brings no credentials that hold");
    }
    expect(answers).toEqual(expected);
    expect(await statements()).toBe(before);
  });

  test("a good token has what is its own", async () => {
    const before = await statements();
    const anna = bearer(await issuer.sign({ claims: { scope: all, user_id: "anna" } }));
    const shop = bearer(await issuer.sign({ claims: { scope: all } }));
    const named = (name: string) => methods.find((method) => method.name === name) as DescMethodUnary;
    expect(await call(named("ListUserCoupons"), "anna", anna)).toMatchObject({ code: "OK" });
    expect(await call(named("ListCoupons"), "anna", anna)).toMatchObject({ code: "OK" });
    expect(await call(named("ListUserCoupons"), "anna", shop)).toMatchObject({ code: "OK" });
    expect(await call(named("IssueCoupon"), "anna", anna)).toMatchObject({ reason: "COUPON_NOT_FOUND" });
    const long = await issuer.sign({ claims: { scope: all, padding: "x".repeat(5_750) } });
    expect(long.length).toBeGreaterThan(8_000);
    expect(await call(named("ListCoupons"), "anna", bearer(long))).toMatchObject({ code: "OK" });
    // The count that does not move above does move.
    expect(await statements()).toBeGreaterThan(before);
  });
});

test("a refused call in JSON is answered 401 and told what is asked for", async () => {
  const response = await fetch(`http://127.0.0.1:${replica.httpPort}/coupon.v1.CatalogService/ListCoupons`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: "{}",
  });
  expect([response.status, response.headers.get("www-authenticate")]).toEqual([401, "Bearer"]);
});

describe.for([
  ["the gRPC port", () => replica.grpcPort],
  ["the HTTP port", () => replica.httpPort],
] as const)("on %s", ([, portOf]) => {
  // All of them together are read in milliseconds; if one took a time that grows with the square of its length, they took a minute.
  test("headers of 58 KB that are nearly a token's hold nobody up", { timeout: 30_000 }, async () => {
    const headers = { authorization: `bearer ${" ".repeat(58_000)}a b` };
    const { listCoupons } = CatalogService.method;
    const answers = await Promise.all(
      Array.from({ length: 10 }, () => callGrpc(portOf(), pathOf(listCoupons), envelope(new Uint8Array()), headers)),
    );
    expect(answers.map(({ code }) => code)).toEqual(answers.map(() => "UNAUTHENTICATED"));
  });
});

test("what was wrong is counted, and no token is in the log", async () => {
  const count = 'coupon_auth_failures_total{way="jwt",why="audience"}';
  const before = await metric(count);
  const token = await issuer.sign({ claims: { aud: "others" } });
  await callNative(replica.client, CatalogService.method.listCoupons, new Uint8Array(), bearer(token));
  expect(await metric(count)).toBe(before + 1);
  expect(await metric('coupon_auth_failures_total{way="none",why="missing"}')).toBeGreaterThan(0);
  await until("it is in the log", () => /"why":"audience"/.test(replica.log()));
  expect(replica.log()).not.toContain(token.slice(-20));
});

test("two callers may use the same request id, and each repeats its own", async () => {
  const [shop, app] = await Promise.all(
    ["shop", "app"].map(async (sub) => ({ headers: bearer(await issuer.sign({ claims: { sub, scope: all } })) })),
  );
  const { coupon } = await replica.client.call(CatalogService.method.createCoupon, { coupon: sampleCoupon() }, shop);
  const issueTo = async (userId: string, caller: typeof shop) => {
    const target = { case: "couponId", value: coupon?.id as string } as const;
    const { issueCoupon } = IssuanceService.method;
    const answer = await replica.client.call(issueCoupon, { target, userId, requestId: "1" }, caller);
    return [answer.userCoupon?.userId, answer.replayed];
  };
  expect(await issueTo("anna", shop)).toEqual(["anna", false]);
  expect(await issueTo("ben", app)).toEqual(["ben", false]);
  expect(await issueTo("anna", shop)).toEqual(["anna", true]);
});
