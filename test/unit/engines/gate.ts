import { randomUUID } from "node:crypto";
import { vi } from "vitest";
import { GateKeeper } from "../../../src/issuing/gate-keeper.js";
import { MemoryGate } from "../../../src/reservation/memory/memory-gate.js";
import { leastBuckets } from "../../../src/reservation/packed-holdings.js";
import type { Gate, GateFacts, GateRequest, Survey } from "../../../src/reservation/port.js";
import type { IssueStore } from "../../../src/storage/ports/issues.js";
import type { UsageStore } from "../../../src/storage/ports/usages.js";
import { unreported } from "../../support/unreported.js";

const hourMs = 3_600_000;

/** The gate in memory, with a keeper whose Postgres knows nothing: what was dropped stays dropped. */
export function openGate() {
  const gate = new MemoryGate();
  const issues = { readGate: async () => null, readCounts: async () => new Map(), findIssued: async () => new Map() };
  const usages: Pick<UsageStore, "findUsed"> = { findUsed: async () => new Set() };
  const keeper = new GateKeeper(gate, issues as unknown as IssueStore, usages, { info: () => {} }, unreported);
  return { gate, keeper };
}

export async function loadCoupon(gate: Gate, facts: Partial<GateFacts> = {}): Promise<string> {
  const couponId = randomUUID();
  const loading = await gate.beginLoad(couponId);
  await loading?.install({
    revision: 1,
    updatedAt: new Date(0),
    startsAt: new Date(Date.now() - hourMs),
    expiresAt: new Date(Date.now() + hourMs),
    paused: false,
    deleted: false,
    exhausted: false,
    maxPerUser: 1,
    stock: 5,
    givenBackTotal: 0,
    throttle: null,
    quota: null,
    bucketCount: leastBuckets,
    ...facts,
  });
  return couponId;
}

/** What the gate counts of a coupon; undefined: nothing. */
export async function countsOf(gate: Gate, couponId: string) {
  const survey = (await gate.survey(1_000, 1_000)).find((one) => one.couponId === couponId);
  return survey && shortened(survey);
}

function shortened({ loaded, pendingCount, places, takenCount }: Survey) {
  return {
    ...(loaded && { stock: loaded.stock }),
    ...(pendingCount > 0 && { pending: pendingCount }),
    ...(places && { places: places.remaining }),
    ...(takenCount > 0 && { taken: takenCount }),
  };
}

export function requestOf(couponId: string): GateRequest {
  return { couponId, userId: "user", requestId: "", userCouponId: randomUUID() };
}

/** Makes a method of the gate fail from now on. */
export function breakGate(gate: Gate, method: "settle" | "settlePlaces", error: Error): void {
  vi.spyOn(gate, method).mockRejectedValue(error);
}
