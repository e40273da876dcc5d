import { toBinary } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { CouponType } from "../../gen/coupon/v1/coupon_pb.js";
import { IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import type { GrpcClient } from "../support/clients.js";
import { backing, startReplicas, twoReplicas } from "../support/service.js";
import { until } from "../support/until.js";
import { answerOf, callConnect, pathOf } from "./front-ends.js";
import { type CouponInit, createSample, issue, issued } from "./samples.js";

const { issueCoupon } = IssuanceService.method;

const { stores, replicas, clients } = await twoReplicas(afterAll);
const [here, there] = clients;
/** Without Redis, as it is while that is away. */
const [cutOff] = await startReplicas(afterAll, stores, { REDIS_URL: "redis://127.0.0.1:1" });

const throttle = (maxConcurrent: number, maxPerSecond: number, maxWaitMs?: number): CouponInit => ({
  throttle: { maxConcurrent, maxPerSecond, ...(maxWaitMs !== undefined && { maxWait: durationFromMs(maxWaitMs) }) },
});
const reasonOf = async (call: Promise<unknown>) => (await answerOf(call)).reason ?? "ISSUED";
const within = (client: GrpcClient, couponId: string, userId: string, timeoutMs: number) =>
  client.call(issueCoupon, { target: { case: "couponId", value: couponId }, userId }, { timeoutMs });

describe("a throttled coupon", () => {
  test("lets callers wait inside the call, over all replicas, and refuses who would wait too long", async () => {
    const { id } = await createSample(here, throttle(5, 2, 1_200));
    await issued(here, id, "first");
    const startedAtMs = Date.now();
    const calls = ["a", "b", "c", "d", "e", "f"].map(async (userId, index) => {
      const answer = await answerOf(issue(index % 2 ? there : here, id, userId));
      return { ...answer, tookMs: Date.now() - startedAtMs };
    });
    const answers = await Promise.all(calls);
    const served = answers.filter(({ code }) => code === "OK").sort((x, y) => x.tookMs - y.tookMs);
    const refused = answers.filter(({ code }) => code !== "OK");
    expect(served.length).toBeGreaterThanOrEqual(2);
    expect(served.length).toBeLessThanOrEqual(3);
    expect(served.at(-1)?.tookMs).toBeGreaterThan(500);
    for (const { code, reason, retryDelayMs, tookMs } of refused) {
      expect({ code, reason }).toEqual({ code: "RESOURCE_EXHAUSTED", reason: "THROTTLED" });
      expect(retryDelayMs).toBeGreaterThan(0);
      expect(retryDelayMs).toBeLessThanOrEqual(1_200);
      expect(tookMs).toBeLessThan(500);
    }
  });

  test("refuses at once whose deadline comes before the turn, and takes no turn for it", async () => {
    const { id } = await createSample(here, throttle(5, 1));
    await issued(here, id, "first");
    const startedAtMs = Date.now();
    expect(await reasonOf(within(there, id, "hasty", 900))).toBe("THROTTLED");
    expect(Date.now() - startedAtMs).toBeLessThan(700);
    await within(there, id, "patient", 5_000);
    expect(Date.now() - startedAtMs).toBeLessThan(2_000);
  });

  test("is said so in JSON, too", async () => {
    const { id } = await createSample(here, throttle(5, 1, 0));
    await issued(here, id, "first");
    const body = JSON.stringify({ couponId: id, userId: "second" });
    const answer = await callConnect(replicas[0].httpPort, pathOf(issueCoupon), body);
    expect(answer).toMatchObject({ code: "RESOURCE_EXHAUSTED", reason: "THROTTLED" });
    expect(answer.retryDelayMs).toBeGreaterThan(0);
  });

  test("answers whoever repeats a request or holds it already without a turn", async () => {
    const { id } = await createSample(here, throttle(5, 1, 0));
    const { userCoupon } = await issue(here, id, "anna", "anna-1");
    for (const client of [here, there, cutOff.client]) {
      const again = await issue(client, id, "anna", "anna-1");
      expect([again.replayed, again.userCoupon?.id]).toEqual([true, userCoupon?.id]);
      expect(await reasonOf(issue(client, id, "anna"))).toBe("ALREADY_ISSUED");
    }
  });

  test("is issued to those in line also when it is edited meanwhile, and at once when the throttle goes", async () => {
    const { id } = await createSample(here, throttle(5, 1, 20_000));
    await issued(here, id, "first");
    const inLine = issue(there, id, "second");
    const last = Promise.all(["x", "y", "z"].map((userId) => issue(here, id, userId)));
    await here.call(CatalogService.method.updateCoupon, {
      coupon: { id, name: "Renamed" },
      updateMask: { paths: ["name"] },
    });
    await inLine;
    await here.call(CatalogService.method.updateCoupon, { coupon: { id }, updateMask: { paths: ["throttle"] } });
    const startedAtMs = Date.now();
    await Promise.all(Array.from({ length: 10 }, (_, n) => issue(n % 2 ? here : there, id, `free-${n}`)));
    expect(Date.now() - startedAtMs).toBeLessThan(2_000);
    await last;
  });

  test("is refused while Redis is away; others are issued", async () => {
    const plain = await createSample(here);
    const throttled = await createSample(here, { type: CouponType.MEGADEAL });
    expect(throttled.throttle).toMatchObject({ maxConcurrent: 5, maxPerSecond: 10 });
    const daily = await createSample(here, { quota: { group: "while-away", maxPerDay: 1 }, maxPerUser: 5 });
    await issued(cutOff.client, plain.id, "anna");
    expect(await answerOf(issue(cutOff.client, throttled.id, "anna"))).toMatchObject({
      code: "UNAVAILABLE",
      reason: "STORE_UNAVAILABLE",
      retryDelayMs: expect.any(Number),
    });
    await issued(cutOff.client, daily.id, "anna");
    expect(await reasonOf(issue(cutOff.client, daily.id, "anna"))).toBe("QUOTA_REACHED");
    await issued(here, throttled.id, "anna");
  });
});

describe("a quota", () => {
  test("holds over the coupons of a group and over replicas; RetryInfo says when the day ends", async () => {
    const quota = { group: "summer", maxPerDay: 2 };
    const coupons = await Promise.all([1, 2, 3].map(() => createSample(here, { quota, maxPerUser: 9 })));
    const [a, b, c] = coupons.map(({ id }) => id) as [string, string, string];
    await issued(here, a, "anna");
    await issued(there, b, "anna");
    const leftMs = 86_400_000 - (Date.now() % 86_400_000);
    for (const client of [here, there, cutOff.client]) {
      const answer = await answerOf(issue(client, c, "anna"));
      expect(answer).toMatchObject({ code: "RESOURCE_EXHAUSTED", reason: "QUOTA_REACHED" });
      expect(answer.retryDelayMs).toBeGreaterThan(leftMs - 60_000);
      expect(answer.retryDelayMs).toBeLessThanOrEqual(leftMs);
    }
    await issued(here, c, "bert");
    const body = toBinary(issueCoupon.input, {
      $typeName: "coupon.v1.IssueCouponRequest",
      target: { case: "couponId", value: c },
      userId: "anna",
      requestId: "",
    });
    const web = await callConnect(replicas[1].httpPort, pathOf(issueCoupon), new Uint8Array(body), {
      "content-type": "application/proto",
    });
    expect(web.reason).toBe("QUOTA_REACHED");
  });

  test("is neither changed to another group nor taken away; how many a day may change", async () => {
    const { id } = await createSample(here, { quota: { group: "fixed", maxPerDay: 1 }, maxPerUser: 9 });
    const update = (quota?: { group: string; maxPerDay: number }) =>
      here.call(CatalogService.method.updateCoupon, {
        coupon: quota ? { id, quota } : { id },
        updateMask: { paths: ["quota"] },
      });
    expect((await answerOf(update({ group: "other", maxPerDay: 1 }))).fields).toEqual(["coupon.quota.group"]);
    expect((await answerOf(update())).fields).toEqual(["coupon.quota.group"]);
    await issued(here, id, "anna");
    expect(await reasonOf(issue(there, id, "anna"))).toBe("QUOTA_REACHED");
    await update({ group: "fixed", maxPerDay: 2 });
    await until("both know of it", async () => (await reasonOf(issue(there, id, "anna"))) !== "QUOTA_REACHED");
    expect(await reasonOf(issue(here, id, "anna"))).toBe("QUOTA_REACHED");
  });
});

test("a single process without Redis keeps lines and quotas itself", async () => {
  const own = await backing(onTestFinished);
  const [replica] = await startReplicas(onTestFinished, { ...own.stores, redisUrl: undefined }, {});
  const quota = { group: "daily", maxPerDay: 1 };
  const { id } = await createSample(replica.client, { ...throttle(1, 1, 0), quota, maxPerUser: 5 });
  await issued(replica.client, id, "anna");
  expect(await reasonOf(issue(replica.client, id, "anna"))).toBe("QUOTA_REACHED");
  expect(await reasonOf(issue(replica.client, id, "bert"))).toBe("THROTTLED");
});
