import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { CatalogService } from "../../../gen/coupon/v1/catalog_service_pb.js";
import { ListUserCouponsRequestSchema } from "../../../gen/coupon/v1/user_coupon_service_pb.js";
import { newId } from "../../../src/platform/new-id.js";
import { encode } from "../../support/api.js";
import { listMethod } from "../bystander.js";
import { Calls, closedLoop } from "../loops.js";
import type { Weapon } from "../weapon.js";

const callers = 8;
const connections = 2;
const couponCount = 1_000;
/** Of each coupon: the most that one user may hold. */
const heldOfEach = 100;
const dayMs = 86_400_000;

export const bigList: Weapon = {
  name: "big-list",
  what: `ListUserCoupons, page size 1, of a user with ${couponCount * heldOfEach} user coupons, by ${callers} callers, while others list theirs`,
  async prepare({ api, sql, bystander, bystanderCalls }) {
    const userId = `collector-${crypto.randomUUID()}`;
    const { outcomes } = await api.call(CatalogService.method.batchCreateCoupons, {
      coupons: Array.from({ length: couponCount }, () => ({
        name: "one of many",
        discount: { kind: { case: "percentageBasisPoints" as const, value: 1_000 } },
        maxPerUser: heldOfEach,
        expireTime: timestampFromMs(Date.now() + dayMs),
      })),
      requestId: crypto.randomUUID(),
    });
    for (const { outcome } of outcomes) {
      if (outcome.case !== "coupon") throw new Error("One of the many coupons was not created.");
      const ids = Array.from({ length: heldOfEach }, () => newId(Date.now()));
      // Past the service: issuing is not what is measured.
      await sql`
        INSERT INTO user_coupons (id, coupon_id, user_id, slot, issued_at)
        SELECT id, ${outcome.value.id}, ${userId}, slot, now()
        FROM unnest(${ids}::uuid[]) WITH ORDINALITY AS held (id, slot)`;
    }
    await sql`UPDATE coupons SET issued_count = ${heldOfEach} WHERE name = 'one of many'`;
    await sql`VACUUM ANALYZE user_coupons`;
    await sql`CHECKPOINT`;
    return { ammunition: [userId], bystander: bystander.lists(bystanderCalls) };
  },
  async fire(field) {
    const calls = await Calls.over(connections, field);
    const message = encode(ListUserCouponsRequestSchema, { userId: String(field.ammunition[0]), pageSize: 1 });
    await field.begin();
    await closedLoop(field, callers, () => calls.send(listMethod, message));
    calls.close();
  },
};
