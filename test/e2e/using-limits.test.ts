import { randomUUID } from "node:crypto";
import { durationFromMs, type Timestamp, timestampMs } from "@bufbuild/protobuf/wkt";
import { afterAll, describe, expect, test } from "vitest";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { type Coupon, CouponState } from "../../gen/coupon/v1/coupon_pb.js";
import { type UserCoupon, UserCouponStatus } from "../../gen/coupon/v1/user_coupon_pb.js";
import { UserCouponService } from "../../gen/coupon/v1/user_coupon_service_pb.js";
import type { GrpcClient } from "../support/clients.js";
import { twoReplicas } from "../support/service.js";
import { until } from "../support/until.js";
import { cancel, imbalances, lockOne, objectionsOf, quote, read, use, useOne } from "./checkout.js";
import { answerOf } from "./front-ends.js";
import { type CouponInit, createSample, issue, issued, readCoupon } from "./samples.js";

const { deleteCoupon, getCoupon, listCoupons, updateCoupon } = CatalogService.method;
const { deleteUserCoupon, listUserCoupons } = UserCouponService.method;

const { sql, clients } = await twoReplicas(afterAll);
const [here, there] = clients;

const clientOf = (index: number): GrpcClient => (index % 2 === 0 ? here : there);
const ms = (time: Timestamp | undefined) => timestampMs(time as Timestamp);
const refusal = (call: Promise<unknown>): Promise<string> =>
  answerOf(call).then(({ code, reason, fields }) => [code, reason, ...fields].join(" "));

async function update(id: string, fields: CouponInit, ...paths: string[]): Promise<Coupon> {
  const { coupon } = await there.call(updateCoupon, { coupon: { ...fields, id }, updateMask: { paths } });
  return coupon as Coupon;
}

/** User coupons of one coupon, held by users called as given. */
async function holders(fields: CouponInit, ...userIds: string[]) {
  const { id: couponId } = await createSample(here, fields);
  const ids: string[] = [];
  for (const userId of userIds) ids.push((await issued(here, couponId, userId)).id);
  return { couponId, ids };
}

const statusOf = async (userId: string, id: string) => UserCouponStatus[(await read(there, userId, id)).status];

describe("what the catalogue says of using", () => {
  test("defaults: one use, 5 minutes of lock, no window, no cap", async () => {
    const coupon = await createSample(here);
    expect(coupon).toMatchObject({ maxUses: 1, lockDuration: durationFromMs(300_000), usedCount: 0n });
    for (const name of ["claimWindow", "usageCap", "remainingUseCount", "exhaustTime"] as const) {
      expect(coupon[name]).toBeUndefined();
    }
  });

  test.for([
    [1, 1_000, 1_000, 1n],
    [1_000, 86_400_000, 31_536_000_000, 10n ** 12n],
    [7, 1_001, 1_500, 7n],
  ] as const)(
    "keeps %i uses, %i ms of lock, %i ms of window and a cap of %i",
    async ([maxUses, lockMs, claimMs, usageCap]) => {
      const fields = {
        ...{ maxUses, usageCap, remainingUseCount: usageCap },
        ...{ lockDuration: durationFromMs(lockMs), claimWindow: durationFromMs(claimMs) },
      };
      const coupon = await createSample(here, fields);
      expect(coupon).toMatchObject(fields);
      expect((await there.call(getCoupon, { couponId: coupon.id })).coupon).toEqual(coupon);
      expect((await there.call(listCoupons, { pageSize: 1 })).coupons).toEqual([coupon]);
    },
  );

  test("is edited field by field; what may be absent is cleared, what may not gets its default", async () => {
    const { id } = await createSample(here, {
      ...{ maxUses: 3, usageCap: 9n, lockDuration: durationFromMs(2_000), claimWindow: durationFromMs(2_000) },
    });
    expect(await update(id, { maxUses: 5, usageCap: 2n }, "max_uses")).toMatchObject({ maxUses: 5, usageCap: 9n });
    const cleared = await update(id, {}, "max_uses", "lock_duration", "claim_window", "usage_cap");
    expect(cleared).toMatchObject({ maxUses: 1, lockDuration: durationFromMs(300_000) });
    for (const name of ["claimWindow", "usageCap", "remainingUseCount"] as const) expect(cleared[name]).toBeUndefined();
  });

  test("what is set as output only is ignored", async () => {
    const coupon = await createSample(here, { usedCount: 5n, remainingUseCount: 5n, exhaustTime: { seconds: 1n } });
    expect(coupon).toMatchObject({ usedCount: 0n, state: CouponState.ACTIVE });
    expect([coupon.remainingUseCount, coupon.exhaustTime]).toEqual([undefined, undefined]);
  });

  test("a window that is set, cleared or changed does not touch what was issued before", async () => {
    const { couponId, ids } = await holders({}, "anna");
    await update(couponId, { claimWindow: durationFromMs(60_000) }, "claim_window");
    const { claimExpireTime, issueTime } = await issued(here, couponId, "bert");
    expect(ms(claimExpireTime) - ms(issueTime)).toBe(60_000);
    expect((await read(here, "anna", ids[0]!)).claimExpireTime).toBeUndefined();
  });
});

