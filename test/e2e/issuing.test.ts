import { randomUUID } from "node:crypto";
import { durationFromMs, type Timestamp, timestampDate, timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { afterAll, describe, expect, test } from "vitest";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { CouponState } from "../../gen/coupon/v1/coupon_pb.js";
import { type UserCoupon, UserCouponStatus } from "../../gen/coupon/v1/user_coupon_pb.js";
import { UserCouponService } from "../../gen/coupon/v1/user_coupon_service_pb.js";
import { type GrpcClient, letIn } from "../support/clients.js";
import { twoReplicas } from "../support/service.js";
import { until } from "../support/until.js";
import { type Answer, answerOf } from "./front-ends.js";
import { type CouponInit, createSample, issue, issued, readCoupon, untilPassed } from "./samples.js";

const { updateCoupon, deleteCoupon, pauseCoupon, resumeCoupon } = CatalogService.method;

const { stores, sql, redis, clients } = await twoReplicas(afterAll);
const [here, there] = clients;

/** By turns through the two replicas. */
const clientOf = (index: number): GrpcClient => (index % 2 === 0 ? here : there);

function refusal(call: Promise<unknown>): Promise<string | undefined> {
  return answerOf(call).then(({ code, reason }) => `${code} ${reason}`);
}

async function rowsOf(couponId: string): Promise<{ id: string; userId: string }[]> {
  const rows = await sql<{ id: string; user_id: string }[]>`
    SELECT id, user_id FROM user_coupons WHERE coupon_id = ${couponId}`;
  return rows.map(({ id, user_id }) => ({ id, userId: user_id }));
}

/** What must hold of every coupon at rest: the counter, the rows and the events say the same. */
async function expectBooksBalance(couponId: string, count: number): Promise<void> {
  const rows = await rowsOf(couponId);
  const [{ events } = { events: -1 }] = await sql<{ events: number }[]>`
    SELECT count(DISTINCT user_coupon_id)::int AS events FROM events
    WHERE coupon_id = ${couponId} AND kind = 'USER_COUPON_ISSUED'`;
  const { issuedCount } = await readCoupon(here, couponId);
  expect({ rows: rows.length, events, issuedCount: Number(issuedCount) }).toEqual({
    rows: count,
    events: count,
    issuedCount: count,
  });
}

async function many(count: number, couponId: string, userOf: (index: number) => string): Promise<Answer[]> {
  return await Promise.all(
    Array.from({ length: count }, (_, index) => answerOf(letIn(() => issue(clientOf(index), couponId, userOf(index))))),
  );
}

function tally(answers: readonly Answer[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { code, reason } of answers) counts[reason ?? code] = (counts[reason ?? code] ?? 0) + 1;
  return counts;
}

describe("what a user gets", () => {
  test("is stored with the coupon's expire time when it has no validity of its own", async () => {
    const coupon = await createSample(here, { quantity: 5n });
    const userCoupon = await issued(here, coupon.id, "anna");
    expect(userCoupon).toMatchObject({ couponId: coupon.id, userId: "anna", status: UserCouponStatus.READY });
    expect(userCoupon.coupon).toBeUndefined();
    expect(timestampDate(userCoupon.expireTime!)).toEqual(timestampDate(coupon.expireTime!));
    const { userCoupon: read } = await there.call(UserCouponService.method.getUserCoupon, {
      userId: "anna",
      userCouponId: userCoupon.id,
    });
    expect(read).toEqual({ ...userCoupon, coupon: { ...coupon, issuedCount: 1n, remainingCount: 4n } });
    await expectBooksBalance(coupon.id, 1);
  });

  test("expires after the validity, counted from the moment of issuing, if that is earlier", async () => {
    const coupon = await createSample(here, { validityAfterIssue: durationFromMs(3_600_500) });
    const { issueTime, expireTime } = await issued(here, coupon.id, "anna");
    expect(timestampMs(expireTime!) - timestampMs(issueTime!)).toBe(3_600_500);
  });

  test("never outlasts the coupon", async () => {
    const expireMs = Date.now() + 60_000;
    const coupon = await createSample(here, {
      validityAfterIssue: durationFromMs(3_600_000),
      expireTime: timestampFromMs(expireMs),
    });
    const { expireTime } = await issued(here, coupon.id, "anna");
    expect(timestampMs(expireTime!)).toBe(expireMs);
  });

  test("has an id that grows with time", async () => {
    const coupon = await createSample(here);
    const first = await issued(here, coupon.id, "first");
    await untilPassed(Date.now() + 2);
    const second = await issued(there, coupon.id, "second");
    expect(second.id > first.id).toBe(true);
    expect(first.id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7/);
  });

  test.for([
    ["ünïcödé"],
    ["a b"],
    ["'; DROP TABLE coupons; --"],
    ["{}:*"],
    ['back\\slash, "quotes", {braces}'],
    ["NULL"],
    ["🎟️"],
    ["x".repeat(128)],
    ["🎟".repeat(128)],
  ])("may be held by a user called %s", async ([userId]) => {
    const coupon = await createSample(here);
    const { id } = await issued(here, coupon.id, userId as string);
    expect(await refusal(issue(there, coupon.id, userId as string))).toBe("ALREADY_EXISTS ALREADY_ISSUED");
    const { userCoupons } = await there.call(UserCouponService.method.listUserCoupons, { userId: userId as string });
    expect(userCoupons.filter((one) => one.couponId === coupon.id).map((one) => one.id)).toEqual([id]);
  });

  test("names of users differ in case and in blanks", async () => {
    const coupon = await createSample(here);
    await issued(here, coupon.id, "Anna");
    await issued(here, coupon.id, "anna");
    await issued(here, coupon.id, "anna ");
    await expectBooksBalance(coupon.id, 3);
  });
});

describe("a repeated request", () => {
  test("gets the same user coupon again, through either replica", async () => {
    const coupon = await createSample(here, { quantity: 10n });
    const first = await issue(here, coupon.id, "anna", "retry-1");
    expect(first.replayed).toBe(false);
    for (const client of [here, there]) {
      const again = await issue(client, coupon.id, "anna", "retry-1");
      expect(again).toEqual({ ...first, replayed: true });
    }
    await expectBooksBalance(coupon.id, 1);
  });

  test("50 times at once through two replicas makes one row", async () => {
    const coupon = await createSample(here, { quantity: 10n });
    const requestId = randomUUID();
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, index) => issue(clientOf(index), coupon.id, "anna", requestId)),
    );
    expect(new Set(answers.map((answer) => answer.userCoupon?.id)).size).toBe(1);
    expect(answers.filter((answer) => !answer.replayed)).toHaveLength(1);
    await expectBooksBalance(coupon.id, 1);
  });

  test("takes one of three that the user may hold", async () => {
    const coupon = await createSample(here, { maxPerUser: 3 });
    const requestId = randomUUID();
    await Promise.all(Array.from({ length: 10 }, (_, index) => issue(clientOf(index), coupon.id, "anna", requestId)));
    await expectBooksBalance(coupon.id, 1);
  });

  const closings: [string, (couponId: string) => Promise<unknown>][] = [
    ["SOLD_OUT", async () => {}],
    ["COUPON_PAUSED", (couponId) => here.call(pauseCoupon, { couponId })],
    ["COUPON_NOT_STARTED", (id) => edit(id, { startTime: timestampFromMs(Date.now() + 3_600_000) }, "start_time")],
    ["COUPON_ENDED", (id) => edit(id, { expireTime: timestampFromMs(Date.now() - 1_000) }, "expire_time")],
    ["COUPON_NOT_FOUND", (couponId) => here.call(deleteCoupon, { couponId })],
  ];
  const edit = (id: string, fields: CouponInit, ...paths: string[]) =>
    here.call(updateCoupon, { coupon: { id, ...fields }, updateMask: { paths } });
  /** A coupon of which Anna holds the only one, and which is then closed to everybody else. */
  const closed = async (reason: string, close: (couponId: string) => Promise<unknown>) => {
    const startTime = timestampFromMs(Date.now() - 3_600_000);
    const coupon = await createSample(here, { quantity: 1n, startTime });
    const requestId = randomUUID();
    const { id } = (await issue(here, coupon.id, "anna", requestId)).userCoupon as UserCoupon;
    await close(coupon.id);
    // Twice through each replica: before and after the gate has loaded the coupon.
    for (let round = 0; round < 2; round++) {
      for (const client of [here, there]) {
        expect((await answerOf(issue(client, coupon.id, "bert"))).reason).toBe(reason);
      }
    }
    await untilLoaded(coupon.id);
    return { couponId: coupon.id, requestId, id };
  };
  /** As if Redis had been wiped. */
  const forget = async (couponId: string) => {
    for (const name of ["coupon", "holders", "pending"]) await redis.del(`${stores.keyPrefix}:{${couponId}}:${name}`);
  };
  const untilLoaded = (couponId: string) =>
    until("the gate knows the coupon", async () => {
      await answerOf(issue(here, couponId, "bert"));
      return (await redis.exists(`${stores.keyPrefix}:{${couponId}}:coupon`)) === 1;
    });

  test.for(closings)("comes before %s", async ([reason, close]) => {
    const { couponId, requestId, id } = await closed(reason, close);
    for (const client of [here, there]) {
      const again = await issue(client, couponId, "anna", requestId);
      expect([again.replayed, again.userCoupon?.id]).toEqual([true, id]);
    }
  });

  test.for(closings)("whose user coupon was deleted is told so before %s", async ([reason, close]) => {
    const { couponId, requestId, id } = await closed(reason, close);
    await here.call(UserCouponService.method.deleteUserCoupon, { userId: "anna", userCouponId: id });
    const again = () => Promise.all([here, there].map((client) => refusal(issue(client, couponId, "anna", requestId))));
    const gone = ["NOT_FOUND USER_COUPON_NOT_FOUND", "NOT_FOUND USER_COUPON_NOT_FOUND"];
    // The gate was told, then it knows nothing, and then it has read what there was.
    expect(await again()).toEqual(gone);
    await forget(couponId);
    expect(await again()).toEqual(gone);
    await untilLoaded(couponId);
    expect(await again()).toEqual(gone);
    expect((await answerOf(issue(here, couponId, "anna", randomUUID()))).reason).toBe(reason);
  });

  test("whose user coupon was released gets it as it is, while others are refused", async () => {
    const coupon = await createSample(here, { quantity: 10n, claimWindow: durationFromMs(1_000) });
    const requestId = randomUUID();
    const { id } = (await issue(here, coupon.id, "anna", requestId)).userCoupon as UserCoupon;
    await until("it is released", async () => (await readCoupon(here, coupon.id)).issuedCount === 0n);
    await here.call(pauseCoupon, { couponId: coupon.id });
    for (let load = 0; load < 2; load++) {
      await untilLoaded(coupon.id);
      for (const client of [here, there]) {
        const again = await issue(client, coupon.id, "anna", requestId);
        expect([again.replayed, again.userCoupon?.id, again.userCoupon?.status]).toEqual([
          true,
          id,
          UserCouponStatus.RELEASED,
        ]);
      }
      await forget(coupon.id);
    }
  });

  // The gate turns away whoever cannot win without asking Postgres, which alone knows every request id.
  test.for(closings)(
    "with another user, it is refused as %s or as used before, and nothing is issued",
    async ([reason, close]) => {
      const { couponId, requestId } = await closed(reason, close);
      expect(["REQUEST_ID_REUSED", reason]).toContain(
        (await answerOf(issue(there, couponId, "bert", requestId))).reason,
      );
    },
  );

  test("gets its user coupon when that has expired and the stock is gone", async () => {
    const coupon = await createSample(here, { quantity: 2n, validityAfterIssue: durationFromMs(1_000) });
    const requestId = randomUUID();
    const { userCoupon } = await issue(here, coupon.id, "anna", requestId);
    await issued(here, coupon.id, "bert");
    await untilPassed(timestampMs(userCoupon?.expireTime as Timestamp));
    await forget(coupon.id);
    await untilLoaded(coupon.id);
    const again = await issue(there, coupon.id, "anna", requestId);
    expect([again.userCoupon?.id, again.userCoupon?.status]).toEqual([userCoupon?.id, UserCouponStatus.EXPIRED]);
  });

  test("is refused when it names another user or another coupon", async () => {
    const coupon = await createSample(here);
    const other = await createSample(here);
    const requestId = randomUUID();
    await issue(here, coupon.id, "anna", requestId);
    for (const client of [here, there]) {
      for (const [couponId, userId] of [
        [coupon.id, "bert"],
        [other.id, "anna"],
      ] as const) {
        const { code, reason, fields } = await answerOf(issue(client, couponId, userId, requestId));
        expect([code, reason, fields]).toEqual(["INVALID_ARGUMENT", "REQUEST_ID_REUSED", ["request_id"]]);
      }
      // What is no coupon was never issued to anybody, whatever the request id.
      const nothing = await answerOf(issue(client, randomUUID(), "anna", requestId));
      expect([nothing.code, nothing.reason]).toEqual(["NOT_FOUND", "COUPON_NOT_FOUND"]);
    }
    await expectBooksBalance(coupon.id, 1);
    await expectBooksBalance(other.id, 0);
  });

  test("one request id, 20 users at once: one gets it, 19 are refused", async () => {
    const coupon = await createSample(here, { quantity: 100n });
    const requestId = randomUUID();
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, index) => answerOf(issue(clientOf(index), coupon.id, `user ${index}`, requestId))),
    );
    expect(tally(answers)).toEqual({ OK: 1, REQUEST_ID_REUSED: 19 });
    await expectBooksBalance(coupon.id, 1);
  });

  test("may follow a refusal: the refused call used nothing up", async () => {
    const coupon = await createSample(here, { quantity: 1n });
    await here.call(pauseCoupon, { couponId: coupon.id });
    const requestId = randomUUID();
    expect(await refusal(issue(here, coupon.id, "anna", requestId))).toBe("FAILED_PRECONDITION COUPON_PAUSED");
    await here.call(resumeCoupon, { couponId: coupon.id });
    expect((await issue(there, coupon.id, "anna", requestId)).replayed).toBe(false);
  });
});

