import { describe, expect, test, vi } from "vitest";
import type { Coupon } from "../../../src/domain/coupon.js";
import { DeadlinePassed, Overloaded, Refusal, StoreUnavailable } from "../../../src/domain/refusal.js";
import { Issuer, type QueuedRequest, settleMs } from "../../../src/issuing/issuer.js";
import { LastUnits } from "../../../src/issuing/last-units.js";
import { settleBatch } from "../../../src/issuing/settle-batch.js";
import { steadyMs } from "../../../src/platform/clock.js";
import { timeOf } from "../../../src/platform/new-id.js";
import { QuotaDays } from "../../../src/platform/quotas/quota-days.js";
import type { IssueRequest, IssueResult } from "../../../src/storage/ports/issues.js";
import type { UserCouponStore } from "../../../src/storage/ports/user-coupons.js";
import { FailingQueues } from "./failing-queues.js";
import { breakGate, countsOf, loadCoupon, openGate, requestOf } from "./gate.js";

const reservationMs = 5_000;
const farMs = Date.now() + 3_600_000;
/** The time of Postgres: another day than this machine's. */
const clockMs = Date.parse("2026-03-04T22:30:00Z");

function issued({ userCouponId: id, couponId, userId, labels = null }: IssueRequest): IssueResult {
  const times = { issuedAt: new Date(), validUntil: null, lockedUntil: null, claimUntil: null, releasedAt: null };
  const counts = { maxUses: 1, useCount: 0, placeCount: 0 };
  const userCoupon = { id, couponId, userId, ...times, ...counts, code: null, discount: null, labels };
  return { outcome: "ISSUED", userCoupon, expiresAt: new Date(farMs) };
}
const refused = (reason: Extract<IssueResult, { outcome: "REFUSED" }>["reason"]): IssueResult => ({
  outcome: "REFUSED",
  reason,
});

/** An issuer on the gate in memory; `decide` is its Postgres. */
function openIssuer(
  decide: (request: IssueRequest) => IssueResult | Promise<IssueResult> = issued,
  nowMs = () => clockMs,
) {
  const opened = openGate();
  const queues = new FailingQueues();
  const userCoupons: Pick<UserCouponStore, "get"> = { get: async () => null };
  const sent: { requests: readonly IssueRequest[]; again: boolean | undefined }[] = [];
  const issuer = new Issuer({
    ...opened,
    store: {
      issueBatch: async (requests, again) => {
        sent.push({ requests, again });
        return await Promise.all(requests.map(decide));
      },
    },
    lastUnits: new LastUnits({ readStock: async () => 5 }, { findEarlierIssue: async () => null }),
    userCoupons,
    quotaDays: new QuotaDays(),
    clock: { nowMs },
    reservationMs,
    openQueue: queues.open,
    batches: { issue: 2, issueCode: 1 },
  });
  return { ...opened, queues, issuer, sent, userCoupons };
}

describe("when the queue fails", () => {
  const nothingDone = [
    { name: "has too much to do", error: new Overloaded(), deadlineMs: farMs, said: Overloaded },
    { name: "lets the time of the reservation pass", error: new DeadlinePassed(), deadlineMs: farMs, said: Overloaded },
    { name: "lets the caller's time pass", error: new DeadlinePassed(), deadlineMs: 1, said: DeadlinePassed },
    { name: "chokes on the request", error: new RangeError("no"), deadlineMs: farMs, said: RangeError },
  ];
  test.for(nothingDone)("$name: the reservation is given back at once", async ({ error, deadlineMs, said }) => {
    const { gate, queues, issuer } = openIssuer();
    const couponId = await loadCoupon(gate);
    queues.fail("issue", error);
    await expect(issuer.issue(requestOf(couponId), deadlineMs)).rejects.toBeInstanceOf(said);
    expect(await countsOf(gate, couponId)).toEqual({ stock: 5 });
  });

  test("and does not know what became of it: the reservation stays for the sweep", async () => {
    const { gate, queues, issuer } = openIssuer();
    const couponId = await loadCoupon(gate);
    queues.fail("issue", new StoreUnavailable());
    await expect(issuer.issue(requestOf(couponId), farMs)).rejects.toBeInstanceOf(StoreUnavailable);
    expect(await countsOf(gate, couponId)).toEqual({ stock: 4, pending: 1 });
  });

  test("and the gate is away, too: the caller is told what the queue said", async () => {
    const { gate, queues, issuer } = openIssuer();
    const couponId = await loadCoupon(gate);
    queues.fail("issue", new Overloaded());
    breakGate(gate, "settle", new StoreUnavailable());
    await expect(issuer.issue(requestOf(couponId), farMs)).rejects.toBeInstanceOf(Overloaded);
  });

  test("for a request that the gate has not let through: nothing is given back", async () => {
    const { gate, queues, issuer } = openIssuer();
    const couponId = await loadCoupon(gate);
    const request = { ...requestOf(couponId), requestId: "request" };
    await gate.admit(request);
    queues.fail("issue", new Overloaded());
    // The same request is being decided by another call, whose reservation this is.
    await expect(issuer.issue(request, farMs)).rejects.toBeInstanceOf(Overloaded);
    expect(await countsOf(gate, couponId)).toEqual({ stock: 4, pending: 1 });
  });
});

