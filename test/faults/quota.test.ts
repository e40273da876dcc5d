import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { afterAll, afterEach, expect, test } from "vitest";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { CallError, letIn } from "../support/clients.js";
import { type Replica, startShared } from "../support/replica.js";
import { backing } from "../support/service.js";
import { sized } from "./checkout.js";
import { issue } from "./crowd.js";

const couponCount = sized(15, 50);
const requestCount = sized(300, 1_000);
const timeoutMs = 30_000;
const dayMs = 86_400_000;
/** Their dates are never the same. */
const [early, late] = ["Etc/GMT+12", "Etc/GMT-14"];

const { stores, sql, redis } = await backing(afterAll);
let replicas: Replica[] = [];
afterEach(() => stop());

const start = async (timeZone: string) => {
  const settings = { QUOTA_TIME_ZONE: timeZone };
  replicas = await Promise.all([startShared(0, stores, settings), startShared(1, stores, settings)]);
};
const stop = async () => void (await Promise.all(replicas.splice(0).map((replica) => replica.stop())));

async function createCoupons(): Promise<string[]> {
  return await Promise.all(
    Array.from({ length: couponCount }, async (_, index) => {
      const { coupon } = await replicas[index % 2]!.client.call(CatalogService.method.createCoupon, {
        coupon: {
          name: "One a day",
          discount: { kind: { case: "percentageBasisPoints", value: 1_000 } },
          expireTime: timestampFromMs(Date.now() + 3_600_000),
          quantity: 1_000n,
          // Otherwise some would be told ALREADY_ISSUED.
          maxPerUser: 100,
          quota: { group: "daily", maxPerDay: 1 },
        },
      });
      return coupon?.id ?? "";
    }),
  );
}

/** As many requests at once as there are, and how many were refused. All must be for the quota. */
async function rush(couponIds: readonly string[], userId: string): Promise<number> {
  const startedAtMs = Date.now();
  const answers = await Promise.all(
    Array.from({ length: requestCount }, async (_, index) => {
      const couponId = couponIds[index % couponIds.length] as string;
      try {
        await letIn(() => issue(replicas[index % 2]!.client, { couponId, userId, requestId: "" }, timeoutMs));
        return null;
      } catch (error) {
        if (error instanceof CallError) return error;
        throw error;
      }
    }),
  );
  const refused = answers.filter((answer) => answer !== null);
  for (const { reason, retryDelayMs } of refused) {
    expect(reason).toBe("QUOTA_REACHED");
    expect(retryDelayMs).toBeGreaterThan(0);
    expect(retryDelayMs).toBeLessThanOrEqual(dayMs);
  }
  process.stderr.write(`quota: ${requestCount} requests in ${Date.now() - startedAtMs} ms\n`);
  return refused.length;
}

async function issuedTo(userId: string): Promise<number> {
  const [row] = await sql`
    SELECT (SELECT count(*) FROM user_coupons WHERE user_id = ${userId})::int AS rows,
      (SELECT sum(issued_count) FROM quota_days WHERE user_id = ${userId})::int AS counted,
      (SELECT sum(issued_count) FROM coupons)::int AS issued`;
  expect(row?.counted).toBe(row?.rows);
  return row?.rows;
}

test("one a day is one a day, whatever is asked of whom, and when", async () => {
  await start(early as string);
  const couponIds = await createCoupons();
  expect(await rush(couponIds, "anna")).toBe(requestCount - 1);
  expect(await issuedTo("anna")).toBe(1);

  // A Redis that has lost everything knows of fewer; Postgres refuses the rest.
  const keys = await redis.keys(`${stores.keyPrefix}:*`);
  expect(keys.some((key) => key.includes("{q:daily}:quota:"))).toBe(true);
  await redis.unlink(...keys);
  expect(await rush(couponIds, "anna")).toBe(requestCount);
  expect(await rush(couponIds, "bert")).toBe(requestCount - 1);

  await stop();
  await start(late as string);
  expect(await rush(couponIds, "anna")).toBe(requestCount - 1);
  expect(await issuedTo("anna")).toBe(2);
  expect(await issuedTo("bert")).toBe(1);
});