describe("one user", () => {
  test("who holds a live one is refused, through either replica", async () => {
    const coupon = await createSample(here, { quantity: 10n });
    await issued(here, coupon.id, "anna");
    expect(await refusal(issue(here, coupon.id, "anna"))).toBe("ALREADY_EXISTS ALREADY_ISSUED");
    expect(await refusal(issue(there, coupon.id, "anna", randomUUID()))).toBe("ALREADY_EXISTS ALREADY_ISSUED");
    await expectBooksBalance(coupon.id, 1);
  });

  test("is told ALREADY_ISSUED before SOLD_OUT", async () => {
    const coupon = await createSample(here, { quantity: 1n });
    await issued(here, coupon.id, "anna");
    expect(await refusal(issue(there, coupon.id, "anna"))).toBe("ALREADY_EXISTS ALREADY_ISSUED");
  });

  test("who asks 40 times at once gets one", async () => {
    const coupon = await createSample(here, { quantity: 100n });
    expect(tally(await many(40, coupon.id, () => "anna"))).toEqual({ OK: 1, ALREADY_ISSUED: 39 });
    await expectBooksBalance(coupon.id, 1);
  });

  test("may hold three where the coupon says so, and not a fourth", async () => {
    const coupon = await createSample(here, { maxPerUser: 3 });
    expect(tally(await many(12, coupon.id, () => "anna"))).toEqual({ OK: 3, ALREADY_ISSUED: 9 });
    await issued(here, coupon.id, "bert");
    await expectBooksBalance(coupon.id, 4);
  });

  test("whose coupon has expired gets another, which then counts", async () => {
    const coupon = await createSample(here, { quantity: 3n, validityAfterIssue: durationFromMs(3_000) });
    const first = await issued(here, coupon.id, "anna");
    expect(await refusal(issue(there, coupon.id, "anna"))).toBe("ALREADY_EXISTS ALREADY_ISSUED");
    await untilPassed(timestampMs(first.expireTime!));
    const second = await issued(there, coupon.id, "anna");
    expect(second.id).not.toBe(first.id);
    expect(await refusal(issue(here, coupon.id, "anna"))).toBe("ALREADY_EXISTS ALREADY_ISSUED");
    // Stock that an expired one took is gone for good.
    expect((await readCoupon(here, coupon.id)).remainingCount).toBe(1n);

    const list = async (showExpired: boolean) => {
      const { userCoupons } = await here.call(UserCouponService.method.listUserCoupons, {
        userId: "anna",
        showExpired,
      });
      return userCoupons.filter((one) => one.couponId === coupon.id).map(({ id, status }) => [id, status]);
    };
    expect(await list(false)).toEqual([[second.id, UserCouponStatus.READY]]);
    expect(await list(true)).toEqual([
      [second.id, UserCouponStatus.READY],
      [first.id, UserCouponStatus.EXPIRED],
    ]);
  });
});

