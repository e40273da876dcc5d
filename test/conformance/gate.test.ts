import { randomUUID } from "node:crypto";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { packHoldings } from "../../src/reservation/packed-holdings.js";
import {
  type AdmissionOutcome,
  admissionOutcomes,
  defaultReservationMs,
  type GateFacts,
  type GateRequest,
  type Holding,
  keepEndedMs,
  loadStepTimeoutMs,
} from "../../src/reservation/port.js";
import { until } from "../support/until.js";
import {
  holdingOf,
  implementations,
  load,
  openFacts,
  type RedisSubject,
  requestOf,
  type Subject,
  startRedisSubject,
} from "./implementations.js";

const hourMs = 3_600_000;
/** What a survey says of a coupon with which nothing is under way and no places are known. */
const quiet = { pendingCount: 0, overdue: [], places: null, takenCount: 0, overdueUsageIds: [] };

describe.each(implementations)("$name", ({ start }) => {
  let subject: Subject;
  let couponId: string;

  const quotaGroups = new Map<string, string>();

  beforeEach(async () => {
    subject = await start({ quotaGroupOf: async (id) => quotaGroups.get(id) ?? null });
    couponId = randomUUID();
  });
  afterEach(() => subject.close());

  const facts = (changed: Partial<GateFacts> = {}) => openFacts(subject.now(), changed);
  const request = (userId: string, requestId = "") => requestOf(couponId, userId, requestId);
  const admit = async (one: GateRequest): Promise<AdmissionOutcome> => (await subject.gate.admit(one)).outcome;
  const reserved = async (userId: string, requestId = ""): Promise<GateRequest> => {
    const one = request(userId, requestId);
    expect(await admit(one)).toBe("RESERVED");
    return one;
  };
  const confirm = (one: GateRequest, validUntil: Date | null = null) =>
    subject.gate.settle([{ ...one, outcome: "CONFIRM", validUntil }]);
  const release = (one: GateRequest) => subject.gate.settle([{ ...one, outcome: "RELEASE" }]);
  const surveyed = async () => (await subject.gate.survey(1_000, 1_000)).find((one) => one.couponId === couponId);
  const stock = async () => {
    const found = await surveyed();
    if (!found?.loaded) throw new Error("the coupon is not loaded");
    return found.loaded.stock;
  };
  const pendingCount = async () => (await surveyed())?.pendingCount ?? 0;

  describe("admit", () => {
    /** Everything that can speak against a request, in the order in which it is checked. */
    const throttle = { maxConcurrent: 0, maxPerSecond: 1, maxWaitMs: 0 };
    const obstacles: {
      outcome: AdmissionOutcome;
      facts?: (nowMs: number) => Partial<GateFacts>;
      held?: true;
      spent?: true;
    }[] = [
      { outcome: "COUPON_NOT_FOUND", facts: () => ({ deleted: true }) },
      { outcome: "COUPON_PAUSED", facts: () => ({ paused: true }) },
      { outcome: "COUPON_NOT_STARTED", facts: (nowMs) => ({ startsAt: new Date(nowMs + hourMs) }) },
      { outcome: "COUPON_ENDED", facts: (nowMs) => ({ expiresAt: new Date(nowMs - 1_000) }) },
      { outcome: "USAGE_CAP_REACHED", facts: () => ({ exhausted: true }) },
      { outcome: "ALREADY_ISSUED", held: true },
      { outcome: "QUOTA_REACHED", facts: () => ({ quota: { group: "g", maxPerDay: 1 } }), spent: true },
      { outcome: "SOLD_OUT", facts: () => ({ stock: 0 }) },
      { outcome: "THROTTLED", facts: () => ({ throttle }) },
      { outcome: "WAIT", facts: () => ({ throttle: { ...throttle, maxWaitMs: 5_000 } }) },
    ];
    /** Today u was issued another coupon of the quota group. */
    const spend = async ({ spent }: { spent?: true }) => {
      if (!spent) return;
      const other = randomUUID();
      quotaGroups.set(couponId, "g").set(other, "g");
      await confirm(requestOf(other, "u"));
    };
    const pairs = obstacles.flatMap((first, index) =>
      obstacles.slice(index).map((second) => ({
        first,
        second,
        name: first === second ? first.outcome : `${first.outcome} and ${second.outcome}`,
      })),
    );

    test.each(pairs)("$name: the first in order is the answer", async ({ first, second }) => {
      const nowMs = subject.now();
      for (const one of [first, second]) await spend(one);
      const holdings = first.held || second.held ? [holdingOf(request("u"))] : [];
      await load(subject, couponId, facts({ ...second.facts?.(nowMs), ...first.facts?.(nowMs) }), holdings);
      expect(await admit(request("u"))).toBe(first.outcome);
    });

    test.each(obstacles)("a repeated request is answered before $outcome", async (obstacle) => {
      const first = request("u", "r");
      await spend(obstacle);
      await load(subject, couponId, facts(obstacle.facts?.(subject.now())), [holdingOf(first)]);
      expect(await subject.gate.admit(request("u", "r"))).toEqual({
        outcome: "REPLAY",
        userCouponId: first.userCouponId,
      });
    });

    test.each(obstacles)("a request that is being decided is IN_FLIGHT before $outcome", async (obstacle) => {
      await spend(obstacle);
      await load(subject, couponId, facts());
      await reserved("u", "r");
      await load(subject, couponId, facts(obstacle.facts?.(subject.now())));
      expect(await admit(request("u", "r"))).toBe("IN_FLIGHT");
    });

    // In a queue nobody is refused for good: when its turn comes, Postgres knows the request.
    const refusals = obstacles.filter(({ outcome }) => outcome !== "THROTTLED" && outcome !== "WAIT");
    test.each(refusals)(
      "a request whose user coupon was given back is GIVEN_BACK before $outcome",
      async (obstacle) => {
        await spend(obstacle);
        const holdings = obstacle.held ? [holdingOf(request("u"))] : [];
        const changed = facts(obstacle.facts?.(subject.now()));
        await load(subject, couponId, changed, holdings, [request("u", "r"), request("v", "other")]);
        expect(await admit(request("u", "r"))).toBe("GIVEN_BACK");
        for (const requestId of ["", "other"]) expect(await admit(request("u", requestId))).toBe(obstacle.outcome);
      },
    );

    test("NOT_LOADED for an unknown coupon, and nothing is kept of the request", async () => {
      expect(await admit(request("u"))).toBe("NOT_LOADED");
      expect(await surveyed()).toBeUndefined();
    });

    test("every outcome of the port is answered somewhere in this suite", () => {
      const seen = new Set([
        "RESERVED",
        "REPLAY",
        "IN_FLIGHT",
        "GIVEN_BACK",
        "UNDECIDED",
        "NOT_LOADED",
        ...obstacles.map(({ outcome }) => outcome),
      ]);
      expect([...seen].sort()).toEqual([...admissionOutcomes].sort());
    });

    test("the window opens and closes by the clock", async () => {
      const nowMs = subject.now();
      const window = { startsAt: new Date(nowMs + 60_000), expiresAt: new Date(nowMs + 120_000) };
      await load(subject, couponId, facts(window));
      expect(await admit(request("u"))).toBe("COUPON_NOT_STARTED");
      await subject.advance(90_000);
      expect(await admit(request("u"))).toBe("RESERVED");
      await subject.advance(60_000);
      expect(await admit(request("v"))).toBe("COUPON_ENDED");
    });

    test("each reservation takes one; the last unit goes to the first who asks", async () => {
      await load(subject, couponId, facts({ stock: 2 }));
      await reserved("a");
      expect(await stock()).toBe(1);
      await reserved("b");
      expect(await stock()).toBe(0);
      expect(await admit(request("c"))).toBe("UNDECIDED");
      expect(await stock()).toBe(0);
      expect(await pendingCount()).toBe(2);
    });

    test("nobody is told SOLD_OUT before the last units are decided: one may come back", async () => {
      await load(subject, couponId, facts({ stock: 2 }));
      const [a, b] = [await reserved("a"), await reserved("b")];
      await confirm(a);
      expect(await admit(request("c"))).toBe("UNDECIDED");
      await release(b);
      const c = await reserved("c");
      expect(await admit(request("b"))).toBe("UNDECIDED");
      await confirm(c);
      expect(await admit(request("b"))).toBe("SOLD_OUT");
      expect(await surveyed()).toMatchObject({ loaded: { stock: 0 }, pendingCount: 0 });
    });

    test("what is pending since before a reload makes stock undecided, too", async () => {
      await load(subject, couponId, facts({ stock: 1 }));
      const one = await reserved("a");
      await load(subject, couponId, facts({ stock: 1, revision: 2 }));
      expect(await admit(request("b"))).toBe("UNDECIDED");
      await release(one);
      expect(await admit(request("b"))).toBe("RESERVED");
    });

    test("refused asks change nothing", async () => {
      const held = request("u", "r");
      await load(subject, couponId, facts({ paused: true }), [holdingOf(held)]);
      for (const one of [request("u", "r"), request("u"), request("v")]) await admit(one);
      expect(await stock()).toBe(10);
      expect(await pendingCount()).toBe(0);
    });

    test("unlimited stock never ends", async () => {
      await load(subject, couponId, facts({ stock: null }));
      const one = await reserved("a");
      for (let n = 0; n < 20; n++) await reserved(`user-${n}`);
      expect(await stock()).toBeNull();
      await release(one);
      await confirm(request("somebody"));
      expect(await stock()).toBeNull();
      expect(await pendingCount()).toBe(20);
    });

    test("a user with a reservation that is undecided is IN_FLIGHT, not refused", async () => {
      await load(subject, couponId, facts());
      const one = await reserved("u", "r1");
      expect(await admit(request("u", "r2"))).toBe("IN_FLIGHT");
      expect(await admit(request("u"))).toBe("IN_FLIGHT");
      await confirm(one);
      expect(await admit(request("u", "r2"))).toBe("ALREADY_ISSUED");
    });

    test("max_per_user counts decided and undecided ones; only decided ones refuse", async () => {
      await load(subject, couponId, facts({ maxPerUser: 3 }), [holdingOf(request("u")), holdingOf(request("u"))]);
      const third = await reserved("u");
      expect(await admit(request("u"))).toBe("IN_FLIGHT");
      await confirm(third);
      expect(await admit(request("u"))).toBe("ALREADY_ISSUED");
      expect(await stock()).toBe(9);
    });

    test("a user who holds more than a lowered max_per_user is refused", async () => {
      await load(subject, couponId, facts({ maxPerUser: 1 }), [holdingOf(request("u")), holdingOf(request("u"))]);
      expect(await admit(request("u"))).toBe("ALREADY_ISSUED");
    });

    test("an expired holder gives way, whether loaded or confirmed here", async () => {
      const validUntil = new Date(subject.now() + 60_000);
      await load(subject, couponId, facts(), [holdingOf(request("loaded"), validUntil)]);
      await confirm(await reserved("confirmed"), validUntil);
      expect([await admit(request("loaded")), await admit(request("confirmed"))]).toEqual([
        "ALREADY_ISSUED",
        "ALREADY_ISSUED",
      ]);
      await subject.advance(90_000);
      expect([await admit(request("loaded")), await admit(request("confirmed"))]).toEqual(["RESERVED", "RESERVED"]);
      expect(await stock()).toBe(7);
    });

    test("the request of an expired holder is replayed still", async () => {
      const first = request("u", "r");
      await load(subject, couponId, facts(), [holdingOf(first, new Date(subject.now() - 1_000))]);
      expect(await subject.gate.admit(request("u", "r"))).toEqual({
        outcome: "REPLAY",
        userCouponId: first.userCouponId,
      });
    });

    test("a reservation goes from IN_FLIGHT to REPLAY when it is confirmed, and is free again when released", async () => {
      await load(subject, couponId, facts());
      const [kept, given] = [await reserved("a", "ra"), await reserved("b", "rb")];
      expect([await admit(request("a", "ra")), await admit(request("b", "rb"))]).toEqual(["IN_FLIGHT", "IN_FLIGHT"]);
      await confirm(kept);
      await release(given);
      expect(await subject.gate.admit(request("a", "ra"))).toEqual({
        outcome: "REPLAY",
        userCouponId: kept.userCouponId,
      });
      expect(await admit(request("b", "rb"))).toBe("RESERVED");
    });

    test("users whose ids are parts of one another's are told apart, also where all share a bucket", async () => {
      const ids = ["u", "u1", "u11", "xu1", "1", "u1u1", "\u{1f600}u1"];
      const validUntil = new Date(subject.now() + 60_000);
      const [held, later, ...others] = ids.map((id, n) => request(id, n % 2 ? `r ${id}` : ""));
      if (!held || !later) throw new Error("too few");
      await load(subject, couponId, facts({ bucketCount: 1, stock: 20 }), [
        holdingOf(held),
        holdingOf(later, validUntil),
      ]);
      for (const one of others) expect(await admit(request(one.userId))).toBe("RESERVED");
      for (const one of others) expect(await admit(request(one.userId))).toBe("IN_FLIGHT");
      for (const one of [held, later]) expect(await admit(request(one.userId))).toBe("ALREADY_ISSUED");
      expect(await subject.gate.admit(later)).toEqual({ outcome: "REPLAY", userCouponId: later.userCouponId });
      await subject.gate.settle([{ ...later, outcome: "RETURN" }]);
      expect(await stock()).toBe(20 - others.length + 1);
      expect(await admit(request(held.userId))).toBe("ALREADY_ISSUED");
      expect(await admit(request(later.userId))).toBe("RESERVED");
    });

    test("a request id belongs to one user and one coupon; no request id is never a repetition", async () => {
      const other = randomUUID();
      await load(subject, couponId, facts({ maxPerUser: 2 }), [holdingOf(request("u", "r")), holdingOf(request("v"))]);
      await load(subject, other, facts());
      expect(await admit(request("w", "r"))).toBe("RESERVED");
      expect(await admit(requestOf(other, "u", "r"))).toBe("RESERVED");
      expect(await admit(request("v"))).toBe("RESERVED");
    });

    test("user ids and request ids are taken literally", async () => {
      // Quotes, pattern characters of Lua, separators of the program's own keys, other scripts, one that looks like a field.
      const strange = ["%a+", "a:b", "{x}", "' OR 1=1", "ü—漢🎟", "stock", "0", " ", "C", "P"];
      await load(subject, couponId, facts({ stock: 100 }));
      for (const text of strange) {
        const requestId = /^[!-~]+$/.test(text) ? text : "";
        const one = await reserved(text, requestId);
        await confirm(one);
        expect(await admit(request(text))).toBe("ALREADY_ISSUED");
        if (requestId) expect((await subject.gate.admit(request(text, requestId))).userCouponId).toBe(one.userCouponId);
      }
      expect(await stock()).toBe(100 - strange.length);
    });

    test("requests of one user in the same tick see each other", async () => {
      await load(subject, couponId, facts({ maxPerUser: 2 }));
      const requests = [
        request("u", "r1"),
        request("u", "r1"),
        request("u", "r2"),
        request("u", "r3"),
        request("v", "r4"),
      ];
      const outcomes = (await Promise.all(requests.map((one) => subject.gate.admit(one)))).map(
        ({ outcome }) => outcome,
      );
      expect(outcomes).toEqual(["RESERVED", "IN_FLIGHT", "RESERVED", "IN_FLIGHT", "RESERVED"]);
      expect(await stock()).toBe(7);
      expect(await pendingCount()).toBe(3);
    });

    test("requests of a user in one tick after an expired holder take one each, and no more", async () => {
      const expired = holdingOf(request("u", "old"), new Date(subject.now() - 1_000));
      await load(subject, couponId, facts({ maxPerUser: 2 }), [expired]);
      const requests = [request("u"), request("u"), request("u")];
      const outcomes = (await Promise.all(requests.map((one) => subject.gate.admit(one)))).map(
        ({ outcome }) => outcome,
      );
      expect(outcomes).toEqual(["RESERVED", "RESERVED", "IN_FLIGHT"]);
      expect(await stock()).toBe(8);
    });

    test("300 requests in one tick are served in order, past the size of one script call", async () => {
      await load(subject, couponId, facts({ stock: 200 }));
      const requests = Array.from({ length: 300 }, (_, n) => request(`user-${n}`, `request-${n}`));
      const outcomes = (await Promise.all(requests.map((one) => subject.gate.admit(one)))).map(
        ({ outcome }) => outcome,
      );
      expect(outcomes).toEqual(requests.map((_, n) => (n < 200 ? "RESERVED" : "UNDECIDED")));
      expect(await stock()).toBe(0);
      expect(await pendingCount()).toBe(200);

      await subject.gate.settle(
        requests.map((one, n) =>
          n % 2 === 0 ? { ...one, outcome: "CONFIRM", validUntil: null } : { ...one, outcome: "RELEASE" },
        ),
      );
      // Of 200 reserved, 100 were given back; of the 100 refused, 50 turned out to be issued past the gate.
      expect(await stock()).toBe(100 - 50);
      expect(await pendingCount()).toBe(0);
    });

    test("coupons asked for in the same tick do not touch each other", async () => {
      const other = randomUUID();
      await load(subject, couponId, facts({ stock: 1 }));
      await load(subject, other, facts({ stock: 0 }));
      const requests = [request("u"), requestOf(other, "u"), requestOf(randomUUID(), "u"), request("v")];
      const outcomes = (await Promise.all(requests.map((one) => subject.gate.admit(one)))).map(
        ({ outcome }) => outcome,
      );
      expect(outcomes).toEqual(["RESERVED", "SOLD_OUT", "NOT_LOADED", "UNDECIDED"]);
    });
  });

  describe("settle", () => {
    test("a confirmation keeps the unit and counts once however often it comes", async () => {
      await load(subject, couponId, facts());
      const one = await reserved("u");
      for (let n = 0; n < 3; n++) await confirm(one);
      expect(await stock()).toBe(9);
      expect(await pendingCount()).toBe(0);
    });

    test("a release gives the unit back once however often it comes", async () => {
      await load(subject, couponId, facts());
      const one = await reserved("u");
      for (let n = 0; n < 3; n++) await release(one);
      expect(await stock()).toBe(10);
      expect(await pendingCount()).toBe(0);
      expect(await admit(request("u"))).toBe("RESERVED");
    });

    test("a release of what was never reserved is void", async () => {
      await load(subject, couponId, facts(), [holdingOf(request("u"))]);
      await release(request("u"));
      await release(request("v"));
      expect(await stock()).toBe(10);
      expect(await admit(request("u"))).toBe("ALREADY_ISSUED");
    });

    test("a release after the confirmation is void", async () => {
      await load(subject, couponId, facts());
      const one = await reserved("u");
      await confirm(one);
      await release(one);
      expect(await stock()).toBe(9);
      expect(await admit(request("u"))).toBe("ALREADY_ISSUED");
    });

    test("a confirmation after the release is adopted: the row came later than the sweep looked", async () => {
      await load(subject, couponId, facts());
      const one = await reserved("u");
      await release(one);
      for (let n = 0; n < 2; n++) await confirm(one);
      expect(await stock()).toBe(9);
      expect(await admit(request("u"))).toBe("ALREADY_ISSUED");
    });

    test("a confirmation of what came past the gate is adopted, once", async () => {
      await load(subject, couponId, facts());
      const one = request("u", "r");
      for (let n = 0; n < 2; n++) await confirm(one);
      expect(await stock()).toBe(9);
      expect(await subject.gate.admit(request("u", "r"))).toEqual({
        outcome: "REPLAY",
        userCouponId: one.userCouponId,
      });
    });

    test("confirmations past the gate take stock that is not there: nobody is let through until it is even", async () => {
      await load(subject, couponId, facts({ stock: 1 }));
      const one = await reserved("a");
      await confirm(request("b"));
      expect(await stock()).toBe(-1);
      await release(one);
      expect(await stock()).toBe(0);
      expect(await admit(request("c"))).toBe("SOLD_OUT");
    });

    test("one of several reservations of a user is settled without harm to the others", async () => {
      await load(subject, couponId, facts({ maxPerUser: 3 }));
      const [a, b] = [await reserved("u", "ra"), await reserved("u", "rb"), await reserved("u", "rc")];
      await release(a);
      await confirm(b);
      expect(await subject.gate.admit(request("u", "rb"))).toEqual({
        outcome: "REPLAY",
        userCouponId: b.userCouponId,
      });
      expect(await admit(request("u", "rc"))).toBe("IN_FLIGHT");
      expect(await admit(request("u", "ra"))).toBe("RESERVED");
      expect(await stock()).toBe(7);
    });

    test("of a coupon that is not known it only ends the reservation", async () => {
      await load(subject, couponId, facts());
      const [kept, given] = [await reserved("a"), await reserved("b")];
      await subject.gate.invalidate(couponId);
      await confirm(kept);
      await release(given);
      expect(await admit(request("a"))).toBe("NOT_LOADED");
      expect(await surveyed()).toBeUndefined();
      await load(subject, couponId, facts({ stock: 9 }), [holdingOf(kept)]);
      expect(await stock()).toBe(9);
      expect([await admit(request("a")), await admit(request("b"))]).toEqual(["ALREADY_ISSUED", "RESERVED"]);
    });

    test("settlements of several coupons come in one call", async () => {
      const other = randomUUID();
      await load(subject, couponId, facts());
      await load(subject, other, facts());
      const here = await reserved("u");
      const there = requestOf(other, "u");
      await subject.gate.admit(there);
      await subject.gate.settle([
        { ...here, outcome: "RELEASE" },
        { ...there, outcome: "CONFIRM", validUntil: null },
      ]);
      expect([await admit(request("u")), await admit(requestOf(other, "u"))]).toEqual(["RESERVED", "ALREADY_ISSUED"]);
    });

    test("none at all is fine", async () => {
      await expect(subject.gate.settle([])).resolves.toBeUndefined();
    });
  });

  describe("load", () => {
    test("makes the coupon known as it was read", async () => {
      const updatedAt = new Date(1_700_000_000_123);
      await load(subject, couponId, facts({ revision: 7, updatedAt, stock: 3, givenBackTotal: 4 }));
      const loaded = { revision: 7, updatedAt, stock: 3, givenBackTo: 4 };
      expect(await surveyed()).toEqual({ ...quiet, couponId, loaded });
    });

    test("takes holders in several steps", async () => {
      const loading = await subject.gate.beginLoad(couponId);
      for (const userId of ["a", "b", "c"])
        expect(await loading?.addHoldings(packHoldings([holdingOf(request(userId))]))).toBe(true);
      expect(await loading?.install(facts())).toBe(true);
      for (const userId of ["a", "b", "c"]) expect(await admit(request(userId))).toBe("ALREADY_ISSUED");
      expect(await stock()).toBe(10);
    });

    test("does not make the coupon known before it is complete", async () => {
      const loading = await subject.gate.beginLoad(couponId);
      await loading?.addHoldings(packHoldings([holdingOf(request("a"))]));
      expect(await admit(request("b"))).toBe("NOT_LOADED");
    });

    test("a second loader is refused until the first is done", async () => {
      const first = await subject.gate.beginLoad(couponId);
      expect(await subject.gate.beginLoad(couponId)).toBeNull();
      expect(await first?.install(facts())).toBe(true);
      expect(await subject.gate.beginLoad(couponId)).not.toBeNull();
    });

    test("loads of different coupons run side by side", async () => {
      await subject.gate.beginLoad(couponId);
      expect(await subject.gate.beginLoad(randomUUID())).not.toBeNull();
    });

    test("invalidate forgets the coupon and its holders", async () => {
      await load(subject, couponId, facts(), [holdingOf(request("a"))]);
      await subject.gate.invalidate(couponId);
      expect(await admit(request("a"))).toBe("NOT_LOADED");
      await load(subject, couponId, facts());
      expect(await admit(request("a"))).toBe("RESERVED");
    });

    test("invalidate cancels a load under way: what it read may be out of date", async () => {
      const loading = await subject.gate.beginLoad(couponId);
      await loading?.addHoldings(packHoldings([holdingOf(request("a"))]));
      await subject.gate.invalidate(couponId);
      expect(await loading?.addHoldings(packHoldings([holdingOf(request("b"))]))).toBe(false);
      expect(await loading?.install(facts())).toBe(false);
      expect(await admit(request("c"))).toBe("NOT_LOADED");
    });

    test("a cancelled load says so for an empty page of holders, too", async () => {
      const loading = await subject.gate.beginLoad(couponId);
      await subject.gate.invalidate(couponId);
      expect(await loading?.addHoldings([])).toBe(false);
    });

    test("after invalidate the next loader need not wait, and nothing of the cancelled load is left", async () => {
      const cancelled = await subject.gate.beginLoad(couponId);
      await cancelled?.addHoldings(packHoldings([holdingOf(request("a"))]));
      await subject.gate.invalidate(couponId);
      await load(subject, couponId, facts());
      expect(await cancelled?.install(facts({ revision: 99 }))).toBe(false);
      expect(await admit(request("a"))).toBe("RESERVED");
      expect((await surveyed())?.loaded?.revision).toBe(1);
    });

    test("a loader that hangs is replaced after the step timeout, and can do no harm when it wakes", async () => {
      const hung = await subject.gate.beginLoad(couponId);
      await hung?.addHoldings(packHoldings([holdingOf(request("a"))]));
      await subject.advance(loadStepTimeoutMs + 1_000);
      const next = await subject.gate.beginLoad(couponId);
      expect(next).not.toBeNull();
      expect(await hung?.addHoldings(packHoldings([holdingOf(request("b"))]))).toBe(false);
      expect(await hung?.install(facts({ revision: 99 }))).toBe(false);
      expect(await next?.install(facts({ revision: 2 }))).toBe(true);
      expect((await surveyed())?.loaded?.revision).toBe(2);
      expect([await admit(request("a")), await admit(request("b"))]).toEqual(["RESERVED", "RESERVED"]);
    });

    test("the timeout is for a step: a load that goes on is not replaced, however long it takes", async () => {
      const loading = await subject.gate.beginLoad(couponId);
      for (let n = 0; n < 3; n++) {
        await subject.advance(loadStepTimeoutMs - 1_000);
        expect(await loading?.addHoldings(packHoldings([holdingOf(request(`user-${n}`))]))).toBe(true);
      }
      await subject.advance(loadStepTimeoutMs - 1_000);
      expect(await subject.gate.beginLoad(couponId)).toBeNull();
      expect(await loading?.install(facts())).toBe(true);
    });

    describe.each([
      { loaded: false, what: "a coupon that was not known" },
      { loaded: true, what: "a coupon that is known already" },
    ])("of $what", ({ loaded }) => {
      beforeEach(async () => {
        if (loaded) await load(subject, couponId, facts());
      });

      test.each([
        { seen: true, when: "before Postgres was read" },
        { seen: false, when: "after Postgres was read" },
      ])("counts a confirmation during the load once, when its row was committed $when", async ({ seen }) => {
        const loading = await subject.gate.beginLoad(couponId);
        const one = request("u", "r");
        if (seen) await confirm(one);
        // The store's answer: with the row, or without it.
        const holdings: Holding[] = seen ? [holdingOf(one)] : [];
        await loading?.addHoldings(packHoldings([holdingOf(request("x")), ...holdings]));
        if (!seen) for (let n = 0; n < 2; n++) await confirm(one);
        await loading?.install(facts({ stock: seen ? 4 : 5 }));
        expect(await stock()).toBe(4);
        expect(await subject.gate.admit(request("u", "r"))).toEqual({
          outcome: "REPLAY",
          userCouponId: one.userCouponId,
        });
        await confirm(one);
        expect(await stock()).toBe(4);
      });

      test("a confirmation during the load of a user who holds another one is added to it", async () => {
        const loading = await subject.gate.beginLoad(couponId);
        await loading?.addHoldings(packHoldings([holdingOf(request("u", "r1"))]));
        await confirm(request("u", "r2"));
        await loading?.install(facts({ stock: 5, maxPerUser: 2 }));
        expect(await stock()).toBe(4);
        expect([await admit(request("u", "r1")), await admit(request("u", "r2")), await admit(request("u"))]).toEqual([
          "REPLAY",
          "REPLAY",
          "ALREADY_ISSUED",
        ]);
      });
    });

    test("reservations that are pending are carried over and count once", async () => {
      await load(subject, couponId, facts());
      const [a, b] = [await reserved("a", "ra"), await reserved("b", "rb")];
      await subject.gate.invalidate(couponId);
      await load(subject, couponId, facts());
      expect(await stock()).toBe(8);
      expect(await pendingCount()).toBe(2);
      expect(await admit(request("a", "ra"))).toBe("IN_FLIGHT");
      await confirm(a);
      await release(b);
      expect(await stock()).toBe(9);
      expect(await admit(request("b"))).toBe("RESERVED");
    });

    test("a reservation taken while a known coupon is loaded again is carried over", async () => {
      await load(subject, couponId, facts());
      const loading = await subject.gate.beginLoad(couponId);
      const one = await reserved("a");
      await loading?.install(facts());
      expect(await stock()).toBe(9);
      await release(one);
      expect(await stock()).toBe(10);
    });

    test.each(["CONFIRM", "RELEASE"] as const)(
      "a reservation settled during a load (%s) counts once",
      async (outcome) => {
        await load(subject, couponId, facts());
        const one = await reserved("a");
        await subject.gate.invalidate(couponId);
        const loading = await subject.gate.beginLoad(couponId);
        await subject.gate.settle([{ ...one, outcome, validUntil: null } as never]);
        await loading?.install(facts());
        expect(await stock()).toBe(outcome === "CONFIRM" ? 9 : 10);
        expect(await pendingCount()).toBe(0);
      },
    );

    test("a reservation whose row is among the holders is dropped, and settling it later is void", async () => {
      await load(subject, couponId, facts());
      const [a, b] = [await reserved("a"), await reserved("b")];
      await load(subject, couponId, facts({ stock: 8 }), [holdingOf(a), holdingOf(b)]);
      expect(await pendingCount()).toBe(0);
      await release(a);
      await confirm(b);
      expect(await stock()).toBe(8);
      expect([await admit(request("a")), await admit(request("b"))]).toEqual(["ALREADY_ISSUED", "ALREADY_ISSUED"]);
    });

    test("replaces the facts and the holders as a whole", async () => {
      await load(subject, couponId, facts(), [holdingOf(request("a"))]);
      await load(subject, couponId, facts({ revision: 2, stock: null, maxPerUser: 2 }), [holdingOf(request("b"))]);
      expect((await surveyed())?.loaded).toMatchObject({ revision: 2, stock: null });
      expect([await admit(request("a")), await admit(request("b")), await admit(request("b"))]).toEqual([
        "RESERVED",
        "RESERVED",
        "IN_FLIGHT",
      ]);
      await load(subject, couponId, facts({ revision: 3, stock: 5 }));
      expect((await surveyed())?.loaded).toMatchObject({ revision: 3, stock: 3 });
    });

    test("carries 1,200 holders", async () => {
      const holdings = Array.from({ length: 1_200 }, (_, n) => request(`user-${n}`, `request-${n}`));
      const loading = await subject.gate.beginLoad(couponId);
      for (let at = 0; at < holdings.length; at += 400) {
        await loading?.addHoldings(packHoldings(holdings.slice(at, at + 400).map((one) => holdingOf(one))));
      }
      await loading?.install(facts({ stock: 1 }));
      const outcomes = await Promise.all(holdings.map(({ userId }) => admit(request(userId))));
      expect(new Set(outcomes)).toEqual(new Set(["ALREADY_ISSUED"]));
      expect(await stock()).toBe(1);
    });
  });

  describe("survey", () => {
    test("shows a reservation as overdue from its deadline until it is settled", async () => {
      await load(subject, couponId, facts());
      const [a, b] = [await reserved("a", "ra"), await reserved("b")];
      await subject.advance(defaultReservationMs - 2_000);
      expect((await surveyed())?.overdue).toEqual([]);
      await subject.advance(4_000);
      for (let n = 0; n < 2; n++) {
        const overdue = (await surveyed())?.overdue ?? [];
        expect(new Map(overdue.map((one) => [one.userId, one]))).toEqual(
          new Map([
            ["a", a],
            ["b", b],
          ]),
        );
      }
      await confirm(a);
      await release(b);
      expect(await surveyed()).toMatchObject({ ...quiet, couponId, loaded: { revision: 1, stock: 9 } });
    });

    test("an overdue reservation holds its unit until somebody has asked Postgres", async () => {
      await load(subject, couponId, facts({ stock: 1 }));
      await reserved("a");
      await subject.advance(defaultReservationMs + 1_000);
      expect(await admit(request("b"))).toBe("UNDECIDED");
    });

    test("a reload does not make a reservation younger", async () => {
      await load(subject, couponId, facts());
      const one = await reserved("a");
      await subject.advance(defaultReservationMs - 1_000);
      await load(subject, couponId, facts());
      await subject.advance(2_000);
      expect((await surveyed())?.overdue).toEqual([one]);
    });

    test("finds reservations of a coupon that is not loaded any more", async () => {
      await load(subject, couponId, facts());
      const one = await reserved("a");
      await subject.gate.invalidate(couponId);
      await subject.advance(defaultReservationMs + 1_000);
      expect(await surveyed()).toEqual({ ...quiet, couponId, loaded: null, pendingCount: 1, overdue: [one] });
      await release(one);
      expect(await surveyed()).toBeUndefined();
    });

    test("lists no more overdue ones than asked for, and the rest when those are settled", async () => {
      await load(subject, couponId, facts());
      const requests = [await reserved("a"), await reserved("b"), await reserved("c")];
      await subject.advance(defaultReservationMs + 1_000);
      const [first] = await subject.gate.survey(10, 2);
      expect(first?.overdue.length).toBe(2);
      expect(first?.pendingCount).toBe(3);
      for (const one of first?.overdue ?? []) await release(one);
      const [second] = await subject.gate.survey(10, 2);
      expect([...(first?.overdue ?? []), ...(second?.overdue ?? [])].map((one) => one.userId).sort()).toEqual(
        requests.map((one) => one.userId),
      );
    });

    test("goes round through more coupons than one call may look at", async () => {
      const ids = Array.from({ length: 520 }, () => randomUUID());
      for (let at = 0; at < ids.length; at += 40) {
        await Promise.all(ids.slice(at, at + 40).map((id) => load(subject, id, facts())));
      }
      for (let round = 0; round < 2; round++) {
        const seen: string[] = [];
        for (let call = 0; call < 2; call++) {
          const surveys = await subject.gate.survey(500, 10);
          expect(surveys.length).toBeLessThanOrEqual(500);
          seen.push(...surveys.map((one) => one.couponId));
        }
        expect(seen.sort()).toEqual([...ids].sort());
      }
    });

    test("a coupon that ended a while ago still refuses by itself", async () => {
      await load(subject, couponId, facts({ expiresAt: new Date(subject.now() + 1_000) }));
      await subject.advance(keepEndedMs - 60_000);
      await surveyed();
      expect(await admit(request("u"))).toBe("COUPON_ENDED");
    });
  });
});

