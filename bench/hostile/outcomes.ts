import { status } from "@grpc/grpc-js";
import type { Failure } from "../load/failure.js";

/** Outcomes of calls that did not end with a status of the service. */
export const unanswered = "UNANSWERED";
/** The connection was closed, or the stream was reset: an answer that a weapon may get, and a bystander may not. */
export const cut = "CUT";
/** What clients show as INTERNAL. */
export const resetInternal = "RESET_INTERNAL_ERROR";

type Outcomes = Readonly<Record<string, number>>;

/** How a call over grpc-js ended. */
export function outcomeOf(failure: Failure | undefined): string {
  if (!failure) return "OK";
  if (failure.isAnswer) return failure.reason;
  if (failure.code === status.DEADLINE_EXCEEDED) return unanswered;
  return failure.code === status.UNAVAILABLE ? cut : failure.reason;
}

export function internalIn(outcomes: Outcomes): number {
  return sum(outcomes, ["INTERNAL", "UNKNOWN", resetInternal]);
}

export function sum(outcomes: Outcomes, names: readonly string[]): number {
  return names.reduce((total, name) => total + (outcomes[name] ?? 0), 0);
}

export function total(outcomes: Outcomes): number {
  return sum(outcomes, Object.keys(outcomes));
}

/** "OK 12, CUT 3": the most frequent first. */
export function spelled(outcomes: Outcomes): string {
  return Object.entries(outcomes)
    .sort(([, a], [, b]) => b - a)
    .map(([outcome, count]) => `${outcome} ${count}`)
    .join(", ");
}
