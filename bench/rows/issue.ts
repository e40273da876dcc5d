import type { Measurement } from "../generator.js";
import { expectOnly, type Row, type RowContext } from "../row.js";
import { createCoupon, issueMethod, issueRequests } from "./coupons.js";

/** More than any run can issue. */
const quantity = 1_000_000_000n;

export const issue: Row = {
  name: "issue",
  title: "IssueCoupon, accepted: each one durable in Postgres",
  async prepare(context) {
    const { couponId, ...run } = await prepareIssuing(context);
    return {
      ...run,
      async verify(measured) {
        expectOnly(measured, "OK");
        await expectRows(context, couponId, measured);
      },
    };
  },
};

export async function prepareIssuing({ api, maxCalls }: RowContext) {
  const couponId = await createCoupon(api, quantity);
  return { couponId, method: issueMethod, messages: issueRequests(couponId, maxCalls) };
}

/** Every OK must be a row; rows beyond them are calls that were sent and not measured. */
export async function expectRows({ sql }: RowContext, couponId: string, measured: Measurement): Promise<void> {
  const [found] = await sql`SELECT count(*)::int AS rows FROM user_coupons WHERE coupon_id = ${couponId}`;
  const rows: number = found!.rows;
  if (rows >= measured.ok && rows <= measured.sent) return;
  throw new Error(`${measured.ok} of ${measured.sent} calls were told OK, but Postgres has ${rows} rows.`);
}
