import { randomUUID } from "node:crypto";
import { durationFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Usage } from "../../gen/coupon/v1/usage_pb.js";
import { UsageService } from "../../gen/coupon/v1/usage_service_pb.js";
import { UserCouponStatus } from "../../gen/coupon/v1/user_coupon_pb.js";
import { UserCouponService } from "../../gen/coupon/v1/user_coupon_service_pb.js";
import { type GrpcClient, letIn } from "../support/clients.js";
import { twoReplicas } from "../support/service.js";
import { cancel, imbalances, lockOne, read, storedOf, unlock, use, useOne } from "./checkout.js";
import { answerOf } from "./front-ends.js";
import { type CouponInit, createSample, issue, issued, readCoupon, untilPassed } from "./samples.js";

const { listUsages } = UsageService.method;
const { deleteUserCoupon, getUserCoupon, listUserCoupons } = UserCouponService.method;

const { sql, clients } = await twoReplicas(afterAll);
const [here, there] = clients;

const clientOf = (index: number): GrpcClient => (index % 2 === 0 ? here : there);
const refusal = (call: Promise<unknown>): Promise<string> =>
  answerOf(call).then(({ code, reason }) => `${code} ${reason}`);
const idsOf = (usages: readonly Usage[]) => usages.map(({ id }) => id);

async function held(fields: CouponInit, userId: string): Promise<{ id: string; couponId: string }> {
  const coupon = await createSample(here, fields);
  return await issued(here, coupon.id, userId);
}

