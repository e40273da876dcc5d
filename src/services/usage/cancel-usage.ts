import { create } from "@bufbuild/protobuf";
import {
  type CancelUsageRequest,
  CancelUsageRequestSchema,
  CancelUsageResponseSchema,
} from "../../../gen/coupon/v1/usage_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { Refusal, requestIdReused } from "../../domain/refusal.js";
import { newId } from "../../platform/new-id.js";
import type { CancelAsk, CancelOutcome } from "../../storage/ports.js";
import type { GateKeeper } from "../issuance/gate-keeper.js";
import { requestKey, usageMessage } from "../message.js";
import type { Queue } from "./checkout.js";

export function cancelUsage(cancels: Queue<CancelAsk, CancelOutcome>) {
  return async (request: CancelUsageRequest, { deadlineMs }: CallContext) => {
    const { userId, usageId } = request;
    // Without a request id the call still needs a name, for its own batch may be sent twice.
    const key = requestKey("CancelUsage", CancelUsageRequestSchema, request) ?? {
      requestId: newId(),
      inputHash: new Uint8Array(),
    };
    const outcome = await cancels.submit({ userId, usageId: usageId.toLowerCase(), request: key }, deadlineMs);
    if (outcome.kind === "CANCELLED") {
      return create(CancelUsageResponseSchema, { usage: usageMessage(outcome.usage) });
    }
    return outcome.reason === "REQUEST_ID_REUSED" ? requestIdReused() : new Refusal(outcome.reason);
  };
}

/** What never goes into one batch of cancels. */
export function keysOfCancel({ usageId, request }: CancelAsk): string[] {
  return [`u ${usageId}`, `r ${request.requestId}`];
}

/** Tells the reservation layer of the places that a committed batch has given back to all. */
export async function settleCancels(keeper: GateKeeper, outcomes: readonly CancelOutcome[]): Promise<void> {
  const freed = outcomes.flatMap((one) => (one.kind === "CANCELLED" && one.freed ? [one.usage.couponId] : []));
  for (const couponId of new Set(freed)) await keeper.forget(couponId);
}
