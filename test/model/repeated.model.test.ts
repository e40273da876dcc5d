import { create } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  CreateCouponRequestSchema,
  DeleteCouponRequestSchema,
  PauseCouponRequestSchema,
  ResumeCouponRequestSchema,
} from "../../gen/coupon/v1/catalog_service_pb.js";
import { IssueCouponRequestSchema } from "../../gen/coupon/v1/issuance_service_pb.js";
import { DeleteUserCouponRequestSchema } from "../../gen/coupon/v1/user_coupon_service_pb.js";
import { Refusal } from "../../src/domain/refusal.js";
import { callContext } from "../support/call-context.js";
import { until } from "../support/until.js";
import { type GateName, type Service, startService } from "./service.js";

/** Lives that the model leaves open, or that once went wrong. */
describe.each(["redis", "memory"] satisfies GateName[])("with the gate in %s", (gate) => {
  let service: Service;
  beforeAll(async () => {
    service = await startService(gate);
  });
  /** The tests share a database, and use their request ids once each. */
  let number = 0;
  beforeEach(async () => {
    number += 1;
    await service.setClock(new Date());
  });
  afterAll(() => service.close());

  const context = () => callContext(Date.now() + 20_000);
  const newOne = async (fields: { quantity?: bigint; validityMs?: number; claimMs?: number } = {}) => {
    const message = create(CreateCouponRequestSchema, {
      coupon: {
        name: "one",
        discount: { kind: { case: "percentageBasisPoints", value: 500 } },
        startTime: timestampFromDate(new Date(Date.now() - 60_000)),
        expireTime: timestampFromDate(new Date(Date.now() + 3_600_000)),
        quantity: fields.quantity ?? 10n,
        ...(fields.validityMs !== undefined && { validityAfterIssue: durationFromMs(fields.validityMs) }),
        ...(fields.claimMs !== undefined && { claimWindow: durationFromMs(fields.claimMs) }),
      },
    });
    const answer = await service.replicas[0].create(message, context());
    if (answer instanceof Refusal) throw new Error(answer.reason);
    return answer.coupon?.id as string;
  };
  const issue = async (couponId: string, userId: string, request = "") => {
    const requestId = request && `${request}-${number}`;
    const message = create(IssueCouponRequestSchema, {
      target: { case: "couponId", value: couponId },
      userId,
      requestId,
    });
    const answer = await service.replicas[0].issue(message, context());
    if (answer instanceof Refusal) return answer.reason;
    return `${answer.replayed ? "REPLAYED" : "ISSUED"} ${answer.userCoupon?.id}`;
  };
  /** Afterwards the gate has the coupon as Postgres has it now, whatever it had before. */
  const loadAnew = async (couponId: string) => {
    await service.gate.invalidate(couponId);
    await until("the coupon is loaded", async () => {
      await service.load(couponId);
      return (await service.gate.survey(1_000, 0)).some((one) => one.couponId === couponId && one.loaded);
    });
  };
  /** Postgres' clock is the gate's, give or take a second. */
  const later = (ms: number) => service.setClock(new Date(Date.now() + ms));

  // IssuanceService.IssueCoupon: "The first of these that applies is the answer: a repeated request gets the same user
  // coupon again; REQUEST_ID_REUSED; COUPON_NOT_FOUND; ...". These are the cases in which only Postgres knows.
  describe("a repeated request is answered first", () => {
    test("after the coupon was deleted", async () => {
      const couponId = await newOne();
      const first = await issue(couponId, "u", "r");
      await service.replicas[0].delete(create(DeleteCouponRequestSchema, { couponId }), context());
      await loadAnew(couponId);
      expect(await issue(couponId, "u", "r")).toBe(first.replace("ISSUED", "REPLAYED"));
    });

    test("after the coupon ended", async () => {
      const couponId = await newOne();
      const first = await issue(couponId, "u", "r");
      await later(3_660_000);
      await loadAnew(couponId);
      expect(await issue(couponId, "u", "r")).toBe(first.replace("ISSUED", "REPLAYED"));
    });

    test("after the user coupon expired and the coupon was sold out", async () => {
      const couponId = await newOne({ quantity: 1n, validityMs: 60_000 });
      const first = await issue(couponId, "u", "r");
      await later(120_000);
      await loadAnew(couponId);
      expect(await issue(couponId, "u", "r")).toBe(first.replace("ISSUED", "REPLAYED"));
    });

    test("after the user coupon expired and the user got another one", async () => {
      const couponId = await newOne({ validityMs: 60_000 });
      await loadAnew(couponId);
      const first = await issue(couponId, "u", "r1");
      await later(120_000);
      expect(await issue(couponId, "u", "r2")).toMatch(/^ISSUED/);
      expect([first.replace("ISSUED", "REPLAYED"), "ALREADY_ISSUED"]).toContain(await issue(couponId, "u", "r1"));
    });

    test("and one that is used again for another coupon never issues", async () => {
      const [couponId, soldOut] = [await newOne(), await newOne({ quantity: 1n })];
      await issue(couponId, "u", "r");
      await issue(soldOut, "winner");
      await loadAnew(soldOut);
      expect(["SOLD_OUT", "REQUEST_ID_REUSED"]).toContain(await issue(soldOut, "u", "r"));
    });
  });

  // DeleteUserCouponRequest.restock: "Puts it back into stock for another user". The gate forgets a user
  // coupon that has expired when its user gets the next one.
  test("what had expired is put back into stock", async () => {
    const couponId = await newOne({ quantity: 2n, validityMs: 60_000 });
    const [, userCouponId = ""] = (await issue(couponId, "u")).split(" ");
    await later(120_000);
    await loadAnew(couponId);
    expect(await issue(couponId, "u")).toMatch(/^ISSUED/);
    const call = create(DeleteUserCouponRequestSchema, { userId: "u", userCouponId, restock: true });
    expect(await service.replicas[0].deleteUserCoupon(call, context())).toMatchObject({ restocked: true });
    expect(await issue(couponId, "v")).toMatch(/^ISSUED/);
  });

  test("what was not used within its claim window is back in stock, also when it has expired before the release", async () => {
    const couponId = await newOne({ quantity: 2n, validityMs: 60_000, claimMs: 30_000 });
    await issue(couponId, "u");
    await later(120_000);
    await loadAnew(couponId);
    expect(await issue(couponId, "u")).toMatch(/^ISSUED/);
    await service.replicas[0].releaser.run();
    expect(await issue(couponId, "v")).toMatch(/^ISSUED/);
  });

  // CatalogService: "A repeated call with the same request_id and the same input does nothing and gets the first call's
  // answer; with other input it is refused."
  test("a pause that found the coupon paused is remembered: its retry does not pause again", async () => {
    const couponId = await newOne();
    await service.replicas[0].pause(create(PauseCouponRequestSchema, { couponId }), context());
    const call = create(PauseCouponRequestSchema, { couponId, requestId: "r" });
    await service.replicas[0].pause(call, context());
    await service.replicas[0].resume(create(ResumeCouponRequestSchema, { couponId }), context());
    await service.replicas[0].pause(call, context());
    expect(await issue(couponId, "u")).toMatch(/^ISSUED/);
  });
});
