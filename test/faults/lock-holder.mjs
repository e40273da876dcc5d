/**
 * A checkout as a process of its own, so that it can be stopped between locking and using. It locks every user coupon
 * that its first line of input names, says so, waits for the second line, and uses them with the locks it was granted.
 */
import { createInterface } from "node:readline";

const inFlight = 50;
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const next = async () => (await lines.next()).value;
const say = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);

const { url, holdings } = JSON.parse(await next());

async function call(method, request) {
  const response = await fetch(`${url}/coupon.v1.UsageService/${method}`, {
    method: "POST",
    headers: { "content-type": "application/json", "connect-timeout-ms": "20000" },
    body: JSON.stringify(request),
  });
  return await response.json();
}

async function each(act) {
  const answers = [];
  let at = 0;
  const worker = async () => {
    for (let index = at++; index < holdings.length; index = at++) answers[index] = await act(holdings[index], index);
  };
  await Promise.all(Array.from({ length: inFlight }, worker));
  return answers;
}

const locks = await each(async ({ userId, userCouponId }) => {
  const answer = await call("LockCoupons", { userId, coupons: [{ userCouponId }], orderId: "stopped" });
  return answer.locks[0];
});
say({ locks });
await next();
const outcomes = await each(async ({ userId, userCouponId }, index) => {
  const answer = await call("UseCoupons", {
    userId,
    coupons: [{ userCouponId, lockVersion: locks[index].lockVersion }],
    productId: "ride",
    orderId: "stopped",
    orderAmount: { currencyCode: "USD", minorUnits: "1000" },
  });
  return answer.usages ? "OK" : answer.details[0].debug.reason;
});
say({ outcomes });
process.exit(0);
