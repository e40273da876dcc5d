import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import type { Coupon } from "../../../src/domain/coupon.js";
import { DeadlinePassed, Overloaded, Refusal, StoreUnavailable } from "../../../src/domain/refusal.js";
import { type ChosenCoupon, noStandingUses, type Order, type Usage } from "../../../src/domain/usage.js";
import type { UserCoupon } from "../../../src/domain/user-coupon.js";
import { settleMs } from "../../../src/issuing/issuer.js";
import { steadyMs } from "../../../src/platform/clock.js";
import type { LockRequest, LockResult, UsageStore, UseRequest, UseResult } from "../../../src/storage/ports/usages.js";
import { Checkout, settleUses } from "../../../src/using/checkout.js";
import { FailingQueues } from "./failing-queues.js";
import { breakGate, countsOf, loadCoupon, openGate } from "./gate.js";

const reservationMs = 5_000;
const farMs = Date.now() + 3_600_000;

/** Everybody holds one user coupon of each coupon, and its id is the coupon's. */
function chosenOf(couponId: string, revision: number, usageCap: number | null): ChosenCoupon {
  const kind = { case: "percentage", basisPoints: 1_000 } as const;
  const coupon = {
    ...{ id: couponId, revision, usageCap, placeCount: 0, expiresAt: new Date(farMs), revokedAt: null },
    ...{ exhaustedAt: null, stackable: true, discount: { kind, maximumAmount: null, minimumOrderAmount: null } },
  } as unknown as Coupon;
  const userCoupon = {
    ...{ id: couponId, couponId, userId: "user", issuedAt: new Date(), validUntil: null, maxUses: 1, useCount: 0 },
    ...{
      placeCount: 0,
      lockedUntil: null,
      claimUntil: null,
      releasedAt: null,
      code: null,
      discount: null,
      labels: null,
    },
  };
  return { userCoupon, coupon, lockVersion: 0, lockToken: null };
}

function used(request: UseRequest): UseResult {
  const { usageId: id, userCouponId, couponId, userId, productId, orderId, orderAmount, facts } = request;
  const amounts = { orderAmount, discountAmount: orderAmount, discountedBefore: 0 };
  const usage = { id, userCouponId, couponId, userId, productId, orderId, ...amounts };
  return {
    outcome: "USED",
    usage: { ...usage, usedAt: new Date(), cancelledAt: null, ...facts, labels: null, isComplete: true },
    placed: true,
    exhausted: false,
  };
}
const refused: UseResult = { outcome: "REFUSED", reason: "USAGE_CAP_REACHED" };
const orderOf = (...couponIds: string[]): Order => ({
  ...{ userId: "user", productId: "product", orderId: "order", amount: { currencyCode: "USD", minorUnits: 1_000 } },
  choices: couponIds.map((userCouponId) => ({ userCouponId, lockVersion: 0 })),
});

interface World {
  /** What Postgres says of a batch. */
  decide: (requests: readonly UseRequest[]) => UseResult[];
  /** As Postgres has it, of every coupon. */
  revision: number;
  usageCap: number | null;
  /** Of every user coupon. */
  held: Partial<UserCoupon>;
  lockToken: string | null;
  /** What an earlier call with the same request id has used. */
  earlier: readonly Usage[];
}

const nothing = { held: {}, lockToken: null, earlier: [] };

/** A checkout on the gate in memory. */
function openCheckout(changed: Partial<World> = {}) {
  const world: World = { decide: (requests) => requests.map(used), revision: 1, usageCap: 5, ...nothing, ...changed };
  const opened = openGate();
  const queues = new FailingQueues();
  const sent: { requests: readonly UseRequest[]; again: boolean; together: boolean }[] = [];
  const locked: LockRequest[] = [];
  const store: Partial<UsageStore> = {
    readChosen: async (requests) =>
      requests.map(({ userCouponId: id }) => {
        const { userCoupon, ...chosen } = chosenOf(id, world.revision, world.usageCap);
        const { held, lockToken } = world;
        const value = { ...chosen, userCoupon: { ...userCoupon, ...held }, lockToken, lockVersion: lockToken ? 1 : 0 };
        return { value, now: new Date(), standing: noStandingUses };
      }),
    useBatch: async (requests, options) => {
      sent.push({ requests, ...options });
      return world.decide(requests);
    },
    lockBatch: async (requests) => {
      locked.push(...requests);
      return requests.map(({ userCouponId }): LockResult => {
        return { outcome: "GRANTED", lock: { userCouponId, version: 1, until: new Date(farMs) } };
      });
    },
    ofRequest: async () => [...world.earlier],
  };
  const settleErrors: unknown[] = [];
  const checkout = new Checkout({
    ...opened,
    onSettleError: (error) => void settleErrors.push(error),
    store: store as UsageStore,
    reservationMs,
    openQueue: queues.open,
    batches: { use: 1, lock: 1 },
  });
  return { ...opened, queues, checkout, sent, locked, world, settleErrors };
}

