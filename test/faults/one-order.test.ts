import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { afterAll, expect, test } from "vitest";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { UsageService } from "../../gen/coupon/v1/usage_service_pb.js";
import { CallError, type GrpcClient, letIn } from "../support/clients.js";
import { twoReplicas } from "../support/service.js";
import { eachOf, sized } from "./checkout.js";
import { issueToAll, wants } from "./crowd.js";

const longMs = 600_000;
const amount = 1_000;

const { sql, clients } = await twoReplicas(afterAll);

interface Kind {
  readonly name: string;
  /** The two coupons of which each order uses one in each of its two calls. */
  readonly coupons: readonly { readonly basisPoints?: number; readonly fixed?: number; readonly stackable: boolean }[];
  /** What the calls of one order may be told, and what may be left to pay in the end. */
  readonly outcomes: readonly string[];
  readonly finals: readonly number[];
}

const kinds: Kind[] = [
  {
    name: "one that stands alone, and another one",
    coupons: [
      { basisPoints: 1_000, stackable: false },
      { basisPoints: 1_000, stackable: true },
    ],
    outcomes: ["NOT_STACKABLE OK"],
    finals: [900],
  },
  {
    name: "a half and a fixed amount",
    coupons: [
      { basisPoints: 5_000, stackable: true },
      { fixed: 700, stackable: true },
    ],
    outcomes: ["OK OK"],
    // 500 of 1,000 and what is left; or 700 of 1,000 and a half of 300.
    finals: [0, 150],
  },
  {
    name: "all of it, twice",
    coupons: [
      { basisPoints: 10_000, stackable: true },
      { basisPoints: 10_000, stackable: true },
    ],
    outcomes: ["OK OK"],
    finals: [0],
  },
];

async function newCoupon({ basisPoints, fixed = 0, stackable }: Kind["coupons"][number]): Promise<string> {
  const kind =
    basisPoints === undefined
      ? { case: "fixedAmount" as const, value: { currencyCode: "USD", minorUnits: BigInt(fixed) } }
      : { case: "percentageBasisPoints" as const, value: basisPoints };
  const { coupon } = await clients[0].call(CatalogService.method.createCoupon, {
    coupon: {
      name: "of an order",
      discount: { kind },
      stackable,
      startTime: timestampFromMs(Date.now() - 60_000),
      expireTime: timestampFromMs(Date.now() + 3_600_000),
    },
  });
  return coupon?.id as string;
}

/** What a call was told: OK and what is left to pay, or the reason of the refusal. */
async function use(client: GrpcClient, userId: string, userCouponId: string) {
  const request = {
    ...{
      userId,
      productId: "ride",
      orderId: "the order",
      orderAmount: { currencyCode: "USD", minorUnits: BigInt(amount) },
    },
    coupons: [{ target: { case: "userCouponId" as const, value: userCouponId } }],
  };
  try {
    const { finalAmount } = await letIn(() =>
      client.call(UsageService.method.useCoupons, request, { timeoutMs: 20_000 }),
    );
    return { outcome: "OK", final: Number(finalAmount?.minorUnits) };
  } catch (error) {
    if (!(error instanceof CallError)) throw error;
    return { outcome: String(error.reason), final: amount };
  }
}

test.for(kinds)(
  "orders that are used in two calls at once, through two replicas: $name",
  {
    timeout: longMs,
  },
  async ({ coupons, outcomes, finals }) => {
    const orders = sized(60, 5_000);
    const couponIds = [await newCoupon(coupons[0]!), await newCoupon(coupons[1]!)] as const;
    const lists = couponIds.map((couponId) => wants(couponId, `buyer of ${couponIds[0]}`, orders));
    const held = await Promise.all(lists.map((list) => issueToAll(list, { clients, inFlight: 50 })));
    await eachOf(lists[0]!, 30, async ({ userId }, n) => {
      const told = await Promise.all(
        couponIds.map((couponId, index) => {
          const userCouponId = held[index]?.acknowledged.get(`${couponId} ${userId}`) as string;
          return use(clients[(n + index) % 2] as GrpcClient, userId, userCouponId);
        }),
      );
      expect(outcomes).toContain(
        told
          .map(({ outcome }) => outcome)
          .sort()
          .join(" "),
      );
      // The later of the two was told what is left after both.
      expect(finals).toContain(Math.min(...told.map(({ final }) => final)));
    });
    const stored = await sql`
    SELECT s.user_id, count(*)::int AS uses, bool_and(c.stackable) AS stackable, sum(s.discount_amount)::int AS discounts
    FROM usages s JOIN coupons c ON c.id = s.coupon_id
    WHERE s.coupon_id = ANY (${[...couponIds]}::uuid[]) AND s.cancelled_at IS NULL GROUP BY s.user_id`;
    expect(stored.length).toBe(orders);
    for (const { uses, stackable, discounts } of stored) {
      expect(discounts).toBeLessThanOrEqual(amount);
      expect(finals).toContain(amount - discounts);
      if (!stackable) expect(uses).toBe(1);
    }
  },
);
