import type { Admission, Settlement } from "../port.js";
import { scriptBatchSize } from "./batcher.js";
import { outcomeOf, scripts } from "./scripts.js";

/** One outcome of `admit.lua`. */
export function admissionOf(answer: string | undefined): Admission {
  const [first, second, third] = (answer ?? "").split(" ");
  const outcome = outcomeOf(scripts.admit, first);
  if (second === undefined) return { outcome };
  if (outcome === "REPLAY") return { outcome, userCouponId: second };
  if (outcome === "RESERVED") return { outcome, ticket: Number(second) };
  if (outcome === "THROTTLED") return { outcome, waitMs: Number(second), queueMs: Number(third) };
  return { outcome, waitMs: Number(second), ...(third !== undefined && { ticket: Number(third) }) };
}

/** What one script call takes. */
export function* batches<T>(items: readonly T[]): Generator<readonly T[]> {
  for (let at = 0; at < items.length; at += scriptBatchSize) yield items.slice(at, at + scriptBatchSize);
}

/** What `settle.lua` takes as its `detail`. */
export function settledDetail(settlement: Settlement): number | "" {
  if (settlement.outcome === "CONFIRM") return settlement.validUntil?.getTime() ?? 0;
  return settlement.outcome === "RELEASE" ? "" : (settlement.givenBackNo ?? "");
}
