import type { Admission, GateFacts, Holding } from "../port.js";
import { scriptBatchSize } from "./batcher.js";
import { outcomeOf, scripts } from "./scripts.js";

/** One outcome of `admit.lua`. */
export function admissionOf(answer: string | undefined): Admission {
  const [first, second, third] = (answer ?? "").split(" ");
  const outcome = outcomeOf(scripts.admit, first);
  if (second === undefined) return { outcome };
  if (outcome === "REPLAY") return { outcome, userCouponId: second };
  if (outcome === "RESERVED") return { outcome, ticket: Number(second) };
  return { outcome, waitMs: Number(second), ...(third !== undefined && { ticket: Number(third) }) };
}

/** What one script call takes. */
export function* batches<T>(items: readonly T[]): Generator<readonly T[]> {
  for (let at = 0; at < items.length; at += scriptBatchSize) yield items.slice(at, at + scriptBatchSize);
}

/** Milliseconds since 1970; 0: no time. */
export function millis(time: Date | null): number {
  return time ? time.getTime() : 0;
}

/** As `load_holdings.lua` takes them: entries of one user in one field. */
export function holdingFields(holdings: readonly Holding[]): string[] {
  const entries = new Map<string, string>();
  for (const { userId, userCouponId, requestId, validUntil } of holdings) {
    const entry = `${userCouponId}\x1f${requestId}\x1fC\x1f${millis(validUntil)}\x1e`;
    entries.set(userId, (entries.get(userId) ?? "") + entry);
  }
  return [...entries].flat();
}

/** As `load_install.lua` takes them, from the revision on. */
export function factFields(facts: GateFacts): (string | number)[] {
  return [
    facts.revision,
    facts.startsAt.getTime(),
    facts.expiresAt.getTime(),
    facts.paused ? 1 : 0,
    facts.deleted ? 1 : 0,
    facts.exhausted ? 1 : 0,
    facts.maxPerUser,
    facts.stock ?? "",
    facts.throttle?.maxConcurrent ?? "",
    facts.throttle?.maxPerSecond ?? "",
    facts.throttle?.maxWaitMs ?? "",
    facts.quota?.maxPerDay ?? "",
  ];
}
