import { create } from "@bufbuild/protobuf";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { ErrorReason } from "../../gen/coupon/v1/error_reason_pb.js";
import { BatchIssueCouponsRequestSchema } from "../../gen/coupon/v1/issuance_service_pb.js";
import { DeadlinePassed, Overloaded, Refusal, StoreUnavailable } from "../../src/domain/refusal.js";
import type { Issued } from "../../src/issuing/issuer.js";
import { batchIssueCoupons, userRequestId } from "../../src/services/issuance/batch-issue-coupons.js";
import { explain } from "../../src/transport/error-table.js";
import { callContext } from "../support/call-context.js";
import { followDate } from "../support/steady-clock.js";

const couponId = "0192f0c1-7e6a-7bcd-8123-456789abcdef";

function issuedTo(userId: string): Issued {
  const at = new Date();
  const userCoupon = {
    id: couponId,
    couponId,
    userId,
    issuedAt: at,
    validUntil: null,
    maxUses: 1,
    useCount: 0,
    placeCount: 0,
    lockedUntil: null,
    claimUntil: null,
    releasedAt: null,
    code: null,
    discount: null,
    labels: null,
  };
  return { userCoupon, expiresAt: at, status: "READY", replayed: false };
}

async function outcomesOf(issue: (userId: string) => Promise<Issued | Refusal>, userIds: string[], leftMs = 5_000) {
  const faults: unknown[] = [];
  const handler = batchIssueCoupons({ issue: (request) => issue(request.userId) }, explain, (error) =>
    faults.push(error),
  );
  const request = create(BatchIssueCouponsRequestSchema, { couponId, userIds });
  const answer = await handler(request, callContext(Date.now() + leftMs));
  if (answer instanceof Refusal) throw new Error(answer.reason);
  const told = answer.outcomes.map(({ userId, outcome: { case: what, value } }) =>
    what === "error" ? `${userId} ${ErrorReason[value.reason]}: ${value.message}` : `${userId} ${what}`,
  );
  return { told, faults };
}

test("an exception is the outcome of its own user; only a bug is reported", async () => {
  const bug = new TypeError("a bug");
  const thrown: Record<string, unknown> = {
    store: new StoreUnavailable("postgres: 57P01"),
    late: new DeadlinePassed(),
    busy: new Overloaded(),
    bug,
  };
  const issue = async (userId: string) => {
    if (thrown[userId]) throw thrown[userId];
    return userId === "sold" ? new Refusal("SOLD_OUT") : issuedTo(userId);
  };
  const { told, faults } = await outcomesOf(issue, ["a", "store", "late", "busy", "bug", "sold", "z"]);
  expect(told).toEqual([
    "a userCoupon",
    "store STORE_UNAVAILABLE: a store did not answer",
    "late DEADLINE_EXCEEDED: the deadline has passed",
    "busy OVERLOADED: the server has too much to do; nothing was done",
    "bug INTERNAL: a fault of the server",
    "sold SOLD_OUT: the whole quantity has been issued",
    "z userCoupon",
  ]);
  expect(faults).toEqual([bug]);
});

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["Date", "setTimeout", "clearTimeout"] });
  return followDate();
});
afterEach(() => void vi.useRealTimers());

test("one user who gets no answer does not keep the others from theirs", async () => {
  const issue = (userId: string) =>
    userId === "b" ? new Promise<Issued>(() => {}) : Promise.resolve(issuedTo(userId));
  let answered = false;
  const answer = outcomesOf(issue, ["a", "b", "c"], 400).finally(() => {
    answered = true;
  });
  // Of the time that is left, a quarter is kept for the answer.
  await vi.advanceTimersByTimeAsync(299);
  expect(answered).toBe(false);
  await vi.advanceTimersByTimeAsync(1);
  expect(answered).toBe(true);
  const { told } = await answer;
  expect(told).toEqual(["a userCoupon", "b DEADLINE_EXCEEDED: the deadline has passed", "c userCoupon"]);
});

test("no more users at once than one commit has rows", async () => {
  let underWay = 0;
  let most = 0;
  const issue = async (userId: string) => {
    underWay += 1;
    most = Math.max(most, underWay);
    await new Promise((resolve) => setImmediate(resolve));
    underWay -= 1;
    return issuedTo(userId);
  };
  const userIds = Array.from({ length: 1_000 }, (_, index) => `u${index}`);
  const { told } = await outcomesOf(issue, userIds);
  expect(told).toEqual(userIds.map((userId) => `${userId} userCoupon`));
  expect(most).toBe(256);
});

test("users' request ids are theirs alone, and what IssueCoupon accepts", () => {
  const ids = ["r", "r2"].flatMap((requestId) => ["u", "2u", "ü"].map((userId) => userRequestId(requestId, userId)));
  expect(new Set(ids).size).toBe(6);
  for (const id of ids) expect(id).toMatch(/^[!-~]{1,64}$/);
  expect(userRequestId("r", "u")).toBe(ids[0]);
});
