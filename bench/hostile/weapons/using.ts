import { CancelUsageRequestSchema, UsageService } from "../../../gen/coupon/v1/usage_service_pb.js";
import { createCoupon } from "../../rows/coupons.js";
import { hold, useRequests } from "../../rows/use.js";
import { encode, pathOf } from "../../support/api.js";
import { Calls, closedLoop } from "../loops.js";
import type { Stage, Weapon } from "../weapon.js";

const { useCoupons, cancelUsage } = UsageService.method;
const callers = 24;
const connections = 4;
/** More than can be used while the reference is measured. */
const heldCount = 12_000;
const manyUnits = 1_000_000_000n;

/** Uses that are accepted, by as many callers: what the rate of the weapon is compared with. */
async function acceptedUses({ api, sql, rateOf }: Stage) {
  const couponId = await createCoupon(api, manyUnits);
  const userCouponIds = await hold({ sql }, couponId, heldCount);
  const referencePerSecond = await rateOf(useCoupons, useRequests(userCouponIds), callers);
  const usages = await sql<{ id: string; userId: string; userCouponId: string }[]>`
    SELECT id, user_id AS "userId", user_coupon_id AS "userCouponId" FROM usages WHERE coupon_id = ${couponId}`;
  return { referencePerSecond, usages };
}

export const plainUses: Weapon = {
  name: "accepted-uses",
  what: `no weapon: UseCoupons, accepted, by ${callers} callers, beside which the next two are to be seen`,
  async prepare({ api, sql }) {
    const couponId = await createCoupon(api, manyUnits);
    return { ammunition: [...useRequests(await hold({ sql }, couponId, heldCount))] };
  },
  fire: (field) => fireAll(field, pathOf(useCoupons)),
};

export const refusedUses: Weapon = {
  name: "refused-uses",
  what: `UseCoupons of what is used up, with new request ids, by ${callers} callers`,
  async prepare(stage) {
    const { referencePerSecond, usages } = await acceptedUses(stage);
    const used = usages.map(({ userCouponId }) => userCouponId);
    return { referencePerSecond, ammunition: [...useRequests(used)] };
  },
  fire: (field) => fireAll(field, pathOf(useCoupons)),
};

export const cancelledUsages: Weapon = {
  name: "cancel-usage",
  what: `CancelUsage of one usage after the other, by ${callers} callers, while others read coupons`,
  async prepare(stage) {
    const { referencePerSecond, usages } = await acceptedUses(stage);
    const ammunition = usages.map(({ id, userId }) =>
      encode(CancelUsageRequestSchema, { userId, usageId: id, requestId: crypto.randomUUID() }),
    );
    return { referencePerSecond, ammunition, bystander: stage.bystander.coupons(stage.bystanderCalls) };
  },
  fire: (field) => fireAll(field, pathOf(cancelUsage)),
};

/** Each message once, by so many callers. */
async function fireAll(field: Parameters<Weapon["fire"]>[0], method: string): Promise<void> {
  const calls = await Calls.over(connections, field);
  const messages = field.ammunition as readonly Uint8Array[];
  let next = 0;
  await field.begin();
  await closedLoop(field, callers, () => {
    const message = messages[next++];
    return message && calls.send(method, message);
  });
  calls.close();
}
