import { randomUUID } from "node:crypto";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { afterAll, expect, test } from "vitest";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { addCodes } from "../support/codes.js";
import { twoReplicas } from "../support/service.js";
import { Audit, issueToAll, missing, refusedButStored, type Tally, untilGateIsEven, wants } from "./crowd.js";

/** 1: the races in their full size. */
const scale = Number(process.env.FAULT_SCALE ?? 0.1);
const codeCount = Math.round(5_000 * scale);
const callerCount = codeCount * 2;

const { stores, sql, redis, clients } = await twoReplicas(afterAll);
const audit = new Audit(sql);

async function newBook(codes: number): Promise<string> {
  const { coupon } = await clients[0].call(CatalogService.method.createCoupon, {
    coupon: {
      name: "a book",
      discount: { kind: { case: "percentageBasisPoints", value: 1_000 } },
      expireTime: timestampFromMs(Date.now() + 3_600_000),
      codeBook: {},
    },
  });
  const { id } = coupon as { id: string };
  if (codes === 0) return id;
  const tag = randomUUID().slice(0, 8);
  await addCodes(
    sql,
    id,
    Array.from({ length: codes }, (_, n) => ({ code: `${tag}-${n}` })),
  );
  return id;
}

/** Of this test's keys, for the server is shared. */
async function emptyRedis(): Promise<void> {
  const keys = await redis.keys(`${stores.keyPrefix}:*`);
  if (keys.length > 0) await redis.unlink(...keys);
}

/** Nobody has another's code, each code has one holder at most, and the book's counts are those of its rows. */
async function expectEveryCodeOnce(couponId: string, issued: number): Promise<void> {
  const [row] = await sql`
    SELECT count(*)::int AS rows, count(DISTINCT u.code)::int AS codes, count(DISTINCT u.code_id)::int AS ids,
      count(*) FILTER (WHERE k.code = u.code AND k.holder_count = 1)::int AS taken,
      (SELECT count(*)::int FROM codes WHERE coupon_id = ${couponId} AND holder_count > 0) AS all_taken,
      (SELECT issued_count::int FROM coupons WHERE id = ${couponId}) AS counted
    FROM user_coupons u JOIN codes k ON k.id = u.code_id WHERE u.coupon_id = ${couponId}`;
  expect(row).toEqual({ rows: issued, codes: issued, ids: issued, taken: issued, all_taken: issued, counted: issued });
}

async function expectFair(couponId: string, tally: Tally): Promise<void> {
  expect(tally.acknowledged.size).toBe(codeCount);
  expect(tally.count("SOLD_OUT")).toBe(callerCount - codeCount);
  expect(await missing(audit, tally)).toEqual([]);
  expect(await refusedButStored(audit, tally)).toEqual([]);
  await expectEveryCodeOnce(couponId, codeCount);
  await untilGateIsEven(audit, stores, new Map([[couponId, codeCount]]));
}

test("twice as many callers at once as a book has codes: a different code each, the others are told SOLD_OUT", async () => {
  const couponId = await newBook(codeCount);
  const startedAt = Date.now();
  const tally = await issueToAll(wants(couponId, "user", callerCount), { clients, inFlight: callerCount });
  const ms = Date.now() - startedAt;
  if (scale >= 1) process.stdout.write(`${callerCount} callers for ${codeCount} codes: ${ms} ms\n`);
  await expectFair(couponId, tally);
});

test("the same while Redis is emptied twice", async () => {
  const couponId = await newBook(codeCount);
  let emptied = 0;
  const tally = await issueToAll(wants(couponId, "user", callerCount), {
    clients,
    inFlight: Math.min(400, callerCount),
    onAcknowledged: (count) => {
      if (count < ((emptied + 1) * codeCount) / 3 || emptied === 2) return;
      emptied += 1;
      void emptyRedis();
    },
  });
  expect(emptied).toBe(2);
  await expectFair(couponId, tally);
});

test("a wrong upload is taken back in the middle of its sale: what was issued stays, the rest is gone and nobody gets it", async () => {
  const couponId = await newBook(0);
  const codes = Array.from({ length: codeCount }, (_, n) => `wrong-${n}`);
  const { uploadId } = await clients[0].call(CatalogService.method.uploadCodes, {
    target: { case: "couponId", value: couponId },
    lines: codes.map((code) => ({ code })),
  });
  const deleting: Promise<number>[] = [];
  const byName = async (client: number, from: number) => {
    const named = codes.slice(from, from + 50);
    const target = { case: "couponId" as const, value: couponId };
    const answer = await clients[client as 0 | 1].call(CatalogService.method.deleteCodes, { target, codes: named });
    return answer.deletedCount;
  };
  const byUpload = async () => {
    const request = {
      target: { case: "couponId" as const, value: couponId },
      source: { case: "uploadId" as const, value: uploadId },
    };
    let [count, pageToken] = [0, ""];
    do {
      const answer = await clients[1].call(CatalogService.method.deleteCodes, { ...request, pageToken });
      count += answer.deletedCount;
      pageToken = answer.nextPageToken;
    } while (pageToken !== "");
    return count;
  };
  deleting.push(byName(0, 0));
  await Promise.all(deleting);
  const tally = await issueToAll(wants(couponId, "user", callerCount), {
    clients,
    inFlight: Math.min(100, callerCount),
    onAcknowledged: (count) => {
      if (count === 20) deleting.push(byName(0, 50), byName(1, 100));
      if (count === 60) deleting.push(byUpload());
    },
  });
  expect(deleting.length).toBe(4);
  const deleted = (await Promise.all(deleting)).reduce((sum, count) => sum + count, 0);
  const issued = tally.acknowledged.size;
  expect(deleted).toBeGreaterThanOrEqual(50);
  expect(issued + deleted).toBe(codeCount);
  expect(tally.count("SOLD_OUT")).toBe(callerCount - issued);
  expect(await missing(audit, tally)).toEqual([]);
  expect(await refusedButStored(audit, tally)).toEqual([]);
  await expectEveryCodeOnce(couponId, issued);
  await untilGateIsEven(audit, stores, new Map([[couponId, issued]]));
});