describe("a usage cap", () => {
  test("counts places, and when the last one is taken the coupon is EXHAUSTED", async () => {
    const { couponId, ids } = await holders({ usageCap: 2n, quantity: 10n }, "anna", "bert", "carl");
    const [anna, bert, carl] = ids as [string, string, string];
    const first = await useOne(here, { userId: "anna", coupons: [anna] });
    expect(await readCoupon(there, couponId)).toMatchObject({
      ...{ usedCount: 1n, remainingUseCount: 1n, state: CouponState.ACTIVE },
    });
    expect(await statusOf("carl", carl)).toBe("READY");
    const second = await useOne(there, { userId: "bert", coupons: [bert] });
    const exhausted = await readCoupon(here, couponId);
    expect(exhausted).toMatchObject({ usedCount: 2n, remainingUseCount: 0n, state: CouponState.EXHAUSTED });
    expect(exhausted.exhaustTime).toEqual(second.useTime);
    expect([await statusOf("anna", anna), await statusOf("bert", bert), await statusOf("carl", carl)]).toEqual([
      ...["USED", "USED", "REVOKED"],
    ]);
    for (const client of [here, there]) {
      expect(await refusal(issue(client, couponId, "dora"))).toBe("FAILED_PRECONDITION USAGE_CAP_REACHED");
      expect(await refusal(use(client, { userId: "carl", coupons: [carl] }))).toBe(
        "FAILED_PRECONDITION USAGE_CAP_REACHED",
      );
    }
    expect(objectionsOf(await quote(here, { userId: "carl", coupons: [carl] }))).toEqual([["USAGE_CAP_REACHED"]]);
    const { userCoupons } = await here.call(listUserCoupons, { userId: "carl" });
    expect(userCoupons.find(({ id }) => id === carl)?.status).toBe(UserCouponStatus.REVOKED);

    // The place of a cancelled use stays with its holder.
    await cancel(there, "anna", first.id);
    expect(await readCoupon(here, couponId)).toMatchObject({
      ...{ usedCount: 1n, remainingUseCount: 0n, state: CouponState.EXHAUSTED, exhaustTime: exhausted.exhaustTime },
    });
    expect(await statusOf("anna", anna)).toBe("READY");
    expect(await refusal(use(there, { userId: "carl", coupons: [carl] }))).toBe(
      "FAILED_PRECONDITION USAGE_CAP_REACHED",
    );
    await use(there, { userId: "anna", coupons: [anna] });
    expect(await readCoupon(there, couponId)).toMatchObject({ usedCount: 2n, remainingUseCount: 0n });
    expect(await imbalances(sql, [couponId])).toEqual([]);
  });

  test("makes USED what has uses left but no place for them", async () => {
    const { couponId, ids } = await holders({ usageCap: 3n, maxUses: 3 }, "anna", "bert");
    const [anna, bert] = ids as [string, string];
    const usage = await useOne(here, { userId: "anna", coupons: [anna] });
    for (const client of [here, there]) await use(client, { userId: "bert", coupons: [bert] });
    expect([await statusOf("anna", anna), await statusOf("bert", bert)]).toEqual(["USED", "USED"]);
    expect(await refusal(use(here, { userId: "anna", coupons: [anna] }))).toBe("FAILED_PRECONDITION USAGE_CAP_REACHED");
    await cancel(here, "anna", usage.id);
    expect(await statusOf("anna", anna)).toBe("READY");
    await use(there, { userId: "anna", coupons: [anna] });
    expect(await statusOf("anna", anna)).toBe("USED");
    expect(await imbalances(sql, [couponId])).toEqual([]);
  });

  test("cannot be set below the places taken; a higher one makes usable what it had revoked", async () => {
    const { couponId, ids } = await holders({ usageCap: 2n }, "anna", "bert", "carl");
    const [anna, bert, carl] = ids as [string, string, string];
    const usage = await useOne(here, { userId: "anna", coupons: [anna] });
    await use(here, { userId: "bert", coupons: [bert] });
    await cancel(here, "anna", usage.id);
    expect(await refusal(update(couponId, { usageCap: 1n }, "usage_cap"))).toBe(
      "FAILED_PRECONDITION USAGE_CAP_BELOW_USED coupon.usage_cap",
    );
    expect(await refusal(issue(there, couponId, "dora"))).toBe("FAILED_PRECONDITION USAGE_CAP_REACHED");
    const raised = await update(couponId, { usageCap: 3n }, "usage_cap");
    expect(raised).toMatchObject({ state: CouponState.ACTIVE, remainingUseCount: 1n, usedCount: 1n });
    expect(raised.exhaustTime).toBeUndefined();
    expect(await statusOf("carl", carl)).toBe("READY");
    for (const client of [here, there]) await issue(client, couponId, `dora ${clientOf(0) === client}`);
    await use(there, { userId: "carl", coupons: [carl] });
    expect((await readCoupon(here, couponId)).state).toBe(CouponState.EXHAUSTED);
    const cleared = await update(couponId, {}, "usage_cap");
    expect(cleared.state).toBe(CouponState.ACTIVE);
    expect(cleared.exhaustTime).toBeUndefined();
    await issue(here, couponId, "emil");
    // Set to what is taken, it is reached at once.
    const lowered = await update(couponId, { usageCap: 3n }, "usage_cap");
    expect(lowered).toMatchObject({ state: CouponState.EXHAUSTED, remainingUseCount: 0n });
    expect(lowered.exhaustTime).toBeDefined();
    expect(await refusal(issue(there, couponId, "fred"))).toBe("FAILED_PRECONDITION USAGE_CAP_REACHED");
    expect(await imbalances(sql, [couponId])).toEqual([]);
  });

  test("that was reached stays reached when something else is edited", async () => {
    const { couponId, ids } = await holders({ usageCap: 1n }, "anna", "bert");
    const usage = await useOne(here, { userId: "anna", coupons: [ids[0]!] });
    const { exhaustTime } = await readCoupon(here, couponId);
    expect((await update(couponId, { name: "Another name" }, "name")).exhaustTime).toEqual(exhaustTime);
    // Also when its place was given up, after which nobody is left to use it.
    await here.call(deleteUserCoupon, { userId: "anna", userCouponId: ids[0]!, deleteUsed: true });
    await cancel(here, "anna", usage.id);
    expect((await update(couponId, { name: "A third name" }, "name")).exhaustTime).toEqual(exhaustTime);
    expect(await statusOf("bert", ids[1]!)).toBe("REVOKED");
  });

  test("gives back, before it is reached, the place that a deleted user coupon had kept", async () => {
    const { couponId, ids } = await holders({ usageCap: 2n }, "anna", "bert", "carl");
    const usage = await useOne(here, { userId: "anna", coupons: [ids[0]!] });
    await cancel(there, "anna", usage.id);
    expect(await readCoupon(here, couponId)).toMatchObject({ usedCount: 0n, remainingUseCount: 1n });
    await there.call(deleteUserCoupon, { userId: "anna", userCouponId: ids[0]! });
    expect(await readCoupon(here, couponId)).toMatchObject({ usedCount: 0n, remainingUseCount: 2n });
    for (const [index, userId] of ["bert", "carl"].entries()) {
      await use(clientOf(index), { userId, coupons: [ids[index + 1]!] });
    }
    expect(await readCoupon(here, couponId)).toMatchObject({ usedCount: 2n, state: CouponState.EXHAUSTED });
  });

  test("20 of 60 who use at once have a place, through two replicas", async () => {
    const { id: couponId } = await createSample(here, { usageCap: 20n });
    const held = await Promise.all(
      Array.from({ length: 60 }, (_, n) => issued(clientOf(n), couponId, `user ${n}`).then(({ id }) => id)),
    );
    const answers = await Promise.all(
      held.map((id, n) => answerOf(use(clientOf(n), { userId: `user ${n}`, coupons: [id] }))),
    );
    const outcomes = answers.map(({ code, reason }) => reason ?? code).sort();
    expect(outcomes).toEqual([...Array(20).fill("OK"), ...Array(40).fill("USAGE_CAP_REACHED")]);
    expect(await imbalances(sql, [couponId])).toEqual([]);
  });

  test("speaks against issuing before ALREADY_ISSUED and SOLD_OUT do", async () => {
    const { couponId, ids } = await holders({ usageCap: 1n, quantity: 1n }, "anna");
    for (const client of [here, there]) {
      expect(await refusal(issue(client, couponId, "anna"))).toBe("ALREADY_EXISTS ALREADY_ISSUED");
      expect(await refusal(issue(client, couponId, "bert"))).toBe("FAILED_PRECONDITION SOLD_OUT");
    }
    await use(here, { userId: "anna", coupons: [ids[0]!] });
    for (const client of [here, there]) {
      for (const userId of ["anna", "bert"]) {
        expect(await refusal(issue(client, couponId, userId))).toBe("FAILED_PRECONDITION USAGE_CAP_REACHED");
      }
    }
    expect(await refusal(issue(here, couponId, "anna"))).toBe("FAILED_PRECONDITION USAGE_CAP_REACHED");
  });
});

