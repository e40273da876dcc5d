import { randomUUID } from "node:crypto";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { packHoldings } from "../../src/reservation/packed-holdings.js";
import type { GateFacts, GateRequest, Holding, Settlement } from "../../src/reservation/port.js";
import { OlderGate } from "../support/before-buckets/gate.js";
import { holdingOf, load, openFacts, type RedisSubject, requestOf, startRedisSubject } from "./implementations.js";

let subject: RedisSubject;
let older: OlderGate;
let couponId: string;

beforeEach(async () => {
  subject = await startRedisSubject();
  older = new OlderGate(subject.redis, subject.keyPrefix);
  couponId = randomUUID();
});

afterEach(() => subject.close());

const facts = (changed: Partial<GateFacts> = {}) => openFacts(subject.now(), changed);
const request = (userId: string, requestId = "") => requestOf(couponId, userId, requestId);
const confirmed = (one: GateRequest): Settlement => ({ ...one, outcome: "CONFIRM", validUntil: null });
const admit = async (one: GateRequest) => (await subject.gate.admit(one)).outcome;
const stockOf = async () => (await subject.gate.survey(10, 10))[0]?.loaded?.stock;
/** What Postgres has, as both kinds would read it. */
const reload = async (holdings: readonly Holding[], by: "older" | "present", changed: Partial<GateFacts> = {}) => {
  if (by === "present") await load(subject, couponId, facts(changed), holdings);
  else expect(await older.load(couponId, facts(changed), holdings)).toBe(true);
};

describe("a copy that a replica of before buckets has loaded", () => {
  test("is the same for both: each sees what the other has let through, confirmed and given back", async () => {
    const [held, ours, theirs] = [request("held", "r0"), request("ours", "r1"), request("theirs", "r2")];
    await reload([holdingOf(held)], "older", { stock: 5 });
    expect(await subject.gate.admit(request("held", "r0"))).toEqual({
      outcome: "REPLAY",
      userCouponId: held.userCouponId,
    });
    expect(await admit(request("held"))).toBe("ALREADY_ISSUED");

    expect(await admit(ours)).toBe("RESERVED");
    expect(await older.admit(theirs)).toBe("RESERVED");
    expect(await stockOf()).toBe(3);
    expect([await older.admit(request("ours", "r1")), await admit(request("theirs", "r2"))]).toEqual([
      "IN_FLIGHT",
      "IN_FLIGHT",
    ]);

    // Each settles what the other has let through, as a sweep does.
    await older.settle(confirmed(ours));
    await subject.gate.settle([confirmed(theirs)]);
    expect(await stockOf()).toBe(3);
    expect(await older.admit(request("theirs", "r2"))).toBe(`REPLAY ${theirs.userCouponId}`);
    expect(await subject.gate.admit(request("ours", "r1"))).toEqual({
      outcome: "REPLAY",
      userCouponId: ours.userCouponId,
    });

    await subject.gate.settle([{ ...theirs, outcome: "RETURN" }]);
    await older.settle({ ...ours, outcome: "RETURN" });
    expect(await stockOf()).toBe(5);
    expect([await older.admit(request("theirs")), await admit(request("ours"))]).toEqual(["RESERVED", "RESERVED"]);
    expect(await subject.redis.pttl(`${subject.keyPrefix}:{${couponId}}:holders`)).toBeGreaterThan(0);
  });

  test("has what we let through before, and what we confirm while it is read", async () => {
    await reload([], "present", { stock: 5 });
    const [pending, late] = [request("pending"), request("late", "r")];
    expect([await admit(pending), await admit(late)]).toEqual(["RESERVED", "RESERVED"]);
    await older.begin(couponId);
    await subject.gate.settle([confirmed(late)]);
    expect(await older.install(couponId, facts({ stock: 4 }), [holdingOf(late)])).toBe(true);
    // What is pending is counted; what was read already is not counted again.
    expect(await stockOf()).toBe(3);
    expect([await older.admit(request("pending")), await admit(request("pending"))]).toEqual([
      "IN_FLIGHT",
      "IN_FLIGHT",
    ]);
    await subject.gate.settle([{ ...pending, outcome: "RELEASE" }]);
    expect(await stockOf()).toBe(4);
  });
});

describe("a copy that we have loaded", () => {
  test("is none for a replica of before buckets, which loads its own: from then on both have that one", async () => {
    const held = request("held");
    await reload([holdingOf(held)], "present");
    expect(await admit(request("held"))).toBe("ALREADY_ISSUED");
    expect(await older.admit(request("held"))).toBe("NOT_LOADED");
    await reload([holdingOf(held)], "older");
    expect([await older.admit(request("held")), await admit(request("held"))]).toEqual([
      "ALREADY_ISSUED",
      "ALREADY_ISSUED",
    ]);
  });

  test("has all that older ones let through before, and what they confirm while it is read", async () => {
    await reload([], "older", { stock: 9 });
    const [pending, read, late] = [request("pending", "r1"), request("read", "r2"), request("late", "r3")];
    for (const one of [pending, read, late]) expect(await older.admit(one)).toBe("RESERVED");
    const loading = await subject.gate.beginLoad(couponId);
    await older.settle(confirmed(late));
    expect(await loading?.addHoldings(packHoldings([holdingOf(read)]))).toBe(true);
    expect(await loading?.install(facts({ stock: 8 }))).toBe(true);
    expect(await stockOf()).toBe(6);
    expect(await admit(request("pending", "r1"))).toBe("IN_FLIGHT");
    expect(await admit(request("late", "r3"))).toBe("REPLAY");
    expect(await admit(request("read", "r2"))).toBe("REPLAY");
    await subject.gate.settle([{ ...pending, outcome: "RELEASE" }]);
    expect(await stockOf()).toBe(7);
    expect(await admit(request("pending"))).toBe("RESERVED");
  });

  // It cannot read what is packed. So what it does is not lost, nor half done: the copy ends, and is read anew.
  test.for(["CONFIRM", "RELEASE", "FREE", "RETURN"] as const)(
    "ends when an older replica settles in it: %s",
    async (outcome) => {
      const [held, pending] = [request("held"), request("pending")];
      await reload([holdingOf(held)], "present", { stock: 5 });
      expect(await admit(pending)).toBe("RESERVED");
      const one = outcome === "RELEASE" ? pending : outcome === "CONFIRM" ? request("new") : held;
      await older.settle({ ...one, outcome, validUntil: null } as Settlement);
      expect(await admit(request("held"))).toBe("NOT_LOADED");
      expect(await stockOf()).toBeUndefined();
      // Void, and no error: it is not known here.
      await subject.gate.settle([{ ...request("x"), outcome: "FREE" }]);
      expect(await admit(request("held"))).toBe("NOT_LOADED");
      await reload([], "present", { stock: 6 });
      expect(await admit(request("held"))).toBe("RESERVED");
    },
  );
});
