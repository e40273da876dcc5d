import type { GateRequest, Survey } from "../port.js";
import { outcomeOf, scripts } from "./scripts.js";

/** What `inspect.lua` answers. */
export type InspectAnswer = [
  ...[string, string, string, number, string[], string, string, number, string[], string],
  ...[string, string],
];

export interface Inspection {
  readonly survey: Survey;
  readonly deadlineInMs: number | null;
}

export function inspectionOf(couponId: string, answer: InspectAnswer): Inspection {
  const [outcome, revision, stock, pendingCount, members, placesRevision, remaining, takenCount, usageIds, ...rest] =
    answer;
  const [leftMs, updatedAtMs, heard] = rest;
  const overdue: GateRequest[] = [];
  for (const member of members) {
    const [userCouponId, userId, requestId] = member.split("\x1f");
    if (userCouponId && userId && requestId !== undefined) overdue.push({ couponId, userCouponId, userId, requestId });
  }
  const loaded = outcomeOf(scripts.inspect, outcome) === "LOADED";
  const survey: Survey = {
    couponId,
    loaded: loaded
      ? {
          revision: Number(revision),
          updatedAt: updatedAtMs === "" ? null : new Date(Number(updatedAtMs)),
          stock: stock === "" ? null : Number(stock),
          // Where its first range ends, see parts/heard.lua.
          givenBackTo: heard === "" ? null : Number(/^0-(\d+)/.exec(heard)?.[1]),
        }
      : null,
    pendingCount,
    overdue,
    places: placesRevision === "" ? null : { revision: Number(placesRevision), remaining: Number(remaining) },
    takenCount,
    overdueUsageIds: usageIds,
  };
  return { survey, deadlineInMs: leftMs === "" ? null : Number(leftMs) };
}