describe("stock", () => {
  test("of 100 is given to exactly 100 of 500 callers through two replicas", async () => {
    const coupon = await createSample(here, { quantity: 100n });
    const answers = await many(500, coupon.id, (index) => `user ${index}`);
    expect(tally(answers)).toEqual({ OK: 100, SOLD_OUT: 400 });
    const soldOut = answers.find(({ reason }) => reason === "SOLD_OUT");
    expect([soldOut?.code, soldOut?.retryDelayMs]).toEqual(["FAILED_PRECONDITION", undefined]);
    await expectBooksBalance(coupon.id, 100);
    const holders = new Set((await rowsOf(coupon.id)).map(({ userId }) => userId));
    expect(holders).toEqual(new Set(answers.flatMap(({ code }, index) => (code === "OK" ? [`user ${index}`] : []))));
    expect(await readCoupon(there, coupon.id)).toMatchObject({ remainingCount: 0n, state: CouponState.SOLD_OUT });
  });

  test("without a limit never runs out", async () => {
    const coupon = await createSample(here);
    expect(tally(await many(200, coupon.id, (index) => `user ${index}`))).toEqual({ OK: 200 });
    const read = await readCoupon(here, coupon.id);
    expect([read.quantity, read.remainingCount, read.issuedCount]).toEqual([undefined, undefined, 200n]);
    expect(read.state).toBe(CouponState.ACTIVE);
  });

  test("of one coupon does not touch another's", async () => {
    const one = await createSample(here, { quantity: 5n });
    const other = await createSample(here, { quantity: 7n });
    const answers = await Promise.all([
      many(20, one.id, (index) => `user ${index}`),
      many(20, other.id, (index) => `user ${index}`),
    ]);
    expect(answers.map(tally)).toEqual([
      { OK: 5, SOLD_OUT: 15 },
      { OK: 7, SOLD_OUT: 13 },
    ]);
  });

  test("that is added after it ran out is given away, to the last one", async () => {
    const coupon = await createSample(here, { quantity: 10n });
    expect(tally(await many(30, coupon.id, (index) => `first ${index}`))).toEqual({ OK: 10, SOLD_OUT: 20 });
    await there.call(updateCoupon, { coupon: { id: coupon.id, quantity: 25n }, updateMask: { paths: ["quantity"] } });
    expect(tally(await many(30, coupon.id, (index) => `second ${index}`))).toEqual({ OK: 15, SOLD_OUT: 15 });
    await expectBooksBalance(coupon.id, 25);
  });

  test("that is taken off, or made unlimited, holds from the answer of the edit on", async () => {
    const coupon = await createSample(here, { quantity: 100n });
    await many(10, coupon.id, (index) => `first ${index}`);
    await here.call(updateCoupon, { coupon: { id: coupon.id, quantity: 12n }, updateMask: { paths: ["quantity"] } });
    expect(tally(await many(20, coupon.id, (index) => `second ${index}`))).toEqual({ OK: 2, SOLD_OUT: 18 });
    await there.call(updateCoupon, { coupon: { id: coupon.id }, updateMask: { paths: ["quantity"] } });
    expect(tally(await many(20, coupon.id, (index) => `third ${index}`))).toEqual({ OK: 20 });
    await expectBooksBalance(coupon.id, 32);
  });

  test("is never exceeded while it is raised and lowered under a run of issues", async () => {
    const coupon = await createSample(here, { quantity: 50n });
    let highest = 50n;
    let running = true;
    const accepted: UserCoupon[] = [];
    const reasons = new Set<string | undefined>();
    const runner = async (lane: number) => {
      for (let round = 0; running; round++) {
        try {
          accepted.push(await issued(clientOf(lane), coupon.id, `user ${lane} ${round}`));
        } catch (error) {
          const { reason } = error as { reason?: string };
          reasons.add(reason);
          if (reason !== "SOLD_OUT") throw error;
        }
      }
    };
    const lanes = Promise.all(Array.from({ length: 12 }, (_, lane) => runner(lane)));
    for (const quantity of [80n, 60n, 120n, 100n, 200n, 150n, 260n, 240n, 300n]) {
      const { code, reason } = await answerOf(
        clientOf(Number(quantity / 20n)).call(updateCoupon, {
          coupon: { id: coupon.id, quantity },
          updateMask: { paths: ["quantity"] },
        }),
      );
      if (code === "OK") highest = quantity > highest ? quantity : highest;
      else expect([code, reason]).toEqual(["FAILED_PRECONDITION", "QUANTITY_BELOW_ISSUED"]);
      const read = await readCoupon(there, coupon.id);
      expect(read.issuedCount).toBeLessThanOrEqual(read.quantity as bigint);
    }
    // The last quantity is above all others, so everything up to it is given away.
    await until("all are issued", async () => (await readCoupon(here, coupon.id)).state === CouponState.SOLD_OUT);
    running = false;
    await lanes;
    expect(highest).toBe(300n);
    expect([...reasons].filter((reason) => reason !== "SOLD_OUT")).toEqual([]);
    await expectBooksBalance(coupon.id, 300);
    const stored = new Set((await rowsOf(coupon.id)).map(({ id }) => id));
    expect(accepted.filter(({ id }) => !stored.has(id))).toEqual([]);
  });

  test("is closed by a pause from the pause's answer on, and opened again", async () => {
    const coupon = await createSample(here, { quantity: 1_000n });
    await many(10, coupon.id, (index) => `first ${index}`);
    await here.call(pauseCoupon, { couponId: coupon.id });
    expect(tally(await many(20, coupon.id, (index) => `second ${index}`))).toEqual({ COUPON_PAUSED: 20 });
    await there.call(resumeCoupon, { couponId: coupon.id });
    expect(tally(await many(20, coupon.id, (index) => `third ${index}`))).toEqual({ OK: 20 });
  });
});