describe("RedisGate, keys", () => {
  let subject: RedisSubject;
  let couponId: string;

  beforeEach(async () => {
    subject = await startRedisSubject();
    couponId = randomUUID();
  });
  afterEach(() => subject.close());

  const key = (name: string) => `${subject.keyPrefix}:{${couponId}}:${name}`;

  /** PTTL of every key of the prefix, by the last part of its name. */
  async function timesToLive(): Promise<Map<string, number>> {
    const keys = await subject.redis.keys(`${subject.keyPrefix}:*`);
    const found = new Map<string, number>();
    for (const one of keys) found.set(one.split(":").at(-1) as string, await subject.redis.pttl(one));
    return found;
  }

  test("nothing but the registry and what is pending is kept without an end", async () => {
    const { gate } = subject;
    const facts = openFacts(subject.now());
    await load(subject, couponId, facts, [holdingOf(requestOf(couponId, "a"))]);
    const one = requestOf(couponId, "b");
    await gate.admit(one);
    await gate.admit(requestOf(couponId, "c"));
    const loading = await gate.beginLoad(couponId);
    await loading?.addHoldings(packHoldings([holdingOf(requestOf(couponId, "a"))]));
    await gate.settle([{ ...one, outcome: "CONFIRM", validUntil: null }]);
    await gate.survey(10, 10);

    const found = await timesToLive();
    const names = ["coupon", "coupons", "hashes", "holders", "late", "loading", "looks", "pending", "stage"];
    expect([...found.keys()].sort()).toEqual(names);
    for (const [name, leftMs] of found) {
      if (["coupons", "looks", "pending"].includes(name)) expect(leftMs, name).toBe(-1);
      else expect(leftMs, name).toBeGreaterThan(0);
    }
    for (const name of ["coupon", "holders"]) {
      const leftMs = found.get(name) as number;
      expect(leftMs, name).toBeGreaterThan(hourMs + keepEndedMs - 60_000);
      expect(leftMs, name).toBeLessThanOrEqual(hourMs + keepEndedMs);
    }
  });

  test("of a coupon that has ended everything ends, also what is written after the end", async () => {
    const { gate } = subject;
    const facts = openFacts(subject.now(), { expiresAt: new Date(subject.now() + 60_000) });
    await load(subject, couponId, facts);
    const [a, b] = [requestOf(couponId, "a"), requestOf(couponId, "b")];
    await gate.admit(a);
    await gate.admit(b);
    await subject.advance(120_000);
    await gate.settle([
      { ...a, outcome: "CONFIRM", validUntil: null },
      { ...b, outcome: "RELEASE" },
    ]);
    const found = await timesToLive();
    expect([...found.keys()].sort()).toEqual(["coupon", "coupons", "holders", "looks"]);
    for (const name of ["coupon", "holders"]) {
      expect(found.get(name), name).toBeGreaterThan(0);
      expect(found.get(name), name).toBeLessThanOrEqual(keepEndedMs + 60_000);
    }
  });

  test("a coupon loaded after its end is kept for a while, not for ever", async () => {
    const ended = { startsAt: new Date(1_000), expiresAt: new Date(2_000) };
    await load(subject, couponId, openFacts(subject.now(), ended), [holdingOf(requestOf(couponId, "a"))]);
    const found = await timesToLive();
    for (const name of ["coupon", "holders"]) {
      expect(found.get(name), name).toBeGreaterThan(0);
      expect(found.get(name), name).toBeLessThanOrEqual(keepEndedMs);
    }
  });

  test("keys of one coupon share a hash tag, so that scripts run on Redis Cluster", async () => {
    await load(subject, couponId, openFacts(subject.now()));
    const keys = await subject.redis.keys(`${subject.keyPrefix}:*`);
    const ofNoCoupon = [`${subject.keyPrefix}:coupons`, `${subject.keyPrefix}:{${subject.keyPrefix}:coupons}:looks`];
    expect(keys.filter((name) => !name.includes(`{${couponId}}`)).sort()).toEqual(ofNoCoupon.sort());
  });

  test("holders without their coupon are no copy: nobody is refused by them", async () => {
    await load(subject, couponId, openFacts(subject.now(), { stock: 5 }), [holdingOf(requestOf(couponId, "a"))]);
    await subject.redis.del(key("coupon"));
    expect((await subject.gate.admit(requestOf(couponId, "a"))).outcome).toBe("NOT_LOADED");
  });

  test("a confirmation that arrives during a long load is not forgotten before the load ends", async () => {
    const loading = await subject.gate.beginLoad(couponId);
    // Most of the first step has passed when a row is confirmed; then the load goes on in time.
    await subject.redis.pexpire(key("loading"), 700);
    const one = requestOf(couponId, "u", "r");
    await subject.gate.settle([{ ...one, outcome: "CONFIRM", validUntil: null }]);
    expect(await loading?.addHoldings(packHoldings([holdingOf(requestOf(couponId, "x"))]))).toBe(true);
    const firstStepEndsAtMs = Date.now() + 1_000;
    await until("the first step's time is over", () => Date.now() > firstStepEndsAtMs);
    expect(await loading?.install(openFacts(subject.now(), { stock: 5 }))).toBe(true);
    const [survey] = await subject.gate.survey(10, 10);
    expect(survey?.loaded?.stock).toBe(4);
    expect((await subject.gate.admit(requestOf(couponId, "u", "r"))).outcome).toBe("REPLAY");
  });

  test("a coupon that is loaded is swept, also when its loader died before it could note so", async () => {
    const registry = `${subject.keyPrefix}:coupons`;
    // Any failure of the command that notes it will do: a wrong type is one that a test can bring about.
    await subject.redis.set(registry, "in the way");
    await load(subject, couponId, openFacts(subject.now())).catch(() => {});
    await subject.redis.del(registry);
    const { outcome } = await subject.gate.admit(requestOf(couponId, "u"));
    // Either it did not become known, or its reservations are found by the sweep.
    const surveys = await subject.gate.survey(10, 10);
    expect({ outcome, surveyed: surveys.length }).toEqual(
      outcome === "NOT_LOADED" ? { outcome, surveyed: 0 } : { outcome: "RESERVED", surveyed: 1 },
    );
  });

  test("two processes share what they know", async () => {
    const other = await subject.another();
    await load(subject, couponId, openFacts(subject.now(), { stock: 3 }));
    const requests = Array.from({ length: 10 }, (_, n) => requestOf(couponId, `user-${n}`));
    const outcomes = await Promise.all(requests.map((one, n) => (n % 2 ? other : subject.gate).admit(one)));
    expect(outcomes.filter(({ outcome }) => outcome === "RESERVED").length).toBe(3);
    expect(outcomes.filter(({ outcome }) => outcome === "UNDECIDED").length).toBe(7);
    const [survey] = await other.survey(10, 10);
    expect(survey).toMatchObject({ couponId, pendingCount: 3, loaded: { stock: 0 } });
  });
});
