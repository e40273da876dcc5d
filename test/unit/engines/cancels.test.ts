import { expect, test } from "vitest";
import type { Usage } from "../../../src/domain/usage.js";
import type { CancelRequest, CancelResult } from "../../../src/storage/ports/usages.js";
import { openCancels } from "../../../src/using/cancels.js";
import { FailingQueues } from "./failing-queues.js";
import { countsOf, loadCoupon, openGate } from "./gate.js";

const farMs = Date.now() + 3_600_000;
const request: CancelRequest = {
  userId: "user",
  usageId: "usage",
  request: { requestId: "request", inputHash: new Uint8Array() },
};

function open(decide: () => CancelResult) {
  const opened = openGate();
  const queues = new FailingQueues();
  const sent: boolean[] = [];
  const store = {
    couponOf: async () => undefined,
    cancelBatch: async (requests: readonly CancelRequest[], again: boolean) => {
      sent.push(again);
      return requests.map(decide);
    },
  };
  return { ...opened, queues, sent, cancels: openCancels(queues.open, store, opened.keeper) };
}
const cancelled = (couponId: string, freed: boolean): CancelResult => ({
  outcome: "CANCELLED",
  usage: { couponId } as Usage,
  freed,
});

test.for([
  ["a place that a cancelled use has freed is told to the gate before the caller hears of it", true, undefined],
  ["a place that stays with its user coupon is none of the gate's business", false, { stock: 5, places: 0 }],
] as const)("%s", async ([_, freed, counts]) => {
  let couponId = "";
  const { cancels, gate } = open(() => cancelled(couponId, freed));
  couponId = await loadCoupon(gate);
  await gate.loadPlaces(couponId, { revision: 1, remaining: 0 });
  await cancels.submit(request, farMs);
  expect(await countsOf(gate, couponId)).toEqual(counts);
});

test("a refused cancel tells the gate nothing", async () => {
  const { cancels, gate } = open(() => ({ outcome: "REFUSED", reason: "USAGE_ALREADY_CANCELLED" }));
  const couponId = await loadCoupon(gate);
  await cancels.submit(request, farMs);
  expect(await countsOf(gate, couponId)).toEqual({ stock: 5 });
});

test("a batch that is sent again says so to the store", async () => {
  const { queues, sent } = open(() => cancelled("coupon", false));
  const { commit } = queues.optionsOf<CancelRequest, CancelResult>("cancel");
  await commit([request], false);
  await commit([request], true);
  expect(sent).toEqual([false, true]);
});
