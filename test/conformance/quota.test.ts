import { randomUUID } from "node:crypto";
import { v7 } from "uuid";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { StoreUnavailable } from "../../src/domain/refusal.js";
import { QuotaDays } from "../../src/platform/quotas/quota-days.js";
import { defaultReservationMs, type GateRequest, keepQuotaDayMs, type Settlement } from "../../src/reservation/port.js";
import {
  implementations,
  load,
  openFacts,
  type RedisSubject,
  type Subject,
  startRedisSubject,
} from "./implementations.js";

const dayMs = 86_400_000;
const group = "summer";

describe.each(implementations)("$name, quota", ({ start }) => {
  let subject: Subject;
  let groups: Map<string, string | null>;
  let [a, b, c] = ["", "", ""];

  beforeEach(async () => {
    groups = new Map();
    subject = await start({ quotaGroupOf: async (couponId) => groups.get(couponId) });
    [a, b, c] = [randomUUID(), randomUUID(), randomUUID()];
    for (const couponId of [a, b, c]) await open(couponId, 2);
  });
  afterEach(() => subject.close());

  const open = async (couponId: string, maxPerDay: number, changed = {}) => {
    groups.set(couponId, group);
    const quota = { group, maxPerDay };
    await load(subject, couponId, openFacts(subject.now(), { quota, maxPerUser: 5, stock: 100, ...changed }));
  };
  /** An id names the day on which it was made, wherever a test has moved the clock. */
  const newRequest = (couponId: string, userId = "u"): GateRequest => ({
    couponId,
    userId,
    requestId: "",
    userCouponId: v7(),
  });
  const admit = async (request: GateRequest) => (await subject.gate.admit(request)).outcome;
  const reserved = async (couponId: string, userId = "u"): Promise<GateRequest> => {
    const request = newRequest(couponId, userId);
    expect(await admit(request)).toBe("RESERVED");
    return request;
  };
  const settle = (request: GateRequest, outcome: Settlement["outcome"] = "CONFIRM") =>
    subject.gate.settle([{ ...request, outcome, validUntil: null }]);

  test("counts over all coupons of the group, each user for itself; others are not touched", async () => {
    const alone = randomUUID();
    groups.set(alone, null);
    await load(subject, alone, openFacts(subject.now()));
    for (const couponId of [a, b]) await settle(await reserved(couponId));
    for (const couponId of [a, b, c]) expect(await admit(newRequest(couponId))).toBe("QUOTA_REACHED");
    expect(await admit(newRequest(alone))).toBe("RESERVED");
    expect(await admit(newRequest(c, "v"))).toBe("RESERVED");
  });

  test("each coupon has a limit of its own against what was issued of all", async () => {
    const strict = randomUUID();
    await open(strict, 1);
    await settle(await reserved(a));
    expect(await admit(newRequest(strict))).toBe("QUOTA_REACHED");
    expect(await admit(newRequest(b))).toBe("RESERVED");
  });

  test("while one that is needed for it is undecided, nobody is refused", async () => {
    const first = await reserved(a);
    await settle(await reserved(b));
    expect(await admit(newRequest(c))).toBe("IN_FLIGHT");
    await settle(first, "RELEASE");
    const second = await reserved(c);
    expect(await admit(newRequest(a))).toBe("IN_FLIGHT");
    await settle(second);
    expect(await admit(newRequest(a))).toBe("QUOTA_REACHED");
  });

  test("requests of one user in the same moment see each other, over coupons as well", async () => {
    const requests = [a, a, a, b, b, c].map((couponId) => newRequest(couponId));
    const outcomes = await Promise.all(requests.map(admit));
    expect(outcomes.filter((outcome) => outcome === "RESERVED")).toHaveLength(2);
    expect(outcomes.filter((outcome) => outcome === "IN_FLIGHT")).toHaveLength(4);
  });

  test("what was issued counts once, however often it is confirmed, and stays when it is given back", async () => {
    const first = await reserved(a);
    for (const outcome of ["CONFIRM", "CONFIRM", "RELEASE", "CONFIRM", "RELEASE"] as const)
      await settle(first, outcome);
    const second = await reserved(b);
    await settle(second);
    await settle(second, "RETURN");
    await settle(first, "FREE");
    expect(await admit(newRequest(a))).toBe("QUOTA_REACHED");
  });

  test("a release counts once, and only while it is pending", async () => {
    const first = await reserved(a);
    await settle(await reserved(b));
    for (let n = 0; n < 3; n++) await settle(first, "RELEASE");
    await settle(newRequest(c), "RELEASE");
    await settle(await reserved(c));
    expect(await admit(newRequest(a))).toBe("QUOTA_REACHED");
  });

  test("a row that came past the gate counts, also of a coupon that is not loaded; one taken back unseen does not", async () => {
    const unloaded = randomUUID();
    groups.set(unloaded, group);
    await settle(newRequest(unloaded));
    await settle(newRequest(a), "FREE");
    await settle(newRequest(a), "RETURN");
    await settle(await reserved(a));
    expect(await admit(newRequest(b))).toBe("QUOTA_REACHED");
  });

  test("a reservation that was given back before it was settled was issued all the same", async () => {
    await settle(await reserved(a), "FREE");
    await settle(await reserved(a), "FREE");
    expect(await admit(newRequest(b))).toBe("QUOTA_REACHED");
  });

  test("survives an edit of the coupon, and what was reserved before is settled after it", async () => {
    const first = await reserved(a);
    await settle(await reserved(b));
    await subject.gate.invalidate(a);
    await settle(first);
    await open(a, 2);
    expect(await admit(newRequest(a))).toBe("QUOTA_REACHED");
    await open(a, 3);
    expect(await admit(newRequest(a))).toBe("RESERVED");
  });

  test("a new day begins with nothing", async () => {
    for (const couponId of [a, b]) await settle(await reserved(couponId));
    expect(await admit(newRequest(c))).toBe("QUOTA_REACHED");
    await subject.advance(dayMs);
    for (const couponId of [a, b, c]) await open(couponId, 2);
    for (const couponId of [a, b]) await settle(await reserved(couponId));
    expect(await admit(newRequest(c))).toBe("QUOTA_REACHED");
    await subject.advance(keepQuotaDayMs + dayMs);
    await subject.gate.survey(10, 10);
    await open(c, 2);
    expect(await admit(newRequest(c))).toBe("RESERVED");
  });

  test("a sweep finds what is overdue, and can settle it by the id alone", async () => {
    const first = await reserved(a);
    await settle(await reserved(b));
    await subject.advance(defaultReservationMs + 1_000);
    const survey = (await subject.gate.survey(10, 10)).find(({ couponId }) => couponId === a);
    expect(survey).toMatchObject({ loaded: { stock: 99 }, pendingCount: 1, overdue: [first] });
    await subject.gate.settle((survey?.overdue ?? []).map((request) => ({ ...request, outcome: "RELEASE" })));
    await settle(await reserved(c));
    expect(await admit(newRequest(a))).toBe("QUOTA_REACHED");
  });

  test("the stock, the places and the loads of such a coupon are those of any other", async () => {
    const { gate } = subject;
    await settle(await reserved(a));
    await settle(await reserved(a, "v"), "RELEASE");
    await gate.loadPlaces(a, { revision: 1, remaining: 1 });
    const use = { couponId: a, revision: 1, usageId: randomUUID() };
    expect(await gate.takePlace(use)).toBe("TAKEN");
    await gate.settlePlaces([{ ...use, outcome: "CONFIRM" }]);
    expect(await gate.takePlace({ ...use, usageId: randomUUID() })).toBe("USAGE_CAP_REACHED");
    const loading = await gate.beginLoad(a);
    expect(await gate.beginLoad(a)).toBeNull();
    await gate.invalidate(a);
    expect(await loading?.install(openFacts(subject.now()))).toBe(false);
    expect(await admit(newRequest(a))).toBe("NOT_LOADED");
    expect((await gate.survey(10, 10)).map(({ couponId }) => couponId).sort()).toEqual([b, c].sort());
  });
});