describe("a claim window", () => {
  /** Longer than the calls take that must come before its end. */
  const window = { claimWindow: durationFromMs(3_000) };

  test("that passes unused puts the stock back for another user, and not before", async () => {
    const { couponId, ids } = await holders({ ...window, quantity: 1n }, "anna");
    const held = await read(here, "anna", ids[0]!);
    expect(ms(held.claimExpireTime) - ms(held.issueTime)).toBe(3_000);
    expect(await refusal(issue(here, couponId, "bert"))).toBe("FAILED_PRECONDITION SOLD_OUT");
    const userCoupon = (await until("it is issued to the next one", async () => {
      const answer = await issue(there, couponId, "bert").catch(() => undefined);
      return answer?.userCoupon;
    })) as UserCoupon;
    expect(ms(userCoupon.issueTime)).toBeGreaterThanOrEqual(ms(held.claimExpireTime));
    expect(await statusOf("anna", ids[0]!)).toBe("RELEASED");
    const seen = async (showExpired: boolean) =>
      (await here.call(listUserCoupons, { userId: "anna", showExpired })).userCoupons.map(({ id }) => id);
    expect(await seen(false)).not.toContain(ids[0]);
    expect(await seen(true)).toContain(ids[0]);
    // Its former holder may be issued another one, once there is one.
    await update(couponId, { quantity: 2n }, "quantity");
    const again = await issued(here, couponId, "anna");
    expect(again.id).not.toBe(ids[0]);
    expect((await readCoupon(here, couponId)).issuedCount).toBe(2n);
  });

  test("does not matter once it was used, also after the use was cancelled; a lock does not stop it", async () => {
    const { couponId, ids } = await holders(
      { ...window, lockDuration: durationFromMs(60_000) },
      "anna",
      "bert",
      "carl",
    );
    const [anna, bert, carl] = ids as [string, string, string];
    const usage = await useOne(here, { userId: "anna", coupons: [anna] });
    expect((await read(here, "anna", anna)).claimExpireTime).toBeUndefined();
    await cancel(here, "anna", usage.id);
    await lockOne(here, { userId: "bert", coupons: [bert] });
    await until("the others are back", async () => (await readCoupon(there, couponId)).issuedCount === 1n);
    expect([await statusOf("anna", anna), await statusOf("bert", bert), await statusOf("carl", carl)]).toEqual([
      ...["READY", "RELEASED", "RELEASED"],
    ]);
    await use(there, { userId: "anna", coupons: [anna] });
    const rows = await sql`SELECT user_id FROM events WHERE coupon_id = ${couponId} AND kind = 'USER_COUPON_RELEASED'`;
    expect(rows.map(({ user_id }) => user_id).sort()).toEqual(["bert", "carl"]);
  });

  test("that ends after the user coupon's own validity lets it expire, and puts nothing back", async () => {
    const { couponId, ids } = await holders(
      { ...window, validityAfterIssue: durationFromMs(3_000), quantity: 1n },
      "anna",
    );
    await until("it is dealt with", async () => {
      const [row] = await sql`SELECT claim_until FROM user_coupons WHERE id = ${ids[0]!}`;
      return row?.claim_until === null;
    });
    expect(await statusOf("anna", ids[0]!)).toBe("EXPIRED");
    expect((await readCoupon(here, couponId)).issuedCount).toBe(1n);
    expect(await refusal(issue(here, couponId, "bert"))).toBe("FAILED_PRECONDITION SOLD_OUT");
  });
});

test("a repeated issue of what was used or released meanwhile tells how it stands", async () => {
  const { id: couponId } = await createSample(here, { usageCap: 1n, quantity: 5n });
  const requestId = randomUUID();
  const id = (await issue(here, couponId, "anna", requestId)).userCoupon?.id as string;
  await use(there, { userId: "anna", coupons: [id] });
  for (const client of [here, there]) {
    const again = await issue(client, couponId, "anna", requestId);
    expect(again).toMatchObject({ replayed: true, userCoupon: { id, status: UserCouponStatus.USED } });
  }
});

test("deleting a coupon revokes what has uses left, and leaves what is USED", async () => {
  const { couponId, ids } = await holders({ maxUses: 2 }, "anna", "bert", "carl");
  for (const userId of ["anna", "anna", "bert"]) {
    await use(here, { userId, coupons: [ids[userId === "anna" ? 0 : 1]!] });
  }
  await lockOne(here, { userId: "carl", coupons: [ids[2]!] });
  await there.call(deleteCoupon, { couponId, revokeIssued: true });
  const statuses = await Promise.all(["anna", "bert", "carl"].map((userId, n) => statusOf(userId, ids[n]!)));
  expect(statuses).toEqual(["USED", "REVOKED", "REVOKED"]);
});
