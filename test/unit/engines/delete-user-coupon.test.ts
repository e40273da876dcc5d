import { create } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { DeleteUserCouponRequestSchema } from "../../../gen/coupon/v1/user_coupon_service_pb.js";
import type { CallContext } from "../../../src/domain/call-context.js";
import { Refusal, StoreUnavailable } from "../../../src/domain/refusal.js";
import type { GateRequest } from "../../../src/reservation/port.js";
import { deleteUserCoupon } from "../../../src/services/user-coupon/delete-user-coupon.js";
import type { GivenBack, UserCouponStore } from "../../../src/storage/ports/user-coupons.js";
import { countsOf, loadCoupon, openGate, requestOf } from "./gate.js";

type Deletion = Awaited<ReturnType<UserCouponStore["delete"]>>;
const context = { deadlineMs: Date.now() + 3_600_000 } as CallContext;

/** One user coupon that the gate knows of is deleted. `end` is what becomes of the transaction after the gate was told. */
async function deleted(end: () => Promise<Deletion>, { freed = false, isTold = true } = {}) {
  const { gate, keeper } = openGate();
  const couponId = await loadCoupon(gate);
  const request: GateRequest = requestOf(couponId);
  await gate.settle([{ ...request, outcome: "CONFIRM", validUntil: null }]);
  const remove: UserCouponStore["delete"] = async (_, beforeCommit) => {
    const given: GivenBack = { ...request, restocked: true, freed, givenBackNo: 1 };
    if (isTold) await beforeCommit(given);
    return await end();
  };
  const handler = deleteUserCoupon({ delete: remove } as UserCouponStore, keeper);
  const { userId, userCouponId } = request;
  const answer = await handler(create(DeleteUserCouponRequestSchema, { userId, userCouponId }), context).catch(
    (error) => error,
  );
  return { answer, counts: await countsOf(gate, couponId) };
}

describe("the gate", () => {
  test("counts what a deletion has put back", async () => {
    const { answer, counts } = await deleted(async () => ({ restocked: true, replayed: false }));
    expect(answer).toMatchObject({ restocked: true });
    expect(counts).toEqual({ stock: 5 });
  });

  const unknown = undefined;
  test.for([
    ["is rolled back", async () => Promise.reject(new RangeError("no"))],
    ["may not be committed", async () => Promise.reject(new StoreUnavailable())],
    ["was another call's with the same request id", async () => ({ restocked: true, replayed: true })],
    ["is refused in the end", async () => new Refusal("REQUEST_ID_REUSED")],
  ] as const)("does not count what it was told of a deletion that %s: it reads anew", async ([_, end]) => {
    expect((await deleted(end as () => Promise<Deletion>)).counts).toEqual(unknown);
  });

  test("reads anew where a place under the usage cap has come back, which it cannot count", async () => {
    const { counts } = await deleted(async () => ({ restocked: true, replayed: false }), { freed: true });
    expect(counts).toEqual(unknown);
  });

  test("keeps its copy when a deletion is refused before it was told", async () => {
    const { answer, counts } = await deleted(async () => new Refusal("LOCKED"), { isTold: false });
    expect(answer).toEqual(new Refusal("LOCKED"));
    expect(counts).toEqual({ stock: 4 });
  });
});
