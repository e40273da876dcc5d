import { randomUUID } from "node:crypto";
import { toBinary } from "@bufbuild/protobuf";
import { durationFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { CouponType } from "../../gen/coupon/v1/coupon_pb.js";
import { IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import type { GrpcClient } from "../support/clients.js";
import { backing, startReplicas, twoReplicas } from "../support/service.js";
import { until } from "../support/until.js";
import { type Answer, answerOf, callConnect, pathOf } from "./front-ends.js";
import { type CouponInit, createSample, issue, issued } from "./samples.js";

const { issueCoupon } = IssuanceService.method;

const { stores, redis, replicas, clients } = await twoReplicas(afterAll);
const [here, there] = clients;
/** Without Redis, as it is while that is away. */
const [cutOff] = await startReplicas(afterAll, stores, { REDIS_URL: "redis://127.0.0.1:1" });

const throttle = (maxConcurrent: number, maxPerSecond: number, maxWaitMs?: number): CouponInit => ({
  throttle: { maxConcurrent, maxPerSecond, ...(maxWaitMs !== undefined && { maxWait: durationFromMs(maxWaitMs) }) },
});
const reasonOf = async (call: Promise<unknown>) => (await answerOf(call)).reason ?? "ISSUED";
/** Issues to one user after the other until one is refused, as on a busy machine a ticket may be due between two calls. */
const untilRefused = async (issueTo: (userId: string) => Promise<Answer>) =>
  (await until("one of them comes too soon", async () => {
    const answer = await issueTo(randomUUID());
    return answer.code !== "OK" && answer;
  })) as Answer;
const within = (client: GrpcClient, couponId: string, userId: string, timeoutMs: number) =>
  client.call(issueCoupon, { target: { case: "couponId", value: couponId }, userId }, { timeoutMs });

describe("a throttled coupon", () => {
  test("lets callers wait inside the call, over all replicas, and refuses who would wait too long", async () => {
    const { id } = await createSample(here, throttle(5, 2, 1_200));
    const issuedAtMs = [timestampMs((await issued(here, id, "first")).issueTime!)];
    const answered: string[] = [];
    const calls = Array.from({ length: 12 }, async (_, index) => {
      const call = issue(index % 2 ? there : here, id, `user ${index}`);
      void call.then(({ userCoupon }) => issuedAtMs.push(timestampMs(userCoupon!.issueTime!))).catch(() => {});
      const answer = await answerOf(call);
      answered.push(answer.code);
      return answer;
    });
    const refused = (await Promise.all(calls)).filter(({ code }) => code !== "OK");
    // Two of them have a ticket in time; on a busy machine, on which they come one by one, some more.
    expect(issuedAtMs.length).toBeGreaterThanOrEqual(3);
    issuedAtMs.sort((x, y) => x - y);
    const spans = issuedAtMs.slice(2).map((ms, index) => ms - issuedAtMs[index]!);
    expect(Math.min(...spans)).toBeGreaterThanOrEqual(1_000);
    expect(refused.length).toBeGreaterThan(0);
    for (const { code, reason, retryDelayMs } of refused) {
      expect({ code, reason }).toEqual({ code: "RESOURCE_EXHAUSTED", reason: "THROTTLED" });
      expect(retryDelayMs).toBeGreaterThan(0);
      // When there is a place in the queue, and within the time that it is long from then on.
      expect(retryDelayMs).toBeLessThanOrEqual(2_400);
    }
    // They are told so while others still wait.
    expect(answered.indexOf("RESOURCE_EXHAUSTED")).toBeLessThan(answered.lastIndexOf("OK"));
  });

  test("refuses at once whose deadline comes before the ticket is due, and takes none for it", async () => {
    const { id } = await createSample(here, throttle(5, 1, 20_000));
    await issued(here, id, "first");
    const nextTicket = () => redis.hget(`${stores.keyPrefix}:{${id}}:line`, "next");
    const ahead: Promise<unknown>[] = [];
    for (const userId of ["second", "third", "fourth"]) {
      const before = await nextTicket();
      ahead.push(within(here, id, userId, 20_000));
      await until("it waits in the queue", async () => (await nextTicket()) !== before);
    }
    const before = await nextTicket();
    // Whose deadline passes while it waits is told another reason.
    expect(await reasonOf(within(there, id, "hasty", 2_000))).toBe("THROTTLED");
    expect(await nextTicket()).toBe(before);
    await within(there, id, "patient", 20_000);
    await Promise.all(ahead);
  });

  test("is said so in JSON, too", async () => {
    const { id } = await createSample(here, throttle(5, 1, 0));
    const answer = await untilRefused((userId) =>
      callConnect(replicas[0].httpPort, pathOf(issueCoupon), JSON.stringify({ couponId: id, userId })),
    );
    expect(answer).toMatchObject({ code: "RESOURCE_EXHAUSTED", reason: "THROTTLED" });
    expect(answer.retryDelayMs).toBeGreaterThan(0);
  });

  test("answers whoever repeats a request or holds it already without a ticket", async () => {
    const { id } = await createSample(here, throttle(5, 1, 0));
    const { userCoupon } = await issue(here, id, "anna", "anna-1");
    for (const client of [here, there, cutOff.client]) {
      const again = await issue(client, id, "anna", "anna-1");
      expect([again.replayed, again.userCoupon?.id]).toEqual([true, userCoupon?.id]);
      expect(await reasonOf(issue(client, id, "anna"))).toBe("ALREADY_ISSUED");
    }
  });

  test("is issued to those who wait also when it is edited meanwhile, and at once when the throttle goes", async () => {
    const { id } = await createSample(here, throttle(5, 1, 20_000));
    await issued(here, id, "first");
    const waiting = issue(there, id, "second");
    const last = Promise.all(["x", "y", "z"].map((userId) => issue(here, id, userId)));
    await here.call(CatalogService.method.updateCoupon, {
      coupon: { id, name: "Renamed" },
      updateMask: { paths: ["name"] },
    });
    await waiting;
    await here.call(CatalogService.method.updateCoupon, { coupon: { id }, updateMask: { paths: ["throttle"] } });
    const free = await Promise.all(Array.from({ length: 10 }, (_, n) => issued(n % 2 ? here : there, id, `free-${n}`)));
    const issuedAtMs = free.map(({ issueTime }) => timestampMs(issueTime!));
    // One a second, they would need nine.
    expect(Math.max(...issuedAtMs) - Math.min(...issuedAtMs)).toBeLessThan(8_000);
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
      labels: {},
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

test("a single process without Redis keeps queues and quotas itself", async () => {
  const own = await backing(onTestFinished);
  const [replica] = await startReplicas(onTestFinished, { ...own.stores, redisUrl: undefined }, {});
  const quota = { group: "daily", maxPerDay: 1 };
  const { id } = await createSample(replica.client, { ...throttle(1, 1, 0), quota, maxPerUser: 5 });
  await issued(replica.client, id, "anna");
  expect(await reasonOf(issue(replica.client, id, "anna"))).toBe("QUOTA_REACHED");
  const refused = await untilRefused((userId) => answerOf(issue(replica.client, id, userId)));
  expect(refused.reason).toBe("THROTTLED");
});