describe("what is submitted", () => {
  test("with a reservation may be decided until the caller's time or the reservation's is over", async () => {
    const { gate, queues, issuer } = openIssuer();
    const couponId = await loadCoupon(gate, { maxPerUser: 9 });
    const soonMs = Date.now() + 1_000;
    await issuer.issue(requestOf(couponId), soonMs);
    await issuer.issue(requestOf(couponId), farMs);
    const [first, second] = queues.submitted;
    expect(first).toMatchObject({ deadlineMs: soonMs, request: { untilMs: soonMs, reserved: true } });
    expect(second?.deadlineMs).toBeLessThanOrEqual(steadyMs() + reservationMs - settleMs);
    expect(second?.request).toMatchObject({ untilMs: second?.deadlineMs });
  });

  test("without one may be decided as long as the caller waits", async () => {
    const { queues, issuer } = openIssuer();
    await issuer.issue(requestOf("unknown"), farMs);
    expect(queues.submitted).toMatchObject([
      { queue: "issue", deadlineMs: farMs, request: { untilMs: farMs, reserved: false } },
    ]);
  });

  test("and names a code has a queue of its own", async () => {
    const { gate, queues, issuer } = openIssuer();
    const couponId = await loadCoupon(gate);
    await issuer.issue({ ...requestOf(couponId), codeId: 7 }, farMs);
    expect(queues.submitted.map(({ queue }) => queue)).toEqual(["issue-code"]);
  });
});

test.for([
  ["the same labels, in another order", { labels: { b: "2", a: "1" } }, "replayed"],
  ["other labels", { labels: { a: "1", b: "3" } }, "REQUEST_ID_REUSED"],
  ["no labels", { labels: null }, "REQUEST_ID_REUSED"],
  ["the type that the coupon has", { type: "FREE" }, "replayed"],
  ["the type that the coupon had", { type: "STANDARD" }, "REQUEST_ID_REUSED"],
] as const)("a repeated request with %s", async ([, repeated, outcome]) => {
  const { gate, issuer, userCoupons } = openIssuer();
  const couponId = await loadCoupon(gate);
  const request = { ...requestOf(couponId), requestId: "request" };
  const labels = { a: "1", b: "2" };
  const first = await issuer.issue({ ...request, labels }, farMs);
  if (first instanceof Refusal) throw new Error(first.reason);
  const coupon = { type: "FREE", expiresAt: new Date(farMs), revokedAt: null, exhaustedAt: null } as Coupon;
  userCoupons.get = async () => ({
    value: { userCoupon: first.userCoupon, coupon, requestId: "request" },
    now: new Date(),
  });
  const again = await issuer.issue({ ...request, labels, ...repeated }, farMs);
  expect(again instanceof Refusal ? again.reason : again.replayed && "replayed").toBe(outcome);
});

