import { randomUUID } from "node:crypto";
import { setImmediate as turn } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { QuotaDays } from "../../src/platform/quotas/quota-days.js";
import { defaultPauses, lookLeaseMs } from "../../src/reservation/looks.js";
import {
  defaultReservationMs,
  type Gate,
  type GateFacts,
  type GateRequest,
  type Look,
} from "../../src/reservation/port.js";
import {
  implementations,
  load,
  openFacts,
  type RedisSubject,
  requestOf,
  type Subject,
  startRedisSubject,
} from "./implementations.js";

const { calmMs, announceMs } = defaultPauses(defaultReservationMs);
const [firstMs, secondMs, lastMs] = calmMs as [number, number, number];
const quotaOf = { group: "g", maxPerDay: 1 };

/** One round of a sweep that finds nothing to do. Answers the coupons that it looked at. */
async function round(gate: Gate): Promise<string[]> {
  const looks = await gate.lookAtDue(1_000, 1_000);
  await gate.endLooks(looks.map((look) => ({ look, again: false })));
  return looks.map(({ survey }) => survey.couponId);
}

describe.each(implementations)("$name, looks", ({ start }) => {
  let subject: Subject;
  let couponId: string;
  let quotaGroup: string | null;

  beforeEach(async () => {
    quotaGroup = null;
    // The day has just begun: no test here moves the clock to another one.
    const quotaDays = new QuotaDays(`UTC-${new Date().getUTCHours()}`);
    subject = await start({ quotaGroupOf: async () => quotaGroup, quotaDays });
    couponId = randomUUID();
  });
  afterEach(() => subject.close());

  const known = (changed: Partial<GateFacts> = {}) =>
    load(subject, couponId, openFacts(subject.now(), { expiresAt: new Date(subject.now() + 9 * lastMs), ...changed }));
  const admit = async (userId: string): Promise<GateRequest> => {
    const request = requestOf(couponId, userId);
    expect((await subject.gate.admit(request)).outcome).toBe("RESERVED");
    return request;
  };
  const looked = () => round(subject.gate);
  const looks = () => subject.gate.lookAtDue(1_000, 1_000);
  const end = (ended: readonly Look[], again = false) => subject.gate.endLooks(ended.map((look) => ({ look, again })));
  const isKnown = async () => (await subject.gate.survey(1_000, 0)).length > 0;
  /** Up to the last pause, at whose end it leaves. */
  const calm = async () => {
    for (const pauseMs of [0, firstMs, secondMs]) {
      await subject.advance(pauseMs + 1);
      expect(await looked()).toEqual([couponId]);
    }
  };

  test("a coupon that was loaded is looked at once, and then after ever longer pauses", async () => {
    await known();
    await calm();
    for (const part of [0.1, 0.5, 0.3]) {
      await subject.advance(lastMs * part);
      expect(await looked()).toEqual([]);
    }
  });

  test.each([
    { what: "a request", act: () => admit("u") },
    {
      what: "a use that asks for a place",
      act: () => subject.gate.takePlace({ couponId, usageId: "u", revision: 1 }),
    },
    {
      what: "a user coupon given back",
      act: () => subject.gate.settle([{ ...requestOf(couponId, "u"), outcome: "RETURN" }]),
    },
    {
      what: "a use confirmed",
      act: () => subject.gate.settlePlaces([{ couponId, usageId: "u", outcome: "CONFIRM" }]),
    },
    { what: "a load", act: () => known() },
    {
      what: "a load of its places",
      act: () => subject.gate.loadPlaces(couponId, { revision: 1, remaining: 1 }),
    },
  ])("$what makes a calm coupon due at once", async ({ act }) => {
    await known();
    await calm();
    expect(await looked()).toEqual([]);
    await act();
    expect(await looked()).toEqual([couponId]);
  });

  test("what a dead process has reserved of a calm coupon is found at its deadline, and not before", async () => {
    await known();
    await calm();
    const request = await admit("u");
    expect((await looks().then(async (all) => end(all).then(() => all)))[0]?.survey.pendingCount).toBe(1);
    await subject.advance(defaultReservationMs - 1_000);
    expect(await looks()).toEqual([]);
    await subject.advance(1_001);
    expect((await looks())[0]?.survey.overdue).toEqual([request]);
  });

  test("a place that a dead process has taken is found at its deadline, too", async () => {
    await subject.gate.loadPlaces(couponId, { revision: 1, remaining: 5 });
    await calm();
    await subject.gate.takePlace({ couponId, usageId: "u", revision: 1 });
    expect(await looked()).toEqual([couponId]);
    await subject.advance(defaultReservationMs + 1);
    expect((await looks())[0]?.survey.overdueUsageIds).toEqual(["u"]);
  });

  test("a reservation that was made between two looks of an active coupon is found after its deadline", async () => {
    await known();
    const one = await admit("a");
    await subject.gate.settle([{ ...one, outcome: "RELEASE" }]);
    expect(await looked()).toEqual([couponId]);
    // Within the time for which its process does not announce it again, and then that process dies.
    await subject.advance(announceMs - 500);
    const late = await admit("b");
    let overdue: readonly GateRequest[] = [];
    for (let waitedMs = 0; waitedMs <= firstMs + 1_000 && overdue.length === 0; waitedMs += 1_000) {
      const due = await looks();
      overdue = due.flatMap(({ survey }) => survey.overdue);
      await end(due);
      await subject.advance(1_000);
    }
    expect(overdue).toEqual([late]);
  });

  test("a look that finds something overdue, or is to be repeated, is followed by another at once", async () => {
    await known();
    await admit("u");
    await subject.advance(defaultReservationMs + 1);
    expect(await looked()).toEqual([couponId]);
    const [again] = await looks();
    await subject.gate.settle(
      (again?.survey.overdue ?? []).map((request) => ({ ...request, outcome: "RELEASE" as const })),
    );
    await end(await looks(), true);
    expect(await looked()).toEqual([couponId]);
    expect(await looked()).toEqual([]);
  });

  test("two who look at the same time do not look at the same coupons", async () => {
    const other = await subject.another();
    const ids = Array.from({ length: 60 }, () => randomUUID());
    for (const id of ids) await load(subject, id, openFacts(subject.now()));
    const seen = await Promise.all(
      Array.from({ length: 6 }, (_, n) => (n % 2 ? other : subject.gate).lookAtDue(20, 10)),
    );
    expect(
      seen
        .flat()
        .map(({ survey }) => survey.couponId)
        .sort(),
    ).toEqual(ids.sort());
    expect(Math.max(...seen.map((one) => one.length))).toBe(20);
  });

  test("a look that was not ended is done again by another when its lease is over", async () => {
    await known();
    const dead = await looks();
    expect(dead).toHaveLength(1);
    const other = await subject.another();
    await subject.advance(lookLeaseMs - 1_000);
    expect(await round(other)).toEqual([]);
    await subject.advance(1_001);
    expect(await round(other)).toEqual([couponId]);
    // What the first one says then is void.
    await end(dead, true);
    expect(await looked()).toEqual([]);
  });

  test("who asks for a coupon during a look makes it due at once, whatever the look says", async () => {
    await known();
    const first = await looks();
    await subject.advance(announceMs + 1);
    await admit("u");
    await end(first);
    expect(await looked()).toEqual([couponId]);
  });

  describe("a coupon for which nobody asks for long", () => {
    test("leaves, and is loaded again for the next one who asks", async () => {
      await known();
      await calm();
      await subject.advance(lastMs - 1_000);
      await looked();
      expect(await isKnown()).toBe(true);
      await subject.advance(1_001);
      expect(await looked()).toEqual([couponId]);
      expect(await isKnown()).toBe(false);
      await subject.advance(9 * lastMs);
      expect(await looked()).toEqual([]);
      expect((await subject.gate.admit(requestOf(couponId, "u"))).outcome).toBe("NOT_LOADED");
      await known({ stock: 1 });
      await admit("u");
      expect((await subject.gate.admit(requestOf(couponId, "v"))).outcome).toBe("UNDECIDED");
      expect(await looked()).toEqual([couponId]);
    });

    test("stays when the last look is to be repeated", async () => {
      await known();
      await calm();
      await subject.advance(lastMs + 1);
      await end(await looks(), true);
      expect(await isKnown()).toBe(true);
      expect(await looked()).toEqual([couponId]);
    });

    test("stays when something was reserved after the look", async () => {
      await known();
      await calm();
      await subject.advance(lastMs + 1);
      const last = await looks();
      await admit("u");
      await end(last);
      expect((await looks())[0]?.survey).toMatchObject({ loaded: { stock: 9 }, pendingCount: 1 });
    });

    test("stays when a place was taken after the look", async () => {
      await known();
      await calm();
      await subject.advance(lastMs + 1);
      const last = await looks();
      await subject.gate.loadPlaces(couponId, { revision: 1, remaining: 2 });
      const take = (usageId: string) => subject.gate.takePlace({ couponId, usageId, revision: 1 });
      expect(await take("a")).toBe("TAKEN");
      await end(last);
      expect(await take("b")).toBe("TAKEN");
    });

    test("is there when a load ends that began after the look", async () => {
      await known();
      await calm();
      await subject.advance(lastMs + 1);
      const last = await looks();
      const loading = await subject.gate.beginLoad(couponId);
      await end(last);
      expect(await loading?.install(openFacts(subject.now()))).toBe(true);
      expect(await isKnown()).toBe(true);
      expect(await looked()).toEqual([couponId]);
    });

    test("takes its places with it", async () => {
      await known();
      await subject.gate.loadPlaces(couponId, { revision: 1, remaining: 1 });
      await calm();
      await subject.advance(lastMs + 1);
      await looked();
      const outcome = await subject.gate.takePlace({ couponId, usageId: "u", revision: 1 });
      expect(outcome).toBe("NOT_LOADED");
    });

    test("leaves what its users were issued of a quota today", async () => {
      quotaGroup = "g";
      await known({ quota: quotaOf, maxPerUser: 5 });
      const request = await admit("u");
      await subject.gate.settle([{ ...request, outcome: "CONFIRM", validUntil: null }]);
      await calm();
      await subject.advance(lastMs + 1);
      await looked();
      expect(await isKnown()).toBe(false);
      await known({ quota: quotaOf, maxPerUser: 5 });
      // The same day, as the id has it.
      const sameDay = { ...requestOf(couponId, "u"), userCouponId: request.userCouponId.replace(/.{4}$/, "ffff") };
      const { outcome } = await subject.gate.admit(sameDay);
      expect(outcome).toBe("QUOTA_REACHED");
    });

    test("is looked at until it is gone, when its last look was not ended", async () => {
      await known();
      await calm();
      await subject.gate.invalidate(couponId);
      await subject.advance(lastMs + 1);
      await looks();
      await subject.advance(lookLeaseMs + 1);
      expect(await looked()).toEqual([couponId]);
      await subject.advance(9 * lastMs);
      expect(await looked()).toEqual([]);
    });
  });

  test("a coupon that is not known is forgotten at the second look", async () => {
    await subject.gate.settle([{ ...requestOf(couponId, "u"), outcome: "FREE" }]);
    expect(await looked()).toEqual([couponId]);
    await subject.advance(firstMs + 1);
    expect(await looked()).toEqual([couponId]);
    await subject.advance(9 * lastMs);
    expect(await looked()).toEqual([]);
  });

  test("a thousand coupons leave while somebody asks for them: nothing is sold twice, nothing is left unswept", async () => {
    const racer = await start({ pauses: { calmMs: [firstMs] } });
    const { gate } = racer;
    const sweeper = await racer.another();
    const rounds = 20;
    const outcomes = new Map<string, number>();
    for (let n = 0; n < rounds; n++) {
      const ids = Array.from({ length: 50 }, () => randomUUID());
      for (const id of ids) await load(racer, id, openFacts(racer.now(), { stock: 1 }));
      await round(sweeper);
      await racer.advance(firstMs + 1);
      // Each is about to leave, and each has two callers, of whom one can have it.
      const call = async (id: string, userId: string): Promise<string> => {
        for (let turns = Math.floor(Math.random() * 6); turns > 0; turns--) await turn();
        for (;;) {
          const { outcome } = await gate.admit(requestOf(id, userId));
          outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
          if (outcome !== "NOT_LOADED") return outcome;
          const loading = await gate.beginLoad(id);
          await loading?.install(openFacts(racer.now(), { stock: 1 }));
        }
      };
      const [, ...answers] = await Promise.all([
        round(sweeper),
        ...ids.map(async (id) => (await Promise.all([call(id, "a"), call(id, "b")])).sort()),
      ]);
      expect(new Set(answers.map(String))).toEqual(new Set(["RESERVED,UNDECIDED"]));
      // The process of the callers is dead. Whoever looks finds all that it held.
      const overdue = new Set<string>();
      for (let waitedMs = 0; waitedMs <= 2 * firstMs && overdue.size < ids.length; waitedMs += 2_000) {
        const due = await sweeper.lookAtDue(1_000, 10);
        const found = due.flatMap(({ survey }) => survey.overdue);
        await sweeper.settle(found.map((request) => ({ ...request, outcome: "RELEASE" as const })));
        for (const { couponId: id } of found) overdue.add(id);
        await sweeper.endLooks(due.map((look) => ({ look, again: false })));
        await racer.advance(2_000);
      }
      expect([...overdue].sort()).toEqual(ids.sort());
      // All of this round's leave before the next begins.
      for (let more = 0; more < 3; more++) {
        await racer.advance(firstMs + 1);
        await round(sweeper);
      }
      expect(await sweeper.survey(1_000, 0)).toEqual([]);
    }
    await racer.close();
    expect(outcomes.get("RESERVED")).toBe(50 * rounds);
  }, 120_000);
});