describe("quotas in Redis", () => {
  const subjects: RedisSubject[] = [];
  afterEach(async () => void (await Promise.all(subjects.splice(0).map((one) => one.close()))));
  const start = async (options: Parameters<typeof startRedisSubject>[0]) => {
    const subject = await startRedisSubject(options);
    subjects.push(subject);
    return subject;
  };
  const request = (couponId: string, userCouponId = v7()): GateRequest => ({
    couponId,
    userId: "u",
    requestId: "",
    userCouponId,
  });

  test("all keys of a group's coupons share the group's hash tag, have the coupon's id, and come to an end", async () => {
    const couponId = randomUUID();
    const subject = await start({ quotaGroupOf: async () => group });
    const { gate, redis, keyPrefix } = subject;
    const quota = { group, maxPerDay: 5 };
    const throttle = { maxConcurrent: 9, maxPerSecond: 9, maxWaitMs: 9 };
    await load(subject, couponId, openFacts(subject.now(), { quota, throttle }));
    const one = request(couponId);
    await gate.admit(one);
    await gate.beginLoad(couponId);
    await gate.settle([{ ...one, outcome: "CONFIRM", validUntil: null }]);
    await gate.loadPlaces(couponId, { revision: 1, remaining: 1 });
    const keys = (await redis.keys(`${keyPrefix}:*`)).filter((key) => !/:(coupons|looks)$/.test(key));
    const today = new Date().toISOString().slice(0, 10);
    const tag = `${keyPrefix}:{q:${group}}`;
    const names = ["coupon", "ended", "hashes", "holders", "late", "line", "loading", "places"];
    expect(keys.sort()).toEqual([...names.map((name) => `${tag}:${couponId}:${name}`), `${tag}:quota:${today}`].sort());
    for (const key of keys) expect(await redis.pttl(key), key).toBeGreaterThan(0);
  });

  test("the day is that of the id, in the time zone that is set", async () => {
    const couponId = randomUUID();
    const subject = await start({ quotaGroupOf: async () => group, quotaDays: new QuotaDays("Asia/Tokyo") });
    await load(subject, couponId, openFacts(subject.now(), { quota: { group, maxPerDay: 1 }, maxPerUser: 9 }));
    // Midnight in Tokyo is 15:00 UTC.
    const idAt = (time: string) => v7({ msecs: Date.parse(time) });
    const outcomes: string[] = [];
    for (const time of ["2026-11-20T14:59:59.999Z", "2026-11-20T15:00:00.000Z", "2026-11-21T14:59:59.999Z"]) {
      const one = request(couponId, idAt(time));
      outcomes.push((await subject.gate.admit(one)).outcome);
      if (outcomes.at(-1) === "RESERVED") await subject.gate.settle([{ ...one, outcome: "CONFIRM", validUntil: null }]);
    }
    expect(outcomes).toEqual(["RESERVED", "RESERVED", "QUOTA_REACHED"]);
    // Requests of two days in one moment go to the day of each.
    const both = [idAt("2026-11-20T14:00:00Z"), idAt("2026-11-22T14:00:00Z")].map((id) => request(couponId, id));
    const answers = await Promise.all(both.map((one) => subject.gate.admit(one)));
    expect(answers.map(({ outcome }) => outcome)).toEqual(["QUOTA_REACHED", "RESERVED"]);
  });

  test("a coupon's group is asked for once, and whoever asks for what is no coupon is told so", async () => {
    const couponId = randomUUID();
    const asked: string[] = [];
    let known = false;
    const quotaGroupOf = async (id: string) => {
      asked.push(id);
      return known ? group : undefined;
    };
    const subject = await start({ quotaGroupOf });
    expect((await subject.gate.admit(request(couponId))).outcome).toBe("COUPON_NOT_FOUND");
    // For a moment that is remembered.
    expect((await subject.gate.admit(request(couponId))).outcome).toBe("COUPON_NOT_FOUND");
    expect(asked).toHaveLength(1);
    known = true;
    await load(subject, couponId, openFacts(subject.now(), { quota: { group, maxPerDay: 1 } }));
    const before = asked.length;
    for (let n = 0; n < 3; n++) await subject.gate.admit(request(couponId));
    expect(asked).toHaveLength(before);
  });

  test("while a coupon's group cannot be asked for, it is as if Redis was away", async () => {
    const quotaGroupOf = () => Promise.reject(new StoreUnavailable("away"));
    const { gate } = await start({ quotaGroupOf });
    const one = request(randomUUID());
    await expect(gate.admit(one)).rejects.toThrow(StoreUnavailable);
    await expect(gate.settle([{ ...one, outcome: "RELEASE" }])).rejects.toThrow(StoreUnavailable);
    await expect(gate.invalidate(one.couponId)).rejects.toThrow(StoreUnavailable);
    await expect(gate.beginLoad(one.couponId)).rejects.toThrow(StoreUnavailable);
  });
});