test("another request that has the same hash in the gate is decided by Postgres, and not answered with what the first one got", async () => {
  const { gate, queues, issuer, userCoupons } = openIssuer();
  const couponId = await loadCoupon(gate);
  const request = { ...requestOf(couponId), requestId: "request" };
  const first = await issuer.issue(request, farMs);
  if (first instanceof Refusal) throw new Error(first.reason);
  const coupon = { expiresAt: new Date(farMs), revokedAt: null, exhaustedAt: null } as Coupon;
  const value = { userCoupon: first.userCoupon, coupon, requestId: "another request" };
  userCoupons.get = async () => ({ value, now: new Date() });
  await issuer.issue(request, farMs);
  expect(queues.submitted).toMatchObject([
    { request: { requestId: "request" } },
    { request: { requestId: "request" } },
  ]);
});

test("what an issue says of the time is by Postgres' clock: its id, and how long a quota holds", async () => {
  const { gate, issuer, sent } = openIssuer();
  const couponId = await loadCoupon(gate);
  await issuer.issue(requestOf(couponId), farMs);
  expect(sent.flatMap(({ requests }) => requests.map(({ userCouponId }) => timeOf(userCouponId)))).toEqual([clockMs]);
  const refusing = openIssuer(() => refused("QUOTA_REACHED"));
  const answer = await refusing.issuer.issue(requestOf(await loadCoupon(refusing.gate)), farMs);
  expect(answer).toMatchObject({ reason: "QUOTA_REACHED", detail: { retryAfterMs: 5_400_000 } });
});

test("a quota that was reached at midnight is told to hold no longer than the day in which it was asked", async () => {
  let now = Date.parse("2026-03-04T23:59:59.999Z");
  const refusing = openIssuer(
    () => {
      now += 5;
      return refused("QUOTA_REACHED");
    },
    () => now,
  );
  const answer = await refusing.issuer.issue(requestOf(await loadCoupon(refusing.gate)), farMs);
  expect(answer).toMatchObject({ reason: "QUOTA_REACHED", detail: { retryAfterMs: 1 } });
});

test.for(["issue", "issue-code"])("a batch of the queue %s that is sent again says so to the store", async (name) => {
  const { queues, sent } = openIssuer();
  const { commit } = queues.optionsOf<QueuedRequest, IssueResult>(name);
  const requests = [{ ...requestOf("coupon"), reserved: true }];
  await commit(requests, false);
  await commit(requests, true);
  expect(sent).toEqual([
    { requests, again: false },
    { requests, again: true },
  ]);
});

test("past the gate only so many are let through at once, and each makes room for the next when it ends", async () => {
  const mostAtOnce = 2_000;
  let decideAll = () => {};
  const decided = new Promise<void>((resolve) => {
    decideAll = resolve;
  });
  const { issuer } = openIssuer(async (request) => {
    await decided;
    return issued(request);
  });
  const waiting = Array.from({ length: mostAtOnce }, () => issuer.issue(requestOf("unknown"), farMs));
  await expect(issuer.issue(requestOf("unknown"), farMs)).rejects.toBeInstanceOf(Overloaded);
  decideAll();
  await Promise.all(waiting);
  expect(await issuer.issue(requestOf("unknown"), farMs)).toMatchObject({ status: "READY" });
});

test("a code of which the gate knows that nothing is left is taken", async () => {
  const { gate, issuer } = openIssuer();
  const couponId = await loadCoupon(gate, { stock: 0 });
  expect(await issuer.issue({ ...requestOf(couponId), codeId: 7 }, farMs)).toMatchObject({ reason: "CODE_TAKEN" });
  expect(await issuer.issue(requestOf(couponId), farMs)).toMatchObject({ reason: "SOLD_OUT" });
});

test("what the locks held up for too long is told as what it is", async () => {
  const { issuer } = openIssuer((): IssueResult => ({ outcome: "TOO_LATE" }));
  await expect(issuer.issue(requestOf("unknown"), farMs)).rejects.toBeInstanceOf(Overloaded);
  await expect(issuer.issue(requestOf("unknown"), 1)).rejects.toBeInstanceOf(DeadlinePassed);
});

test("of a throttled coupon a call keeps the ticket that it has waited with, and Postgres is told that it has one", async () => {
  const { gate, issuer, sent } = openIssuer();
  const admit = vi.spyOn(gate, "admit").mockResolvedValueOnce({ outcome: "WAIT", waitMs: 1, ticket: 7 });
  admit.mockResolvedValueOnce({ outcome: "RESERVED", ticket: 7 });
  await issuer.issue(requestOf("throttled"), farMs);
  expect(admit.mock.calls.map(([{ ticket }]) => ticket)).toEqual([undefined, 7]);
  expect(sent).toMatchObject([{ requests: [{ hasTicket: true }] }]);
});

