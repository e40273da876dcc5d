import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Redis } from "ioredis";
import { CatalogService } from "../../../gen/coupon/v1/catalog_service_pb.js";
import { IssueCouponRequestSchema } from "../../../gen/coupon/v1/issuance_service_pb.js";
import { saturationCallers } from "../../generator.js";
import { createCoupon, issueMethod } from "../../rows/coupons.js";
import { hold } from "../../rows/use.js";
import { encode } from "../../support/api.js";
import { Calls, closedLoop, openLoop } from "../loops.js";
import type { Weapon } from "../weapon.js";

const connections = 4;
const dayMs = 86_400_000;
const manyUnits = 1_000_000_000n;

/** What a user who has never asked before sends. */
function issueRequest(target: { case: "couponId" | "code"; value: string }): Uint8Array {
  return encode(IssueCouponRequestSchema, { target, userId: `user-${crypto.randomUUID()}`, requestId: "" });
}

/** So many that some are in every query that serves who issues by code. */
const nulPerSecond = 800;

export const nulCode: Weapon = {
  name: "nul-code",
  what: `IssueCoupon by the code "a\\0b", ${nulPerSecond} a second, while others issue by valid codes`,
  async prepare({ api, bystanderCalls }) {
    const { coupon } = await api.call(CatalogService.method.createCoupon, {
      coupon: {
        name: "hostile codes",
        discount: { kind: { case: "percentageBasisPoints", value: 1_000 } },
        expireTime: timestampFromMs(Date.now() + dayMs),
        codeBook: {},
      },
      requestId: crypto.randomUUID(),
    });
    const run = crypto.randomUUID().slice(0, 8);
    const codes = Array.from({ length: bystanderCalls }, (_, index) => `HOSTILE-${run}-${index}`);
    const lines = codes.map((code) => ({ code }));
    const target = { case: "couponId" as const, value: coupon!.id };
    await api.call(CatalogService.method.uploadCodes, { target, lines, requestId: crypto.randomUUID() });
    return {
      bystander: codes.map((value) => ({ method: issueMethod, message: issueRequest({ case: "code", value }) })),
    };
  },
  async fire(field) {
    const calls = await Calls.over(connections, field);
    const message = issueRequest({ case: "code", value: "a\0b" });
    await field.begin();
    await openLoop(field, nulPerSecond, () => calls.send(issueMethod, message));
    calls.close();
  },
};

const unknownPerSecond = 522;

export const unknownCoupons: readonly Weapon[] = [
  {
    name: "unknown-coupons",
    what: `IssueCoupon of ${unknownPerSecond} coupons a second that nobody knows, each another one`,
    async fire(field) {
      const calls = await Calls.over(connections, field);
      await field.begin();
      await openLoop(field, unknownPerSecond, () => calls.send(issueMethod, unknown()));
      calls.close();
    },
  },
  {
    name: "unknown-flood",
    what: `the same by ${saturationCallers} callers, as fast as it can`,
    async fire(field) {
      const calls = await Calls.over(connections, field);
      await field.begin();
      await closedLoop(field, saturationCallers, () => calls.send(issueMethod, unknown()));
      calls.close();
    },
  },
];

function unknown(): Uint8Array {
  return issueRequest({ case: "couponId", value: crypto.randomUUID() });
}

const largeCoupons = 3;
const holdersEach = 100_000;
const largePerSecond = 60;

export const bigLoads: Weapon = {
  name: "big-loads",
  what: `Redis is emptied, then ${largePerSecond} calls a second for ${largeCoupons} coupons of ${holdersEach} holders each`,
  async prepare({ api, sql, bystander, bystanderCalls }) {
    const couponIds: string[] = [];
    for (let count = 0; count < largeCoupons; count += 1) {
      const couponId = await createCoupon(api, manyUnits);
      await hold({ sql }, couponId, holdersEach);
      couponIds.push(couponId);
    }
    return { ammunition: couponIds, bystander: bystander.issues(bystanderCalls) };
  },
  async fire(field) {
    const calls = await Calls.over(connections, field);
    const redis = new Redis(field.redisUrl);
    let next = 0;
    await redis.ping();
    await field.begin();
    await redis.flushall();
    await openLoop(field, largePerSecond, () => {
      const value = String(field.ammunition[next++ % field.ammunition.length]);
      return calls.send(issueMethod, issueRequest({ case: "couponId", value }));
    });
    redis.disconnect();
    calls.close();
  },
};
