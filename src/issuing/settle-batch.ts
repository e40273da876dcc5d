import { admissionOutcomes, type Gate, type Settlement } from "../reservation/port.js";
import type { IssueResult } from "../storage/ports/issues.js";
import type { GateKeeper } from "./gate-keeper.js";
import type { QueuedRequest } from "./issuer.js";
import { settleQuietly } from "./settle-quietly.js";

/**
 * Reasons that the gate could have given itself, if its copy of the coupon were up to date. Of quotas it has none: it may
 * know of fewer than were issued, and loading the coupon anew does not change that.
 */
const gateReasons: ReadonlySet<string> = new Set(admissionOutcomes.filter((outcome) => outcome !== "QUOTA_REACHED"));

/** Tells the gate what became of a committed batch. */
export async function settleBatch(
  gate: Gate,
  keeper: Pick<GateKeeper, "pace" | "reload">,
  requests: readonly QueuedRequest[],
  results: readonly IssueResult[],
): Promise<void> {
  keeper.pace.decided(requests);
  const settlements: Settlement[] = [];
  const differing = new Set<string>();
  requests.forEach((request, index) => {
    const result = results[index] as IssueResult;
    if (result.outcome === "ISSUED") {
      settlements.push({ outcome: "CONFIRM", validUntil: result.userCoupon.validUntil, ...request });
    } else if (request.reserved) {
      settlements.push({ outcome: "RELEASE", ...request });
      // Let through here and refused there: the copy is out of date.
      if (result.outcome === "TICKET_NEEDED" || (result.outcome === "REFUSED" && gateReasons.has(result.reason))) {
        differing.add(request.couponId);
      }
    }
  });
  await settleQuietly(settlements, (all) => gate.settle(all));
  for (const couponId of differing) void keeper.reload(couponId);
}
