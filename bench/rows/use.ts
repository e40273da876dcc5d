import { UsageService, UseCouponsRequestSchema } from "../../gen/coupon/v1/usage_service_pb.js";
import { newId } from "../../src/platform/new-id.js";
import { expectOnly, type Row, type RowContext } from "../row.js";
import { encode, pathOf } from "../support/api.js";
import { createCoupon } from "./coupons.js";

/** User coupons inserted in one statement. */
const insertSize = 20_000;

export const use: Row = {
  name: "use",
  title: "UseCoupons, accepted: each one durable in Postgres",
  async prepare(context) {
    const { api, sql, maxCalls } = context;
    const couponId = await createCoupon(api, 1_000_000_000n);
    const userCouponIds = await hold(context, couponId, maxCalls);
    return {
      method: pathOf(UsageService.method.useCoupons),
      messages: useRequests(userCouponIds),
      async verify(measured) {
        expectOnly(measured, "OK");
        const [found] = await sql`
          SELECT count(*)::int AS rows, (SELECT used_count::int FROM coupons WHERE id = ${couponId}) AS used
          FROM usages WHERE coupon_id = ${couponId}`;
        if (found!.rows < measured.ok || found!.rows > measured.sent || found!.used !== found!.rows) {
          throw new Error(`${measured.ok} of ${measured.sent} were told OK; Postgres has ${JSON.stringify(found)}.`);
        }
      },
    };
  },
};

/** Gives each of `count` users one user coupon, past the service: issuing is not what this row measures. */
export async function hold({ sql }: Pick<RowContext, "sql">, couponId: string, count: number): Promise<string[]> {
  const ids: string[] = [];
  while (ids.length < count) {
    const some = Array.from({ length: Math.min(insertSize, count - ids.length) }, () => newId(Date.now()));
    await sql`
      INSERT INTO user_coupons (id, coupon_id, user_id, slot, issued_at)
      SELECT id, ${couponId}, 'user-' || id, 1, now() FROM unnest(${some}::uuid[]) AS id`;
    ids.push(...some);
  }
  await sql`UPDATE coupons SET issued_count = ${count} WHERE id = ${couponId}`;
  await sql`VACUUM ANALYZE user_coupons`;
  // What was written here is on disk before the run, which would else wait for it.
  await sql`CHECKPOINT`;
  return ids;
}

/** Each use is of another user, order and product, and has a request id of its own. */
export function* useRequests(userCouponIds: readonly string[]): Generator<Uint8Array> {
  for (const userCouponId of userCouponIds) {
    yield encode(UseCouponsRequestSchema, {
      userId: `user-${userCouponId}`,
      coupons: [{ target: { case: "userCouponId", value: userCouponId } }],
      productId: `product-${userCouponId.slice(-3)}`,
      orderId: `order-${crypto.randomUUID()}`,
      orderAmount: { currencyCode: "USD", minorUnits: 1_999n },
      requestId: crypto.randomUUID(),
    });
  }
}