describe("the window", () => {
  test("has not opened", async () => {
    const startTime = timestampFromMs(Date.now() + 3_600_000);
    const coupon = await createSample(here, { startTime });
    expect(coupon.state).toBe(CouponState.SCHEDULED);
    for (let round = 0; round < 3; round++) {
      expect(await refusal(issue(clientOf(round), coupon.id, "anna"))).toBe("FAILED_PRECONDITION COUPON_NOT_STARTED");
    }
  });

  test("opens by itself", async () => {
    const startMs = Date.now() + 3_000;
    const coupon = await createSample(here, { startTime: timestampFromMs(startMs) });
    expect(await refusal(issue(here, coupon.id, "anna"))).toBe("FAILED_PRECONDITION COUPON_NOT_STARTED");
    await untilPassed(startMs);
    await issued(here, coupon.id, "anna");
  });

  test("closes by itself, and what was issued is expired", async () => {
    const expireMs = Date.now() + 3_000;
    const coupon = await createSample(here, { expireTime: timestampFromMs(expireMs) });
    const { id } = await issued(here, coupon.id, "anna");
    await untilPassed(expireMs);
    expect(await refusal(issue(here, coupon.id, "bert"))).toBe("FAILED_PRECONDITION COUPON_ENDED");
    expect(await refusal(issue(there, coupon.id, "anna"))).toBe("FAILED_PRECONDITION COUPON_ENDED");
    const { userCoupon } = await here.call(UserCouponService.method.getUserCoupon, {
      userId: "anna",
      userCouponId: id,
    });
    expect(userCoupon?.status).toBe(UserCouponStatus.EXPIRED);
  });

  test("is checked after the pause", async () => {
    const coupon = await createSample(here, { startTime: timestampFromMs(Date.now() + 3_600_000) });
    await here.call(pauseCoupon, { couponId: coupon.id });
    expect(await refusal(issue(there, coupon.id, "anna"))).toBe("FAILED_PRECONDITION COUPON_PAUSED");
  });
});