test("rows of one user and coupon, and of one request, never share a batch", () => {
  const { queues } = openIssuer();
  const { keysOf } = queues.optionsOf<QueuedRequest, IssueResult>("issue");
  const request = { couponId: "c", userCouponId: "x", reserved: true };
  const keys = [
    keysOf({ ...request, userId: "u", requestId: "" }),
    keysOf({ ...request, userId: "u", requestId: "r" }),
    keysOf({ ...request, userId: "v", requestId: "r" }),
  ];
  const shared = (a: number, b: number) => keys[a]?.some((key) => keys[b]?.includes(key));
  expect([shared(0, 1), shared(1, 2), shared(0, 2)]).toEqual([true, true, false]);
});

describe("what Postgres said is told to the gate at once", () => {
  const dropped = undefined;
  test.for([
    ["ISSUED: the unit is gone", issued, { stock: 4 }],
    ["too late: the unit is back", (): IssueResult => ({ outcome: "TOO_LATE" }), { stock: 5 }],
    ["QUOTA_REACHED: the unit is back; the gate may know less of quotas", () => refused("QUOTA_REACHED"), { stock: 5 }],
    ["SOLD_OUT: the copy was out of date, and is dropped", () => refused("SOLD_OUT"), dropped],
    ["COUPON_PAUSED: the same", () => refused("COUPON_PAUSED"), dropped],
  ] as const)("%s", async ([_, decide, counts]) => {
    const { gate, issuer } = openIssuer(decide);
    const couponId = await loadCoupon(gate);
    await issuer.issue(requestOf(couponId), farMs).catch(() => {});
    expect(await countsOf(gate, couponId)).toEqual(counts);
  });

  test("of a row that came past the gate: what was issued is counted, a refusal is not", async () => {
    const { gate, keeper } = openGate();
    const couponId = await loadCoupon(gate);
    const requests = [1, 2].map((n) => ({ ...requestOf(couponId), userId: `user-${n}`, reserved: false }));
    await settleBatch(gate, keeper, requests, [issued(requests[0] as IssueRequest), refused("SOLD_OUT")]);
    expect(await countsOf(gate, couponId)).toEqual({ stock: 4 });
  });

  test("TICKET_NEEDED where the gate knew of no throttle: the copy was out of date, and is dropped", async () => {
    const { gate, keeper } = openGate();
    const couponId = await loadCoupon(gate);
    const request = requestOf(couponId);
    await gate.admit(request);
    await settleBatch(gate, keeper, [{ ...request, reserved: true }], [{ outcome: "TICKET_NEEDED" }]);
    expect(await countsOf(gate, couponId)).toBeUndefined();
  });
});

test("a throttled coupon is not issued while the gate is away: only the gate keeps its queue", async () => {
  const { gate, issuer } = openIssuer(() => ({ outcome: "TICKET_NEEDED" }));
  gate.admit = () => Promise.reject(new StoreUnavailable());
  expect(await issuer.issue(requestOf("coupon"), farMs)).toEqual(new Refusal("STORE_UNAVAILABLE"));
});

test("those whom a throttle refuses are told to come again over the time that its queue is long, or a second", async () => {
  const { gate, issuer } = openIssuer();
  for (const [queueMs, spreadMs] of [
    [10_000, 10_000],
    [0, 1_000],
  ] as const) {
    gate.admit = async () => ({ outcome: "THROTTLED", waitMs: 50, queueMs });
    const answers = await Promise.all(Array.from({ length: 200 }, () => issuer.issue(requestOf("coupon"), farMs)));
    const hintsMs = answers.map((answer) => (answer as Refusal).detail.retryAfterMs as number);
    expect(Math.min(...hintsMs)).toBeGreaterThanOrEqual(50);
    expect(Math.max(...hintsMs)).toBeLessThan(50 + spreadMs);
    expect(Math.max(...hintsMs) - Math.min(...hintsMs)).toBeGreaterThan(spreadMs / 2);
  }
});