describe("RedisGate, looks", () => {
  let subject: RedisSubject;
  let couponId: string;
  let registry: string;
  let looksKey: string;

  beforeEach(async () => {
    subject = await startRedisSubject();
    couponId = randomUUID();
    registry = `${subject.keyPrefix}:coupons`;
    looksKey = `${subject.keyPrefix}:{${registry}}:looks`;
  });
  afterEach(() => subject.close());

  const known = (id = couponId) =>
    load(subject, id, openFacts(subject.now(), { expiresAt: new Date(subject.now() + 9 * lastMs) }));
  /** As a replica of version 0.1 notes that it has seen a coupon loaded. */
  const notedBefore = (...ids: string[]) =>
    subject.redis.zadd(registry, ...ids.flatMap((id) => [String(subject.now()), id]));

  test("what a replica of version 0.1 has seen loaded is adopted, and looked at as soon as it sees it again", async () => {
    await known();
    await subject.redis.del(registry, looksKey);
    await notedBefore(couponId);
    const [mine, other] = [subject.gate, await subject.another()];
    expect([await round(mine), await round(other)].flat()).toEqual([couponId]);
    await subject.advance(firstMs - 1_500);
    expect([await round(mine), await round(other)].flat()).toEqual([]);
    await notedBefore(couponId);
    await subject.advance(1_000);
    expect([await round(mine), await round(other)].flat()).toEqual([couponId]);
  });

  test("more of them than are adopted at once come in the next rounds", async () => {
    const ids = Array.from({ length: 1_200 }, () => randomUUID());
    await notedBefore(...ids);
    const seen = new Set<string>();
    for (let n = 0; n < 3; n++) for (const id of await round(subject.gate)) seen.add(id);
    expect([...seen].sort()).toEqual(ids.sort());
  });

  test("a replica of version 0.1 finds what we have loaded, also when that was hours ago", async () => {
    await known();
    for (const pauseMs of [0, firstMs, secondMs]) {
      await subject.advance(pauseMs + 1);
      await round(subject.gate);
    }
    // It removes what nobody has seen for an hour.
    await subject.redis.zremrangebyscore(registry, "-inf", String(subject.now() + lastMs - 3_600_000));
    expect(await subject.redis.zrange(registry, "0", "-1")).toEqual([couponId]);
  });

  test("what leaves is in no list any more, unless a replica of version 0.1 has seen it a moment ago", async () => {
    const other = randomUUID();
    for (const id of [couponId, other]) await known(id);
    for (const pauseMs of [0, firstMs, secondMs]) {
      await subject.advance(pauseMs + 1);
      await round(subject.gate);
    }
    await subject.advance(lastMs + 1);
    const last = await subject.gate.lookAtDue(10, 10);
    await notedBefore(other);
    await subject.gate.endLooks(last.map((look) => ({ look, again: false })));
    expect(await subject.redis.zrange(registry, "0", "-1")).toEqual([other]);
    expect(await subject.redis.zcard(looksKey)).toBe(0);
    await subject.advance(5_001);
    expect(await round(subject.gate)).toEqual([other]);
  });

  test("what could not be announced, or had no answer, is announced again by the next round", async () => {
    await known();
    for (const pauseMs of [0, firstMs, secondMs]) {
      await subject.advance(pauseMs + 1);
      await round(subject.gate);
    }
    // Any failure of the one command will do: a wrong type is one that a test can bring about.
    await subject.redis.rename(looksKey, `${looksKey}:aside`);
    await subject.redis.set(looksKey, "in the way");
    expect((await subject.gate.admit(requestOf(couponId, "u"))).outcome).toBe("RESERVED");
    await subject.redis.rename(`${looksKey}:aside`, looksKey);
    const [look] = await subject.gate.lookAtDue(10, 10);
    expect(look?.survey).toMatchObject({ couponId, pendingCount: 1 });
  });

  test("a caller announces a coupon once in a while, however often it asks", async () => {
    await known();
    for (let n = 0; n < 3; n++) await subject.gate.admit(requestOf(couponId, `before-${n}`));
    await subject.redis.zadd(looksKey, "99", couponId);
    for (let n = 0; n < 3; n++) await subject.gate.admit(requestOf(couponId, `user-${n}`));
    expect(await subject.redis.zscore(looksKey, couponId)).toBe("99");
    await subject.advance(announceMs + 1);
    await subject.gate.admit(requestOf(couponId, "later"));
    expect(await subject.redis.zscore(looksKey, couponId)).toBe("0");
  });
});