describe("ListUsages", () => {
  let usages: Usage[];
  let couponIds: string[];

  beforeAll(async () => {
    const [one, other] = await Promise.all([0, 1].map(() => createSample(here, { maxUses: 100 })));
    couponIds = [one!.id, other!.id];
    usages = [];
    // Each combination of a user, a coupon and a product, each an order of its own, one after the other.
    for (const userId of ["lena", "mona"]) {
      for (const couponId of couponIds) {
        const { id } = await issued(here, couponId, userId);
        for (const productId of ["ride", "meal"]) {
          const orderId = `order ${usages.length}`;
          usages.push(await useOne(here, { userId, coupons: [id], productId, orderId }));
          await untilPassed(Date.now() + 1);
        }
      }
    }
    usages.reverse();
    usages[3] = await cancel(there, usages[3]!.userId, usages[3]!.id);
  });

  const list = async (filter: Record<string, string | boolean | number>) =>
    await there.call(listUsages, { showCancelled: true, pageSize: 1_000, ...filter });

  test.for([
    ["a user", { userId: "lena" }, (usage: Usage) => usage.userId === "lena"],
    ["a product", { productId: "ride" }, (usage: Usage) => usage.productId === "ride"],
    ["an order", { orderId: "order 5" }, (usage: Usage) => usage.orderId === "order 5"],
    [
      "user and product",
      { userId: "mona", productId: "meal" },
      (u: Usage) => u.userId === "mona" && u.productId === "meal",
    ],
    ["nobody", { userId: "nobody" }, () => false],
    ["another's order", { userId: "mona", orderId: "order 0" }, () => false],
  ] as const)("of %s: all that fit, the newest first", async ([, filter, fits]) => {
    const found = (await list(filter)).usages;
    const ours = found.filter(({ couponId }) => couponIds.includes(couponId));
    expect(ours).toEqual(usages.filter(fits));
  });

  test("of a coupon, and of everything at once, with the id in capitals", async () => {
    const [couponId] = couponIds as [string];
    const ofCoupon = usages.filter((usage) => usage.couponId === couponId);
    expect((await list({ couponId: couponId.toUpperCase() })).usages).toEqual(ofCoupon);
    const { userId, productId, orderId } = ofCoupon[0]!;
    expect((await list({ couponId, userId, productId, orderId })).usages).toEqual([ofCoupon[0]]);
  });

  test("leaves cancelled ones out unless they are asked for", async () => {
    const found = await there.call(listUsages, { couponId: usages[3]!.couponId });
    expect(idsOf(found.usages)).not.toContain(usages[3]!.id);
    expect(idsOf((await list({ couponId: usages[3]!.couponId })).usages)).toContain(usages[3]!.id);
  });

  test.for([1, 2, 3, 4, 5])("in pages of %i, through either replica in turn", async (pageSize) => {
    const ofLena = usages.filter(({ userId }) => userId === "lena");
    const seen: Usage[] = [];
    let pageToken = "";
    do {
      const page = await clientOf(seen.length).call(listUsages, {
        userId: "lena",
        showCancelled: true,
        pageSize,
        pageToken,
      });
      expect(page.usages.length).toBeLessThanOrEqual(pageSize);
      seen.push(...page.usages);
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    expect(seen).toEqual(ofLena);
  });

  test("what is used while it is paged appears on no later page", async () => {
    const { id, couponId } = await held({ maxUses: 9 }, "nora");
    const first = await useOne(here, { userId: "nora", coupons: [id] });
    await untilPassed(Date.now() + 1);
    const second = await useOne(here, { userId: "nora", coupons: [id] });
    const page = await here.call(listUsages, { couponId, pageSize: 1 });
    await untilPassed(Date.now() + 1);
    await useOne(there, { userId: "nora", coupons: [id] });
    const rest = await there.call(listUsages, { couponId, pageSize: 5, pageToken: page.nextPageToken });
    expect([...idsOf(page.usages), ...idsOf(rest.usages)]).toEqual([second.id, first.id]);
  });

  test("has 50 on a page unless told otherwise", async () => {
    const { id, couponId } = await held({ maxUses: 60 }, "olga");
    await Promise.all(Array.from({ length: 51 }, (_, n) => use(clientOf(n), { userId: "olga", coupons: [id] })));
    const page = await here.call(listUsages, { couponId });
    expect(page.usages).toHaveLength(50);
    expect(page.nextPageToken).not.toBe("");
  });
});

describe("a user's coupons", () => {
  test("come with their usages: always in Get, on request in List", async () => {
    const userId = randomUUID();
    const [used, unused] = [await held({ maxUses: 3 }, userId), await held({}, userId)];
    const first = await useOne(here, { userId, coupons: [used.id] });
    await untilPassed(Date.now() + 1);
    const second = await useOne(here, { userId, coupons: [used.id] });
    const cancelled = await cancel(there, userId, first.id);
    const got = await read(there, userId, used.id.toUpperCase());
    expect(got).toMatchObject({ status: UserCouponStatus.READY, maxUses: 3, useCount: 1 });
    expect(got.usages).toEqual([second, cancelled]);
    const list = async (showUsages: boolean) => (await here.call(listUserCoupons, { userId, showUsages })).userCoupons;
    expect((await list(true)).map(({ id, usages }) => [id, usages])).toEqual([
      [unused.id, []],
      [used.id, [second, cancelled]],
    ]);
    expect((await list(false)).map(({ usages }) => usages)).toEqual([[], []]);
    expect((await list(true))[1]).toEqual(got);
  });

  test("are listed READY, LOCKED, USED and REVOKED; EXPIRED and RELEASED ones when they are asked for", async () => {
    const userId = randomUUID();
    const window = durationFromMs(1_000);
    const ready = await held({}, userId);
    const locked = await held({}, userId);
    const used = await held({}, userId);
    const revoked = await held({ usageCap: 1n }, userId);
    const expired = await held({ validityAfterIssue: window }, userId);
    const released = await held({ claimWindow: window }, userId);
    await lockOne(here, { userId, coupons: [locked.id] });
    await use(here, { userId, coupons: [used.id] });
    const { id } = await issued(here, revoked.couponId, "somebody");
    await use(there, { userId: "somebody", coupons: [id] });
    await untilPassed(timestampMs((await read(here, userId, expired.id)).expireTime!));
    const { claimExpireTime } = await read(here, userId, released.id);
    if (claimExpireTime) await untilPassed(timestampMs(claimExpireTime));

    const list = async (showExpired: boolean) => {
      const { userCoupons } = await there.call(listUserCoupons, { userId, showExpired });
      return userCoupons.map((one) => [one.id, UserCouponStatus[one.status]]);
    };
    const standing = [
      [revoked.id, "REVOKED"],
      [used.id, "USED"],
      [locked.id, "LOCKED"],
      [ready.id, "READY"],
    ];
    expect(await list(false)).toEqual(standing);
    expect(await list(true)).toEqual([[released.id, "RELEASED"], [expired.id, "EXPIRED"], ...standing]);
    const ofStatuses = async (...statuses: UserCouponStatus[]) => {
      const { userCoupons } = await here.call(listUserCoupons, { userId, statuses });
      return userCoupons.map((one) => UserCouponStatus[one.status]);
    };
    const { READY, LOCKED, USED, REVOKED, EXPIRED, RELEASED } = UserCouponStatus;
    for (const one of [READY, LOCKED, USED, REVOKED, EXPIRED, RELEASED])
      expect(await ofStatuses(one)).toEqual([UserCouponStatus[one]]);
    expect(await ofStatuses(READY, EXPIRED, USED)).toEqual(["EXPIRED", "USED", "READY"]);
    // Whichever order they are named in, it is the same list, and with others it is another one.
    const ofTwo = await here.call(listUserCoupons, { userId, statuses: [READY, LOCKED], pageSize: 1 });
    const pageToken = ofTwo.nextPageToken;
    const rest = await there.call(listUserCoupons, { userId, statuses: [LOCKED, READY], pageToken });
    expect([...ofTwo.userCoupons, ...rest.userCoupons].map((one) => one.id)).toEqual([locked.id, ready.id]);
    for (const statuses of [[], [READY], [READY, LOCKED, USED]])
      expect(await refusal(here.call(listUserCoupons, { userId, statuses, pageToken }))).toMatch(/ INVALID_FIELD$/);
    for (const statuses of [[READY, READY], [UserCouponStatus.UNSPECIFIED], [9 as UserCouponStatus]])
      expect(await answerOf(here.call(listUserCoupons, { userId, statuses }))).toMatchObject({
        reason: "INVALID_FIELD",
        fields: [expect.stringMatching(/^statuses/)],
      });
    const page = await here.call(listUserCoupons, { userId, pageSize: 1 });
    const wrong = here.call(listUserCoupons, { userId, pageToken: page.nextPageToken, showUsages: true });
    expect(await refusal(wrong)).toBe("INVALID_ARGUMENT INVALID_FIELD");
  });
});

describe("DeleteUserCoupon", () => {
  const drop = (
    userId: string,
    userCouponId: string,
    more: { restock?: boolean; deleteUsed?: boolean; requestId?: string } = {},
  ) => there.call(deleteUserCoupon, { userId, userCouponId, ...more });

  test("takes it from the user, who may be issued another one; the stock is not put back", async () => {
    const { id, couponId } = await held({ quantity: 2n }, "anna");
    expect(await refusal(issue(here, couponId, "anna"))).toBe("ALREADY_EXISTS ALREADY_ISSUED");
    expect((await drop("anna", id.toUpperCase())).restocked).toBe(false);
    expect(await refusal(here.call(getUserCoupon, { userId: "anna", userCouponId: id }))).toBe(
      "NOT_FOUND USER_COUPON_NOT_FOUND",
    );
    for (const showExpired of [false, true]) {
      const { userCoupons } = await here.call(listUserCoupons, { userId: "anna", showExpired });
      expect(userCoupons.map((one) => one.id)).not.toContain(id);
    }
    expect((await readCoupon(here, couponId)).issuedCount).toBe(1n);
    await issued(here, couponId, "anna");
    expect(await refusal(issue(here, couponId, "bert"))).toBe("FAILED_PRECONDITION SOLD_OUT");
  });

  test("with restock puts it back, for the next user at once", async () => {
    const { id, couponId } = await held({ quantity: 1n }, "anna");
    expect(await refusal(issue(here, couponId, "bert"))).toBe("FAILED_PRECONDITION SOLD_OUT");
    expect((await drop("anna", id, { restock: true })).restocked).toBe(true);
    expect((await readCoupon(here, couponId)).remainingCount).toBe(1n);
    await issued(here, couponId, "bert");
    expect(await refusal(issue(there, couponId, "anna"))).toBe("FAILED_PRECONDITION SOLD_OUT");
  });

  test("of what has a use that stands is refused, unless it is meant; then nothing is put back", async () => {
    const { id, couponId } = await held({ quantity: 1n, maxUses: 2 }, "anna");
    const usage = await useOne(here, { userId: "anna", coupons: [id] });
    const before = await storedOf(sql, [couponId]);
    expect(await refusal(drop("anna", id))).toBe("FAILED_PRECONDITION ALREADY_USED");
    expect(await refusal(drop("anna", id, { restock: true }))).toBe("FAILED_PRECONDITION ALREADY_USED");
    expect(await storedOf(sql, [couponId])).toEqual(before);
    expect((await drop("anna", id, { restock: true, deleteUsed: true })).restocked).toBe(false);
    expect(await refusal(issue(here, couponId, "anna"))).toBe("FAILED_PRECONDITION SOLD_OUT");
    // Its usage stays on record, and can be cancelled.
    const { usages } = await here.call(listUsages, { couponId });
    expect(usages).toEqual([usage]);
    await cancel(here, "anna", usage.id);
    expect(await readCoupon(here, couponId)).toMatchObject({ usedCount: 0n, issuedCount: 1n });
    expect(await imbalances(sql, [couponId])).toEqual([]);
  });

  test("of what a checkout holds is refused, with the lock's end; of what was used and cancelled it is not", async () => {
    const { id } = await held({ lockDuration: durationFromMs(40_000) }, "anna");
    const usage = await useOne(here, { userId: "anna", coupons: [id] });
    await cancel(here, "anna", usage.id);
    const { lockVersion, expireTime } = await lockOne(here, { userId: "anna", coupons: [id] });
    for (const more of [{}, { deleteUsed: true, restock: true }]) {
      const sentAtMs = Date.now();
      const answer = await answerOf(drop("anna", id, more));
      expect([answer.code, answer.reason]).toEqual(["FAILED_PRECONDITION", "LOCKED"]);
      // Counted from some moment of the call.
      expect(answer.retryDelayMs).toBeGreaterThan(timestampMs(expireTime!) - Date.now() - 50);
      expect(answer.retryDelayMs).toBeLessThan(timestampMs(expireTime!) - sentAtMs + 50);
    }
    await unlock(here, "anna", [{ id, lockVersion }]);
    expect((await drop("anna", id, { restock: true })).restocked).toBe(true);
  });

  test("of another user's, of nobody's and of a deleted one is NOT_FOUND", async () => {
    const { id } = await held({}, "anna");
    expect(await refusal(drop("bert", id))).toBe("NOT_FOUND USER_COUPON_NOT_FOUND");
    expect(await refusal(drop("anna", randomUUID()))).toBe("NOT_FOUND USER_COUPON_NOT_FOUND");
    await drop("anna", id);
    expect(await refusal(drop("anna", id))).toBe("NOT_FOUND USER_COUPON_NOT_FOUND");
  });

  test("twice with one request id gets the same answer, also at once; other input is refused", async () => {
    const [one, other] = [await held({ quantity: 5n }, "anna"), await held({}, "anna")];
    const requestId = randomUUID();
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, n) =>
        answerOf(
          letIn(() =>
            clientOf(n).call(deleteUserCoupon, { userId: "anna", userCouponId: one.id, restock: true, requestId }),
          ),
        ),
      ),
    );
    expect(answers.map(({ code, reason }) => reason ?? code)).toEqual(Array(20).fill("OK"));
    expect((await drop("anna", one.id, { restock: true, requestId })).restocked).toBe(true);
    expect(await refusal(drop("anna", one.id, { requestId }))).toBe("INVALID_ARGUMENT REQUEST_ID_REUSED");
    expect(await refusal(drop("anna", other.id, { restock: true, requestId }))).toBe(
      "INVALID_ARGUMENT REQUEST_ID_REUSED",
    );
    expect((await readCoupon(here, one.couponId)).issuedCount).toBe(0n);
  });

  test("a repeated issue of it is not answered with another one", async () => {
    const { id: couponId } = await createSample(here);
    const requestId = randomUUID();
    const { userCoupon } = await issue(here, couponId, "anna", requestId);
    await drop("anna", userCoupon!.id);
    for (const client of [here, there]) {
      expect(await refusal(issue(client, couponId, "anna", requestId))).toBe("NOT_FOUND USER_COUPON_NOT_FOUND");
    }
    expect((await readCoupon(here, couponId)).issuedCount).toBe(1n);
  });
});
