import { readFileSync } from "node:fs";
import { admissionOutcomes, placeOutcomes } from "../port.js";
import type { Keys } from "./keys.js";

type KeyName = keyof Keys;

export interface ScriptSpec {
  readonly name: string;
  readonly keys: readonly KeyName[];
  /** Arguments as the script's header names them. */
  readonly args: string;
  readonly outcomes: readonly string[];
}

/** What each script takes and answers. A test holds every header in `lua/` against this table. */
export const scripts = {
  admit: {
    name: "admit",
    keys: ["coupon", "holders", "pending", "quota", "queue", "ended", "hashes"],
    args: "databaseMs clockOffsetMs reservationMs ticketSlack secondMs keepQuotaMs (userCouponId userId requestId ticket patienceMs userHash requestHash)...",
    outcomes: admissionOutcomes,
  },
  settle: {
    name: "settle",
    keys: ["coupon", "holders", "pending", "loading", "late", "quota", "queue", "ended", "hashes"],
    args: "clockOffsetMs hasQuota keepQuotaMs (outcome userCouponId userId requestId detail userHash requestHash)...",
    outcomes: ["SETTLED"],
  },
  loadBegin: {
    name: "load_begin",
    keys: ["loading", "stage", "late"],
    args: "token stepTimeoutMs",
    outcomes: ["LOADING", "BUSY"],
  },
  loadHoldings: {
    name: "load_holdings",
    keys: ["loading", "stage"],
    args: "token stepTimeoutMs buckets",
    outcomes: ["LOADING", "LOST"],
  },
  loadInstall: {
    name: "load_install",
    keys: ["loading", "stage", "late", "coupon", "holders", "pending", "ended", "hashes"],
    args: "token clockOffsetMs keepMs revision startsAtMs expiresAtMs paused deleted exhausted maxPerUser stock maxConcurrent maxPerSecond maxWaitMs quotaPerDay bucketCount updatedAtMs givenBackTotal",
    outcomes: ["INSTALLED", "LOST", "UNHASHED"],
  },
  takePlaces: {
    name: "take_places",
    keys: ["places", "taken"],
    args: "clockOffsetMs reservationMs keepMs (usageId revision)...",
    outcomes: placeOutcomes,
  },
  settlePlaces: {
    name: "settle_places",
    keys: ["places", "taken"],
    args: "(outcome usageId)...",
    outcomes: ["SETTLED"],
  },
  loadPlaces: {
    name: "load_places",
    keys: ["places", "taken"],
    args: "revision remaining keepMs",
    outcomes: ["LOADED", "PRESENT"],
  },
  inspect: {
    name: "inspect",
    keys: ["coupon", "holders", "pending", "places", "taken"],
    args: "clockOffsetMs limit",
    outcomes: ["LOADED", "NOT_LOADED"],
  },
  leave: {
    name: "leave",
    keys: ["coupon", "holders", "pending", "loading", "places", "taken"],
    args: "none",
    outcomes: ["LEFT", "STAYS"],
  },
  listLooks: {
    name: "list_looks",
    keys: ["looks", "registry"],
    args: "clockOffsetMs couponId",
    outcomes: ["LISTED"],
  },
  adoptLooks: {
    name: "adopt_looks",
    keys: ["looks", "registry"],
    args: "clockOffsetMs limit",
    outcomes: ["ADOPTED"],
  },
  claimLooks: {
    name: "claim_looks",
    keys: ["looks"],
    args: "clockOffsetMs leaseMs limit",
    outcomes: ["CLAIMED"],
  },
  endLooks: {
    name: "end_looks",
    keys: ["looks", "registry"],
    args: "clockOffsetMs (couponId claim pauseMs calmLooks)...",
    outcomes: ["ENDED"],
  },
} as const satisfies Record<string, ScriptSpec>;

export type Script = (typeof scripts)[keyof typeof scripts];

/** With the parts that it includes. */
export function sourceOf(script: Script): string {
  return luaFile(script.name).replace(/^-- INCLUDE (\w+)$/gm, (_, part) => luaFile(`parts/${part}`));
}

function luaFile(name: string): string {
  return readFileSync(new URL(`./lua/${name}.lua`, import.meta.url), "utf8");
}

/** The outcome that a script answered, or an error: an answer that the table does not know is a bug. */
export function outcomeOf<S extends Script>(script: S, answer: unknown): S["outcomes"][number] {
  const outcomes: readonly string[] = script.outcomes;
  if (typeof answer === "string" && outcomes.includes(answer)) return answer as S["outcomes"][number];
  throw new Error(`script ${script.name} answered ${JSON.stringify(answer)}`);
}
