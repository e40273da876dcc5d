import { randomUUID } from "node:crypto";
import { durationFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { afterAll, describe, expect, test } from "vitest";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { UsageService } from "../../gen/coupon/v1/usage_service_pb.js";
import { UserCouponService } from "../../gen/coupon/v1/user_coupon_service_pb.js";
import { twoReplicas } from "../support/service.js";
import { until } from "../support/until.js";
import {
  answerOfJson,
  type Chosen,
  callJson,
  lock,
  lockOne,
  type OrderInit,
  objectionsOf,
  orderMessage,
  quote,
  read,
  storedOf,
  usd,
  use,
} from "./checkout.js";
import { answerOf } from "./front-ends.js";
import { type CouponInit, createSample, issued, untilPassed } from "./samples.js";

const { lockCoupons, useCoupons } = UsageService.method;

const { sql, replicas, clients } = await twoReplicas(afterAll);
const [here, there] = clients;

const percent = (percentage: number) => ({
  kind: { case: "percentageBasisPoints" as const, value: percentage * 100 },
});
const fixed = (amount: ReturnType<typeof usd>) => ({ kind: { case: "fixedAmount" as const, value: amount } });

/** A user coupon of a new coupon, held by "anna". */
async function held(fields: CouponInit = {}, userId = "anna"): Promise<{ id: string; couponId: string }> {
  const coupon = await createSample(here, fields);
  return await issued(here, coupon.id, userId);
}

describe("what speaks against a use is said by quote, lock and use alike, and changes nothing", () => {
  interface Refused {
    readonly order: OrderInit;
    /** For each user coupon, in the order in which they are answered. */
    readonly reasons: readonly (readonly string[])[];
    readonly couponIds: readonly string[];
  }
  const lone = async (fields: CouponInit, reasons: string[], prepare?: (id: string, couponId: string) => unknown) => {
    const { id, couponId } = await held(fields);
    await prepare?.(id, couponId);
    return { order: { userId: "anna", coupons: [id] }, reasons: [reasons], couponIds: [couponId] };
  };
  const passed = async (id: string) => {
    const { expireTime, claimExpireTime } = await read(here, "anna", id);
    await untilPassed(timestampMs(claimExpireTime ?? expireTime!));
    // Else it may be counted as expired while the calls below are said to change nothing.
    await until("it is counted as expired, if it counts as that", async () => {
      const [row] = await sql`SELECT lapse_at FROM user_coupons WHERE id = ${id}`;
      return row?.lapse_at === null;
    });
  };
  const useIt = (id: string) => use(here, { userId: "anna", coupons: [id] });
  const lockIt = (id: string) => lockOne(here, { userId: "anna", coupons: [id] });
  const choose = (one: Refused, ...coupons: Chosen[]): Refused => ({ ...one, order: { ...one.order, coupons } });

  const cases: [string, () => Promise<Refused>][] = [
    [
      "an id that nobody holds",
      async () => ({
        order: { userId: "anna", coupons: [randomUUID()] },
        reasons: [["USER_COUPON_NOT_FOUND"]],
        couponIds: [],
      }),
    ],
    [
      "another user's",
      async () => {
        const one = await lone({}, ["USER_COUPON_NOT_FOUND"]);
        return { ...one, order: { ...one.order, userId: "bert" } };
      },
    ],
    [
      "one that was deleted",
      () =>
        lone({}, ["USER_COUPON_NOT_FOUND"], (userCouponId) =>
          here.call(UserCouponService.method.deleteUserCoupon, { userId: "anna", userCouponId }),
        ),
    ],
    [
      "released",
      () =>
        lone({ claimWindow: durationFromMs(3_000) }, ["USER_COUPON_RELEASED"], async (id) => {
          await passed(id);
          // Postgres releases it a moment later; the answers are the same before and after, but the row changes.
          await until("it is released", async () => {
            const [row] = await sql`SELECT released_at FROM user_coupons WHERE id = ${id}`;
            return row?.released_at;
          });
        }),
    ],
    ["used up", () => lone({}, ["ALREADY_USED"], useIt)],
    [
      "used twice of two times",
      () =>
        lone({ maxUses: 2 }, ["ALREADY_USED"], async (id) => {
          await useIt(id);
          await useIt(id);
        }),
    ],
    [
      "revoked",
      () =>
        lone({}, ["USER_COUPON_REVOKED"], (_, couponId) =>
          there.call(CatalogService.method.deleteCoupon, { couponId, revokeIssued: true }),
        ),
    ],
    [
      "beyond the usage cap",
      () =>
        lone({ usageCap: 1n }, ["USAGE_CAP_REACHED"], async (_, couponId) => {
          const { id } = await issued(there, couponId, "bert");
          await use(there, { userId: "bert", coupons: [id] });
        }),
    ],
    ["expired", () => lone({ validityAfterIssue: durationFromMs(1_000) }, ["USER_COUPON_EXPIRED"], passed)],
    ["locked by another checkout", () => lone({}, ["LOCKED"], lockIt)],
    [
      "a version when there is no lock",
      async () => {
        const one = await lone({}, ["LOCK_LOST"]);
        return choose(one, { id: one.order.coupons[0] as string, lockVersion: 1n });
      },
    ],
    [
      "the version of an earlier lock, while another one stands",
      async () => {
        const one = await lone({ lockDuration: durationFromMs(1_000) }, ["LOCK_LOST"]);
        const id = one.order.coupons[0] as string;
        const { lockVersion, expireTime } = await lockIt(id);
        await untilPassed(timestampMs(expireTime!));
        await here.call(CatalogService.method.updateCoupon, {
          coupon: { id: one.couponIds[0] as string, lockDuration: durationFromMs(60_000) },
          updateMask: { paths: ["lock_duration"] },
        });
        expect((await lockIt(id)).lockVersion).toBeGreaterThan(lockVersion);
        return choose(one, { id, lockVersion });
      },
    ],
    [
      "a version that is yet to come, while a lock stands",
      async () => {
        const one = await lone({}, ["LOCK_LOST"]);
        const id = one.order.coupons[0] as string;
        const { lockVersion } = await lockIt(id);
        return choose(one, { id, lockVersion: lockVersion + 1n });
      },
    ],
    [
      "the greatest version there is",
      async () => {
        const one = await lone({}, ["LOCK_LOST"], lockIt);
        return choose(one, { id: one.order.coupons[0] as string, lockVersion: 2n ** 63n - 1n });
      },
    ],
    ["an order in another currency", () => lone({ discount: fixed(usd(5, "EUR")) }, ["CURRENCY_MISMATCH"])],
    [
      "an order in another currency than the ceiling's",
      () => lone({ discount: { ...percent(5), maximumAmount: usd(5, "EUR") } }, ["CURRENCY_MISMATCH"]),
    ],
    [
      "an order in another currency than the minimum's",
      () => lone({ discount: { ...percent(5), minimumOrderAmount: usd(5, "EUR") } }, ["CURRENCY_MISMATCH"]),
    ],
    [
      "an order below the minimum",
      () => lone({ discount: { ...percent(5), minimumOrderAmount: usd(10_001) } }, ["MINIMUM_ORDER_NOT_REACHED"]),
    ],
    [
      "one that stands alone and one that does not",
      async () => {
        const [alone, stackable] = [await held(), await held({ stackable: true })];
        return {
          order: { userId: "anna", coupons: [stackable.id, alone.id] },
          reasons: [[], ["NOT_STACKABLE"]],
          couponIds: [alone.couponId, stackable.couponId],
        };
      },
    ],
    [
      "the second of two is locked",
      async () => {
        const [first, second] = [await held({ stackable: true }), await held({ stackable: true })];
        await lockIt(second.id);
        return {
          order: { userId: "anna", coupons: [first.id, second.id] },
          reasons: [[], ["LOCKED"]],
          couponIds: [first.couponId, second.couponId],
        };
      },
    ],
    [
      "every reason against each of three",
      async () => {
        const revoked = await held({ discount: fixed(usd(5, "EUR")), maxUses: 2, usageCap: 1n });
        await use(here, { userId: "anna", coupons: [revoked.id], amount: usd(10, "EUR") });
        await here.call(CatalogService.method.deleteCoupon, { couponId: revoked.couponId, revokeIssued: true });
        const locked = await held({ discount: { ...percent(5), minimumOrderAmount: usd(10_001) } });
        await lockOne(here, { userId: "anna", coupons: [locked.id], amount: null });
        return {
          order: { userId: "anna", coupons: [randomUUID(), locked.id, revoked.id] },
          reasons: [
            ["USER_COUPON_NOT_FOUND"],
            ["LOCKED", "NOT_STACKABLE", "MINIMUM_ORDER_NOT_REACHED"],
            ["USER_COUPON_REVOKED", "USAGE_CAP_REACHED", "NOT_STACKABLE", "CURRENCY_MISMATCH"],
          ],
          couponIds: [locked.couponId, revoked.couponId],
        };
      },
    ],
    [
      "used up, expired and in another currency",
      () =>
        lone(
          { discount: fixed(usd(5)), validityAfterIssue: durationFromMs(3_000) },
          ["ALREADY_USED", "USER_COUPON_EXPIRED", "CURRENCY_MISMATCH"],
          async (id) => {
            await useIt(id);
            await passed(id);
          },
        ).then((one) => ({ ...one, order: { ...one.order, amount: usd(5, "EUR") } })),
    ],
  ];

  test.concurrent.for(cases)("%s", { timeout: 30_000 }, async ([, prepare], { expect }) => {
    const { order, reasons, couponIds } = await prepare();
    const message = orderMessage(order);
    const before = await storedOf(sql, couponIds);
    const quoted = await quote(there, order);
    expect(objectionsOf(quoted)).toEqual(reasons);
    expect(quoted.usable).toBe(false);
    const first = reasons.flat()[0] as string;
    const expected = {
      code: first.endsWith("NOT_FOUND") ? "NOT_FOUND" : "FAILED_PRECONDITION",
      reason: first,
      fields: [],
      preconditions: reasons.flatMap((ofOne, index) => ofOne.map((reason) => `coupons[${index}] ${reason}`)),
    };
    const onlyLocks = reasons.flat().every((reason) => reason === "LOCKED");
    const port = replicas[0].httpPort;
    for (const answer of [
      await answerOf(use(here, order)),
      await answerOf(use(there, { ...order, requestId: randomUUID() })),
      await answerOf(lock(here, order)),
      await answerOfJson(callJson(port, useCoupons, message)),
      await answerOfJson(callJson(port, lockCoupons, message)),
    ]) {
      expect(answer).toMatchObject(expected);
      if (onlyLocks) expect(answer.retryDelayMs).toBeGreaterThan(0);
      else expect(answer.retryDelayMs).toBeUndefined();
    }
    expect(await storedOf(sql, couponIds)).toEqual(before);
  });
});
