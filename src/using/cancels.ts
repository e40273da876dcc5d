import type { OpenQueue, Queue } from "../batching/queues.js";
import type { GateKeeper } from "../issuing/gate-keeper.js";
import type { CancelRequest, CancelResult, UsageStore } from "../storage/ports/usages.js";

export type Cancels = Queue<CancelRequest, CancelResult>;

/** The queue of the uses that are to be cancelled. Cancels are few: no connection is kept for them. */
export function openCancels(
  openQueue: OpenQueue,
  store: Pick<UsageStore, "cancelBatch" | "couponOf">,
  keeper: Pick<GateKeeper, "invalidate">,
): Cancels {
  const queue = openQueue<CancelRequest, CancelResult>("cancel", {
    commit: (requests, again) => store.cancelBatch(requests, again),
    afterCommit: (_, results) => settleCancels(keeper, results),
    keysOf: keysOfCancel,
    couponOf: ({ couponId = "" }) => couponId,
  });
  return {
    submit: async (request, deadlineMs, trace) =>
      queue.submit({ couponId: await store.couponOf(request, deadlineMs), ...request }, deadlineMs, trace),
  };
}

/** What never goes into one batch of cancels. */
export function keysOfCancel({ usageId, userCouponId, request }: CancelRequest): string[] {
  return [usageId === undefined ? `c ${userCouponId}` : `u ${usageId}`, `r ${request.requestId}`];
}

/** Tells the gate of the places that a committed batch has given back to all. */
async function settleCancels(keeper: Pick<GateKeeper, "invalidate">, results: readonly CancelResult[]): Promise<void> {
  const freed = results.flatMap((one) => (one.outcome === "CANCELLED" && one.freed ? [one.usage.couponId] : []));
  for (const couponId of new Set(freed)) await keeper.invalidate(couponId);
}
