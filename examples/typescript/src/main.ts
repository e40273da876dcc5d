/** The life of a coupon with the TypeScript client: create, issue, lock, use, cancel, and two refusals. */
import assert from "node:assert/strict";
import {
  createCouponClient,
  formatMoney,
  money,
  newRequestId,
  type Refusal,
  refusalOf,
  timestampDate,
  timestampFromDate,
} from "@coupon-service/client";

const monthMs = 30 * 86_400_000;
const apiKey = process.env.COUPON_KEY;

const client = createCouponClient({
  // Over a network: https://...
  baseUrl: `http://${process.env.COUPON_TARGET ?? "localhost:50051"}`,
  // For a call with all its tries: the client repeats one that was turned away or lost. That is safe because of the request ids.
  timeoutMs: 5_000,
  ...(apiKey && { credentials: { apiKey } }),
});

/** Makes a call that is refused. What is no refusal came from the way there, and is thrown: nobody knows whether that call took effect. */
async function refused(call: Promise<unknown>): Promise<Refusal> {
  const error: unknown = await call.then(
    () => new Error("the call should have been refused"),
    (reason) => reason,
  );
  const refusal = refusalOf(error);
  if (!refusal) throw error;
  return refusal;
}

function say(step: string, what: string): void {
  process.stdout.write(`${step.padEnd(9)} ${what}\n`);
}

try {
  // A call without a request id is given one by the client. That protects from what happens on the way; a program that may
  // die and make the call again makes the id itself, and stores it first.
  const { coupon } = await client.catalog.createCoupon({
    coupon: {
      name: "Ten dollars off",
      discount: { kind: { case: "fixedAmount", value: money("10.00", "USD") } },
      expireTime: timestampFromDate(new Date(Date.now() + monthMs)),
      quantity: 1n,
    },
  });
  assert(coupon);
  say("created", coupon.id);

  // A request id belongs to one intent: "give Ann one of these". Whoever repeats the call gets the same user coupon.
  const target = { case: "couponId", value: coupon.id } as const;
  const issueToAnn = { target, userId: "ann", requestId: newRequestId() };
  const { userCoupon } = await client.issuance.issueCoupon(issueToAnn);
  assert(userCoupon);
  say("issued", userCoupon.id);
  const again = await client.issuance.issueCoupon(issueToAnn);
  assert(again.replayed && again.userCoupon?.id === userCoupon.id);
  say("repeated", "the same one");

  // There was one only. A program looks at the reason; messages are for people.
  const soldOut = await refused(client.issuance.issueCoupon({ target, userId: "bob" }));
  assert.equal(soldOut.reason, "SOLD_OUT");
  say("refused", soldOut.reason);

  // Of bad input each wrong field is named.
  const invalid = await refused(client.issuance.issueCoupon({ target }));
  assert.equal(invalid.reason, "INVALID_FIELD");
  const [violation] = invalid.fieldViolations;
  assert.equal(violation?.field, "user_id");
  say("refused", `${invalid.reason}, ${violation.field} ${violation.description}`);

  // While Ann pays, nobody else can use her coupon: only who names the lock's version can.
  const choice = { target: { case: "userCouponId", value: userCoupon.id } } as const;
  const order = { userId: "ann", productId: "shoes", orderId: "order-1", orderAmount: money("80.00", "USD") };
  const { locks } = await client.usage.lockCoupons({ ...order, coupons: [choice] });
  const [lock] = locks;
  assert(lock?.expireTime);
  say("locked", `until ${timestampDate(lock.expireTime).toISOString()}`);

  const used = await client.usage.useCoupons({ ...order, coupons: [{ ...choice, lockVersion: lock.lockVersion }] });
  const [usage] = used.usages;
  assert(usage && used.finalAmount);
  assert.equal(used.finalAmount.minorUnits, 70_00n);
  say("used", `${formatMoney(used.finalAmount)} are left to pay`);

  const cancelled = await client.usage.cancelUsage({ userId: "ann", usageId: usage.id });
  assert(cancelled.usage?.cancelTime);
  say("cancelled", cancelled.usage.id);
} finally {
  client.close();
}