describe("the coupon's id", () => {
  test("may be written in capitals", async () => {
    const coupon = await createSample(here, { quantity: 10n });
    const first = await issue(here, coupon.id.toUpperCase(), "anna", "in-capitals");
    expect(first.userCoupon?.couponId).toBe(coupon.id);
    const again = await issue(there, coupon.id, "anna", "in-capitals");
    expect([again.replayed, again.userCoupon?.id]).toEqual([true, first.userCoupon?.id]);
    expect(await refusal(issue(there, coupon.id.toUpperCase(), "anna"))).toBe("ALREADY_EXISTS ALREADY_ISSUED");
    const { userCoupon } = await there.call(UserCouponService.method.getUserCoupon, {
      userId: "anna",
      userCouponId: first.userCoupon?.id.toUpperCase() as string,
    });
    expect(userCoupon?.id).toBe(first.userCoupon?.id);
    expect((await readCoupon(here, coupon.id.toUpperCase())).id).toBe(coupon.id);
    await expectBooksBalance(coupon.id, 1);
  });

  test("that nobody knows is COUPON_NOT_FOUND, each time", async () => {
    const couponId = randomUUID();
    for (let round = 0; round < 4; round++) {
      expect(await refusal(issue(clientOf(round), couponId, "anna"))).toBe("NOT_FOUND COUPON_NOT_FOUND");
    }
  });
});

