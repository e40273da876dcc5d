import { randomUUID } from "node:crypto";
import { afterAll, expect, test } from "vitest";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import { UsageService } from "../../gen/coupon/v1/usage_service_pb.js";
import { scopes } from "../../src/domain/principal.js";
import { audience, Issuer, issuerName, serveKeys } from "../support/issuer.js";
import { restFormOf } from "../support/rest-form.js";
import { oneReplica } from "../support/service.js";
import { until } from "../support/until.js";
import { usd } from "./checkout.js";
import { type Answer, answerOf, callConnect, callRest, pathOf } from "./front-ends.js";

const { listCoupons } = CatalogService.method;
const { issueCoupon } = IssuanceService.method;
const { useCoupons, quoteUsage, unlockCoupons } = UsageService.method;

const issuer = await Issuer.create();
const { url } = await serveKeys(afterAll, () => issuer.jwks());
const callerOf = async (sub: string) => {
  const token = await issuer.sign({ claims: { sub, scope: scopes.join(" ") } });
  return { headers: { authorization: `Bearer ${token}` } };
};
const [anna, bert] = [await callerOf("anna"), await callerOf("bert")];
const { replica } = await oneReplica(afterAll, {
  AUTH: "jwt",
  JWT_ISSUER: issuerName,
  JWT_AUDIENCE: audience,
  JWT_JWKS_URL: url.href,
  CALLER_LIMITS: "manage=20/100,issue=1000000/100000,use=1000000/100000",
  MAX_WRONG_CODES: "3",
});
const { client, httpPort } = replica;
const shows = async (line: RegExp) => {
  const text = await (await fetch(`http://127.0.0.1:${httpPort}/metrics`)).text();
  return line.test(text);
};

test("who calls too often is told when to go on, on both ports and by REST; calls of other kinds and of others go on", async () => {
  const ways: (() => Promise<Answer>)[] = [
    () => answerOf(client.call(listCoupons, {}, anna)),
    () => callConnect(httpPort, pathOf(listCoupons), "{}", anna.headers),
    () => callRest(httpPort, restFormOf(listCoupons, {}), anna.headers),
  ];
  for (const call of ways) {
    const refused = (await until("one of a crowd is refused", async () => {
      const answers = await Promise.all(Array.from({ length: 50 }, call));
      return answers.find(({ reason }) => reason === "RATE_LIMITED");
    })) as Answer;
    expect(refused).toMatchObject({ code: "RESOURCE_EXHAUSTED" });
    expect(refused.retryDelayMs).toBeGreaterThan(0);
    expect(refused.retryDelayMs).toBeLessThanOrEqual(1_000);
    const nowhere = { target: { case: "couponId" as const, value: randomUUID() }, userId: "u" };
    expect((await answerOf(client.call(issueCoupon, nowhere, anna))).reason).toBe("COUPON_NOT_FOUND");
    expect((await answerOf(client.call(listCoupons, {}, bert))).code).toBe("OK");
  }
  expect(await shows(/^coupon_calls_limited_total\{kind="manage",limit="rate"\} \d+$/m)).toBe(true);
});

const coded = (userId: string, ...codes: string[]) => ({
  userId,
  coupons: codes.map((value) => ({ target: { case: "code" as const, value }, lockVersion: 1n })),
});
const order = { productId: "ride", orderId: "o", orderAmount: usd(1_000) };
const guesses: [string, number, (userId: string, code: string, caller: typeof anna) => Promise<unknown>][] = [
  [
    "IssueCoupon",
    10,
    (userId, value, who) => client.call(issueCoupon, { target: { case: "code", value }, userId }, who),
  ],
  ["UseCoupons", 1, (userId, code, who) => client.call(useCoupons, { ...coded(userId, code), ...order }, who)],
  ["UseCoupons, in its short form", 1, (userId, code, who) => client.call(useCoupons, { ...order, userId, code }, who)],
  ["UnlockCoupons", 1, (userId, code, who) => client.call(unlockCoupons, coded(userId, code), who)],
];
test.for(guesses)(
  "of the wrong codes that a user names by %s, a hundred at once and that %i times, few are looked up",
  async ([method, times, guess]) => {
    const userId = `guesser by ${method}`;
    const answers: Answer[] = [];
    for (let time = 0; time < times; time++) {
      const crowd = Array.from({ length: 100 }, (_, n) => answerOf(guess(userId, `GUESS${time}-${n}`, anna)));
      answers.push(...(await Promise.all(crowd)));
    }
    const limited = answers.filter(({ reason }) => reason === "RATE_LIMITED");
    const lookedUp = answers.filter(({ code, reason }) => code !== "UNAVAILABLE" && reason !== "RATE_LIMITED");
    // Three that are free, and one after each pause; a busy machine has time for some.
    expect(lookedUp.length).toBeGreaterThanOrEqual(1);
    expect(lookedUp.length).toBeLessThan(20);
    expect(limited.length).toBeGreaterThan(0);
    for (const { retryDelayMs } of limited) expect(retryDelayMs).toBeGreaterThan(0);
    // Another user is looked up at once, and so is this one for another caller.
    for (const [who, user] of [
      [anna, `another by ${method}`],
      [bert, userId],
    ] as const)
      expect((await answerOf(guess(user, "GUESS", who))).reason).not.toBe("RATE_LIMITED");
  },
);

test("an order, used or quoted, counts for as many codes as are wrong in it", async () => {
  const codes = ["ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX"];
  const used = await answerOf(client.call(useCoupons, { ...coded("uses", ...codes), ...order }, anna));
  expect(used.preconditions).toHaveLength(6);
  const { quotes } = await client.call(quoteUsage, { ...coded("asks", ...codes), ...order }, bert);
  expect(quotes).toHaveLength(6);
  for (const [userId, who] of [
    ["uses", anna],
    ["asks", bert],
  ] as const) {
    const next = await answerOf(client.call(issueCoupon, { target: { case: "code", value: "SEVEN" }, userId }, who));
    expect([userId, next.reason]).toEqual([userId, "RATE_LIMITED"]);
  }
  expect(await shows(/^coupon_calls_limited_total\{kind="use",limit="wrong_codes"\} \d+$/m)).toBe(true);
});
