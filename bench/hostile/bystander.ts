import { CatalogService, GetCouponRequestSchema } from "../../gen/coupon/v1/catalog_service_pb.js";
import { IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import { ListUserCouponsRequestSchema, UserCouponService } from "../../gen/coupon/v1/user_coupon_service_pb.js";
import type { LatencySummary } from "../load/latency.js";
import { createCoupon, issueMethod, issueRequests } from "../rows/coupons.js";
import { type Api, encode, pathOf } from "../support/api.js";
import type { BystanderCall } from "./weapon.js";

/** What an honest caller is told to do: calls in turn, at a fixed rate, whatever becomes of them. */
export interface BystanderJob {
  readonly target: string;
  readonly calls: readonly BystanderCall[];
  readonly perSecond: number;
  /** Sent first and not counted. */
  readonly warmUpCalls: number;
  /** Sent next, before the weapon is fired. */
  readonly quietCalls: number;
  /** Not counted either: they may not be answered when it is fired. The others are sent while it is. */
  readonly gapCalls: number;
  readonly timeoutMs: number;
}

/** Said when the first call is sent, on the clock of `Date.now()`: only the process itself knows when it is ready. */
export interface BystanderStart {
  readonly startedAtMs: number;
}

export interface BystanderPhase extends LatencySummary {
  readonly outcomes: Readonly<Record<string, number>>;
}

export interface BystanderResult {
  readonly quiet: BystanderPhase;
  readonly during: BystanderPhase;
  /** How often health did not say SERVING. */
  readonly notServing: number;
}

export const getCouponMethod = pathOf(CatalogService.method.getCoupon);
export const listMethod = pathOf(UserCouponService.method.listUserCoupons);

const holders = 40;
const heldByEach = 3;
const quantity = 1_000_000_000n;

/** A small world of the bystander's own: users with a few coupons each. */
export class BystanderWorld {
  private constructor(
    private readonly couponId: string,
    private readonly userIds: readonly string[],
  ) {}

  static async create(api: Api): Promise<BystanderWorld> {
    const couponIds = await Promise.all(Array.from({ length: heldByEach }, () => createCoupon(api, quantity)));
    const userIds = Array.from({ length: holders }, (_, index) => `bystander-${index}`);
    for (const couponId of couponIds) {
      const target = { case: "couponId" as const, value: couponId };
      await Promise.all(userIds.map((userId) => api.call(IssuanceService.method.issueCoupon, { target, userId })));
    }
    return new BystanderWorld(couponIds[0]!, userIds);
  }

  /** Lists, issues and coupons in turn. */
  ordinary(count: number): BystanderCall[] {
    const each = Math.ceil(count / 3);
    const kinds = [this.lists(each), this.issues(each), this.coupons(each)];
    return Array.from({ length: count }, (_, index) => kinds[index % 3]![Math.floor(index / 3)]!);
  }

  lists(count: number): BystanderCall[] {
    return Array.from({ length: count }, (_, index) => {
      const userId = this.userIds[index % holders]!;
      return { method: listMethod, message: encode(ListUserCouponsRequestSchema, { userId }) };
    });
  }

  issues(count: number): BystanderCall[] {
    return [...issueRequests(this.couponId, count)].map((message) => ({ method: issueMethod, message }));
  }

  coupons(count: number): BystanderCall[] {
    const message = encode(GetCouponRequestSchema, { couponId: this.couponId });
    return Array.from({ length: count }, () => ({ method: getCouponMethod, message }));
  }
}