type Opened = ReturnType<typeof openCheckout>;
async function placesOf({ gate }: Opened, remaining: number, revision = 1): Promise<string> {
  const couponId = randomUUID();
  await gate.loadPlaces(couponId, { revision, remaining });
  return couponId;
}
const fail = (error: Error) => () => {
  throw error;
};

describe("when one use fails in its queue", () => {
  const nothingDone = [
    { name: "which has too much to do", error: new Overloaded(), deadlineMs: farMs, said: Overloaded },
    { name: "where the place's time passes", error: new DeadlinePassed(), deadlineMs: farMs, said: Overloaded },
    { name: "where the caller's time passes", error: new DeadlinePassed(), deadlineMs: 1, said: DeadlinePassed },
    { name: "which chokes on it", error: new RangeError("no"), deadlineMs: farMs, said: RangeError },
  ];
  test.for(nothingDone)("$name: the place is given back at once", async ({ error, deadlineMs, said }) => {
    const opened = openCheckout();
    const couponId = await placesOf(opened, 5);
    opened.queues.fail("use", error);
    await expect(opened.checkout.use(orderOf(couponId), "", deadlineMs)).rejects.toBeInstanceOf(said);
    expect(await countsOf(opened.gate, couponId)).toEqual({ places: 5 });
  });

  test("which does not know what became of it: the place stays taken for the sweep", async () => {
    const opened = openCheckout();
    const couponId = await placesOf(opened, 5);
    opened.queues.fail("use", new StoreUnavailable());
    await expect(opened.checkout.use(orderOf(couponId), "", farMs)).rejects.toBeInstanceOf(StoreUnavailable);
    expect(await countsOf(opened.gate, couponId)).toEqual({ places: 4, taken: 1 });
  });

  test("and the gate is away, too: the caller is told what the queue said", async () => {
    const opened = openCheckout();
    const couponId = await placesOf(opened, 5);
    opened.queues.fail("use", new Overloaded());
    breakGate(opened.gate, "settlePlaces", new StoreUnavailable());
    await expect(opened.checkout.use(orderOf(couponId), "", farMs)).rejects.toBeInstanceOf(Overloaded);
  });
});