describe("somebody else's user coupon", () => {
  test("is not found, like one that does not exist", async () => {
    const coupon = await createSample(here);
    const { id } = await issued(here, coupon.id, "anna");
    const get = (userId: string, userCouponId: string) =>
      answerOf(here.call(UserCouponService.method.getUserCoupon, { userId, userCouponId }));
    const foreign = await get("bert", id);
    expect([foreign.code, foreign.reason]).toEqual(["NOT_FOUND", "USER_COUPON_NOT_FOUND"]);
    expect(await get("anna", randomUUID())).toEqual(foreign);
  });
});

test("a user's list pages through 120 user coupons, the newest first, without gaps or doubles", async () => {
  const coupon = await createSample(here, { maxPerUser: 100 });
  const other = await createSample(here, { maxPerUser: 100 });
  const ids: string[] = [];
  for (let index = 0; index < 60; index++) {
    const both = await Promise.all([issued(here, coupon.id, "collector"), issued(there, other.id, "collector")]);
    ids.push(...both.map(({ id }) => id));
  }
  const seen: string[] = [];
  let pageToken = "";
  let pages = 0;
  do {
    const page = await clientOf(pages++).call(UserCouponService.method.listUserCoupons, {
      userId: "collector",
      pageSize: 50,
      pageToken,
    });
    seen.push(...page.userCoupons.map(({ id }) => id));
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  expect(pages).toBe(3);
  expect(seen).toEqual(ids.sort().reverse());
});
