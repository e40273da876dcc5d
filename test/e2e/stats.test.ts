import { randomUUID } from "node:crypto";
import { durationFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { afterAll, expect, test } from "vitest";
import { CatalogService, type Stats } from "../../gen/coupon/v1/catalog_service_pb.js";
import { CouponType } from "../../gen/coupon/v1/coupon_pb.js";
import { ErrorReason } from "../../gen/coupon/v1/error_reason_pb.js";
import { IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import { UserCouponService } from "../../gen/coupon/v1/user_coupon_service_pb.js";
import { countedStats } from "../support/counted-stats.js";
import { oneReplica } from "../support/service.js";
import { until } from "../support/until.js";
import { cancel, useOne } from "./checkout.js";
import { answerOf, callConnect, pathOf } from "./front-ends.js";
import { type CouponInit, createSample, issued } from "./samples.js";

const { getStats, getCouponActivity, deleteCoupon } = CatalogService.method;
const { deleteUserCoupon } = UserCouponService.method;

const { sql, replica } = await oneReplica(afterAll, { PURGE: "dry-run", PURGE_AFTER_DAYS: "1" });
const { client } = replica;

const numbers = (stats: Stats | undefined) => {
  const { $typeName: _, $unknown: __, ...counts } = stats as Stats;
  return Object.fromEntries(Object.entries(counts).map(([name, count]) => [name, Number(count)]));
};
const ofCoupon = async (couponId: string) => {
  const { stats, readTime } = await client.call(getStats, { scope: { case: "couponId", value: couponId } });
  expect(Math.abs(timestampMs(readTime!) - Date.now())).toBeLessThan(60_000);
  return numbers(stats);
};
/** Connect's JSON leaves out what is 0, and has 64-bit numbers as text. */
async function overConnect(request: object): Promise<Record<string, string>> {
  const response = await fetch(`http://127.0.0.1:${replica.httpPort}${pathOf(getStats)}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(request),
  });
  return ((await response.json()) as { stats: Record<string, string> }).stats;
}

/** Of five user coupons: one used, one used and cancelled, one deleted, two as they were issued. */
async function busy(fields: CouponInit): Promise<string> {
  const { id } = await createSample(client, fields);
  const users = Array.from({ length: 5 }, () => `user-${randomUUID()}`);
  const held: string[] = [];
  for (const userId of users) held.push((await issued(client, id, userId)).id);
  const use = (index: number) => useOne(client, { userId: users[index] as string, coupons: [held[index] as string] });
  await use(0);
  const { id: usageId } = await use(1);
  await cancel(client, users[1] as string, usageId);
  await client.call(deleteUserCoupon, { userId: users[2] as string, userCouponId: held[2] as string });
  return id;
}

const busyCounts = {
  couponCount: 1,
  codeCount: 0,
  issuedCount: 5,
  deletedCount: 1,
  releasedCount: 0,
  usedCount: 2,
  cancelledCount: 1,
  revokedCount: 0,
  expiredCount: 0,
};

test("GetStats of a coupon, of a type and of all, over both front ends", async () => {
  const free = await busy({ type: CouponType.FREE });
  const other = await busy({ type: CouponType.STANDARD });
  expect(await ofCoupon(free)).toEqual(busyCounts);
  expect(await ofCoupon(free.toUpperCase())).toEqual(busyCounts);
  expect(await overConnect({ couponId: free })).toEqual({
    couponCount: "1",
    issuedCount: "5",
    deletedCount: "1",
    usedCount: "2",
    cancelledCount: "1",
  });

  await client.call(deleteCoupon, { couponId: other, revokeIssued: true });
  expect(await ofCoupon(other)).toEqual({ ...busyCounts, revokedCount: 3 });
  const { stats: ofType } = await client.call(getStats, { scope: { case: "type", value: CouponType.STANDARD } });
  expect(numbers(ofType)).toEqual({ ...busyCounts, revokedCount: 3 });
  const { stats: ofAll } = await client.call(getStats, {});
  expect(numbers(ofAll)).toEqual({
    ...Object.fromEntries(Object.entries(busyCounts).map(([name, count]) => [name, 2 * count])),
    revokedCount: 3,
  });
  expect(await overConnect({ type: "COUPON_TYPE_STANDARD" })).toMatchObject({ couponCount: "1", revokedCount: "3" });
});

test("what runs out by itself is counted when it does, and put on record", async () => {
  const id = await busy({ validityAfterIssue: durationFromMs(6_000) });
  await until("all but the used one have expired", async () => (await ofCoupon(id)).expiredCount === 3);
  expect(await ofCoupon(id)).toEqual(await countedStats(sql, id));
  const expirations = () => sql`SELECT FROM events WHERE coupon_id = ${id} AND kind = 'USER_COUPON_EXPIRED'`;
  await until("each is on record", async () => (await expirations()).length === 3);
  expect(await ofCoupon(id)).toMatchObject({ expiredCount: 3 });
});

test("what GetStats refuses", async () => {
  const call = (scope: object) => answerOf(client.call(getStats, { scope: scope as never }));
  expect(await call({ case: "couponId", value: randomUUID() })).toMatchObject({
    code: "NOT_FOUND",
    reason: "COUPON_NOT_FOUND",
  });
  for (const scope of [
    { case: "couponId", value: "x" },
    { case: "type", value: CouponType.UNSPECIFIED },
    { case: "type", value: 99 },
  ]) {
    expect(await call(scope)).toMatchObject({
      code: "INVALID_ARGUMENT",
      reason: "INVALID_FIELD",
      fields: [scope.case === "type" ? "type" : "coupon_id"],
    });
  }
  expect(await callConnect(replica.httpPort, pathOf(getStats), '{"couponId":"x"}')).toMatchObject({
    reason: "INVALID_FIELD",
  });
});

test("GetCouponActivity counts what became of the requests for one coupon, and how long they took", async () => {
  const { id } = await createSample(client, { quantity: 2n });
  const ask = (userId: string) =>
    answerOf(client.call(IssuanceService.method.issueCoupon, { target: { case: "couponId", value: id }, userId }));
  const before = await client.call(getCouponActivity, { couponId: id });
  expect(before.sinceTime).toBeUndefined();
  expect(before).toMatchObject({ outcomes: [], latencies: [] });
  const answers = [await ask("a"), await ask("a"), await ask("b"), await ask("c"), await ask("d")];
  expect(answers).toHaveLength(5);

  const activity = await client.call(getCouponActivity, { couponId: id.toUpperCase() });
  expect(activity.replicaId).toBe(before.replicaId);
  expect(activity.sinceTime).toBeDefined();
  expect(activity.outcomes.map(({ reason, count }) => [reason, Number(count)])).toEqual([
    [ErrorReason.UNSPECIFIED, 2],
    [ErrorReason.ALREADY_ISSUED, 1],
    [ErrorReason.SOLD_OUT, 2],
  ]);
  expect(activity.latencies.reduce((sum, { count }) => sum + Number(count), 0)).toBe(5);
  const bounds = activity.latencies.map(({ atMost }) => (atMost ? Number(atMost.seconds) * 1e9 + atMost.nanos : null));
  expect(bounds.at(-1)).toBeNull();
  const finite = bounds.slice(0, -1) as number[];
  expect(finite).toEqual(finite.toSorted((a, b) => a - b));

  // What nobody can ask for has no counts, and is no error.
  const other = randomUUID();
  await answerOf(
    client.call(IssuanceService.method.issueCoupon, { target: { case: "couponId", value: other }, userId: "a" }),
  );
  expect((await client.call(getCouponActivity, { couponId: other })).outcomes).toEqual([]);
  expect(await answerOf(client.call(getCouponActivity, { couponId: "x" }))).toMatchObject({ reason: "INVALID_FIELD" });
});