describe("an order of several", () => {
  test.for([
    ["that Postgres chokes on gives its places back at once", new RangeError("no"), { places: 5 }],
    ["whose outcome is not known keeps them for the sweep", new StoreUnavailable(), { places: 4, taken: 1 }],
  ] as const)("%s", async ([_, error, counts]) => {
    const opened = openCheckout({ decide: fail(error) });
    const [a, b] = [await placesOf(opened, 5), await placesOf(opened, 5)];
    await expect(opened.checkout.use(orderOf(a, b), "", farMs)).rejects.toBe(error);
    for (const id of [a, b]) expect(await countsOf(opened.gate, id)).toEqual(counts);
  });

  test("is used although the gate could not be told of it, which is reported", async () => {
    const opened = openCheckout();
    const [a, b] = [await placesOf(opened, 5), await placesOf(opened, 5)];
    const error = new RangeError("no such outcome");
    opened.gate.settlePlaces = () => Promise.reject(error);
    expect(await opened.checkout.use(orderOf(a, b), "", farMs)).toMatchObject({ usages: [{}, {}], replayed: false });
    expect(opened.settleErrors).toEqual([error]);
  });

  test("of which the gate turns one away gives back the places of the others", async () => {
    const opened = openCheckout();
    const [a, b] = [await placesOf(opened, 5), await placesOf(opened, 0)];
    const reason = "USAGE_CAP_REACHED";
    expect(await opened.checkout.use(orderOf(a, b), "", farMs)).toEqual(
      new Refusal(reason, [], undefined, { preconditions: [{ reason, field: "coupons[1]" }] }),
    );
    expect(opened.sent).toEqual([]);
    expect(await countsOf(opened.gate, a)).toEqual({ places: 5 });
  });

  test("of which one was edited meanwhile is judged anew, and its places are not lost", async () => {
    const opened = openCheckout();
    const { checkout, sent, world, gate } = opened;
    const [a, b] = [await placesOf(opened, 5), await placesOf(opened, 5)];
    world.decide = (requests) => {
      if (sent.length > 1) return requests.map(used);
      return [{ outcome: "CONSENT" }, { outcome: "STALE" }];
    };
    expect(await checkout.use(orderOf(a, b), "", farMs)).toMatchObject({ usages: [{}, {}], replayed: false });
    expect(sent).toMatchObject([
      { again: false, together: true },
      { again: false, together: true },
    ]);
    for (const id of [a, b]) expect(await countsOf(gate, id)).toEqual({ places: 4 });
  });

  test("that is edited without a pause is turned away in the end, and holds no place", async () => {
    const opened = openCheckout({ decide: (requests) => requests.map((): UseResult => ({ outcome: "STALE" })) });
    const [a, b] = [await placesOf(opened, 5), await placesOf(opened, 5)];
    await expect(opened.checkout.use(orderOf(a, b), "", farMs)).rejects.toBeInstanceOf(Overloaded);
    for (const id of [a, b]) expect(await countsOf(opened.gate, id)).toEqual({ places: 5 });
  });

  test("of which one came too late is nobody's any more", async () => {
    const opened = openCheckout({ decide: () => [{ outcome: "CONSENT" }, { outcome: "TOO_LATE" }] });
    const [a, b] = [await placesOf(opened, 5), await placesOf(opened, 5)];
    await expect(opened.checkout.use(orderOf(a, b), "", farMs)).rejects.toBeInstanceOf(Overloaded);
    for (const id of [a, b]) expect(await countsOf(opened.gate, id)).toEqual({ places: 5 });
  });
});

describe("a use may be decided", () => {
  test("with a place until the caller's time or the place's is over", async () => {
    const opened = openCheckout();
    const { checkout, queues } = opened;
    const couponId = await placesOf(opened, 5);
    const soonMs = Date.now() + 1_000;
    await checkout.use(orderOf(couponId), "", soonMs);
    await checkout.use(orderOf(couponId), "", farMs);
    const [first, second] = queues.submitted.filter(({ queue }) => queue === "use");
    expect(first).toMatchObject({ deadlineMs: soonMs, request: { untilMs: soonMs, placeTaken: true } });
    expect(second?.deadlineMs).toBeLessThanOrEqual(steadyMs() + reservationMs - settleMs);
    expect(second?.request).toMatchObject({ untilMs: second?.deadlineMs });
  });

  test.for([
    ["whose places are not known", 5],
    ["without a usage cap", null],
  ] as const)("of a coupon %s as long as the caller waits", async ([_, usageCap]) => {
    const { checkout, queues } = openCheckout({ usageCap });
    await checkout.use(orderOf(randomUUID()), "", farMs);
    expect(queues.submitted.at(-1)).toMatchObject({
      deadlineMs: farMs,
      request: { untilMs: farMs, placeTaken: false },
    });
  });
});

test("a repeated use for which the gate has no place left gets what the first one got", async () => {
  const opened = openCheckout();
  const couponId = await placesOf(opened, 0);
  const order = orderOf(couponId);
  const { userId, productId, orderId, amount: orderAmount } = order;
  const usage = { userCouponId: couponId, userId, productId, orderId, orderAmount, labels: null, isComplete: true };
  opened.world.earlier = [usage as unknown as Usage];
  expect(await opened.checkout.use(order, "request", farMs)).toEqual({ usages: [usage], replayed: true });
  expect(await opened.checkout.use(order, "", farMs)).toMatchObject({ reason: "USAGE_CAP_REACHED" });
});

test("a use that has kept its place asks the gate for none", async () => {
  const opened = openCheckout({ held: { placeCount: 1 } });
  const couponId = await placesOf(opened, 0);
  expect(await opened.checkout.use(orderOf(couponId), "", farMs)).toMatchObject({ usages: [{}] });
});

test("places that the gate does not know are loaded for the next use", async () => {
  const { checkout, keeper } = openCheckout();
  const loaded: string[] = [];
  keeper.loadPlaces = (couponId) => void loaded.push(couponId);
  const couponId = randomUUID();
  await checkout.use(orderOf(couponId), "", farMs);
  expect(loaded).toEqual([couponId]);
});

describe("a lock", () => {
  test("that names no request is nobody else's", async () => {
    const { checkout, locked } = openCheckout();
    for (let n = 0; n < 2; n++) await checkout.lock(orderOf(randomUUID()), "", farMs);
    const [first, second] = locked.map(({ token }) => token);
    expect(first).not.toBe("");
    expect(second).not.toBe(first);
  });

  test("is asked for again by the request that has it, and by no other", async () => {
    const { checkout } = openCheckout({ held: { lockedUntil: new Date(farMs) }, lockToken: "request" });
    expect(await checkout.lock(orderOf(randomUUID()), "request", farMs)).toMatchObject([{ version: 1 }]);
    expect(await checkout.lock(orderOf(randomUUID()), "another", farMs)).toMatchObject({ reason: "LOCKED" });
  });
});

test("uses of one order or one request, and locks of one order, never share a batch", () => {
  const { queues } = openCheckout();
  const uses = queues.optionsOf<UseRequest, UseResult>("use");
  const locks = queues.optionsOf<LockRequest, LockResult>("lock");
  const request = (userId: string, orderId: string, requestId = "") => ({ userId, orderId, requestId }) as UseRequest;
  const shared = (keysOf: (one: UseRequest) => readonly string[], a: UseRequest, b: UseRequest) =>
    keysOf(a).some((key) => keysOf(b).includes(key));
  for (const keysOf of [uses.keysOf, (one: UseRequest) => locks.keysOf(one as unknown as LockRequest)]) {
    expect(shared(keysOf, request("u", "o"), request("u", "o"))).toBe(true);
    expect(shared(keysOf, request("u", "o"), request("v", "o"))).toBe(false);
    expect(shared(keysOf, request("u", ""), request("u", ""))).toBe(false);
  }
  expect(shared(uses.keysOf, request("u", "o", "r"), request("v", "p", "r"))).toBe(true);
});

test("a batch of uses that is sent again says so to the store", async () => {
  const { queues, sent } = openCheckout();
  const { commit } = queues.optionsOf<UseRequest, UseResult>("use");
  await commit([], false);
  await commit([], true);
  expect(sent.map(({ again, together }) => [again, together])).toEqual([
    [false, false],
    [true, false],
  ]);
});

describe("what Postgres said is told to the gate at once", () => {
  const asUsed = (changed: object) => (requests: readonly UseRequest[]) =>
    requests.map((request) => ({ ...used(request), ...changed }) as UseResult);
  const dropped = undefined;
  test.for([
    ["USED: the place is gone", asUsed({}), { places: 4 }],
    ["USED with a place that a cancelled use had left: the new one is back", asUsed({ placed: false }), { places: 5 }],
    ["the cap is reached: the coupon is read anew, for issuing stops", asUsed({ exhausted: true }), dropped],
    ["refused by the cap: the copy was out of date", () => [refused], dropped],
    [
      "refused otherwise: the place is back",
      (): UseResult[] => [{ outcome: "REFUSED", reason: "ALREADY_USED" }],
      { places: 5 },
    ],
    ["REPLAYED: the place is back", (): UseResult[] => [{ outcome: "REPLAYED" }], { places: 5 }],
  ] as const)("%s", async ([_, decide, counts]) => {
    const opened = openCheckout({ decide });
    const couponId = await placesOf(opened, 5);
    await opened.checkout.use(orderOf(couponId), "", farMs).catch(() => {});
    expect(await countsOf(opened.gate, couponId)).toEqual(counts);
  });

  test("of a use that had no place at the gate: a cap that it reached, and nothing else", async () => {
    const { gate, keeper } = openGate();
    const couponIds = [await loadCoupon(gate), await loadCoupon(gate)];
    const requests = couponIds.map(
      (couponId) => ({ couponId, usageId: randomUUID(), placeTaken: false }) as UseRequest,
    );
    await settleUses(gate, keeper, requests, [
      { ...used(requests[0] as UseRequest), exhausted: true } as UseResult,
      refused,
    ]);
    expect(await Promise.all(couponIds.map((id) => countsOf(gate, id)))).toEqual([undefined, { stock: 5 }]);
  });
});
