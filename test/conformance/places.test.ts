import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  defaultReservationMs,
  keepPlacesMs,
  type PlaceOutcome,
  type PlaceRequest,
  type PlaceSettlement,
  placeOutcomes,
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

const runs = Number(process.env.MODEL_RUNS ?? 40);
const seed = process.env.MODEL_SEED === undefined ? {} : { seed: Number(process.env.MODEL_SEED) };

describe.each(implementations)("$name, places", ({ start }) => {
  let subject: Subject;
  let couponId: string;

  beforeEach(async () => {
    subject = await start();
    couponId = randomUUID();
  });
  afterEach(() => subject.close());

  const request = (revision = 1): PlaceRequest => ({ couponId, revision, usageId: randomUUID() });
  const take = (one: PlaceRequest = request()): Promise<PlaceOutcome> => subject.gate.takePlace(one);
  const taken = async (): Promise<PlaceRequest> => {
    const one = request();
    expect(await take(one)).toBe("TAKEN");
    return one;
  };
  const settle = (outcome: PlaceSettlement["outcome"], ...requests: PlaceRequest[]) =>
    subject.gate.settlePlaces(requests.map(({ usageId }) => ({ couponId, usageId, outcome })));
  const loadPlaces = (remaining: number, revision = 1) => subject.gate.loadPlaces(couponId, { revision, remaining });
  const surveyed = async () => (await subject.gate.survey(1_000, 1_000)).find((one) => one.couponId === couponId);
  const seen = async () => {
    const { places, takenCount, overdueUsageIds } = (await surveyed()) ?? {
      places: null,
      takenCount: 0,
      overdueUsageIds: [],
    };
    return { remaining: places?.remaining ?? null, takenCount, overdueCount: overdueUsageIds.length };
  };

  describe("takePlace", () => {
    test("NOT_LOADED for places that are not known, and nothing is kept of the request", async () => {
      expect(await take()).toBe("NOT_LOADED");
      expect(await surveyed()).toBeUndefined();
    });

    test("each takes one; the last one goes to the first who asks", async () => {
      await loadPlaces(2);
      expect([await take(), await take(), await take()]).toEqual(["TAKEN", "TAKEN", "UNDECIDED"]);
      expect(await seen()).toEqual({ remaining: 0, takenCount: 2, overdueCount: 0 });
    });

    test("nobody is refused before the last places are decided: one may come back, or be the asker's own", async () => {
      await loadPlaces(2);
      const [one, other] = [await taken(), await taken()];
      await settle("CONFIRM", one);
      expect(await take()).toBe("UNDECIDED");
      await settle("CONFIRM", other);
      expect(await take()).toBe("USAGE_CAP_REACHED");
      expect(await seen()).toEqual({ remaining: 0, takenCount: 0, overdueCount: 0 });
    });

    test.each([0, 2])("NOT_LOADED when the caller knows revision %i of a coupon of revision 1", async (revision) => {
      await loadPlaces(5);
      expect(await take(request(revision))).toBe("NOT_LOADED");
      expect(await seen()).toEqual({ remaining: 5, takenCount: 0, overdueCount: 0 });
    });

    test("another revision is not refused, even if no place of this one is left", async () => {
      await loadPlaces(0);
      expect([await take(), await take(request(2))]).toEqual(["USAGE_CAP_REACHED", "NOT_LOADED"]);
    });

    test("places are known without the coupon, and the coupon without its places", async () => {
      await loadPlaces(1);
      expect((await subject.gate.admit(requestOf(couponId, "u"))).outcome).toBe("NOT_LOADED");
      expect((await surveyed())?.loaded).toBeNull();
      const other = randomUUID();
      await load(subject, other, openFacts(subject.now()));
      expect(await take({ ...request(), couponId: other })).toBe("NOT_LOADED");
    });

    test("places are no stock: neither takes from the other", async () => {
      await load(subject, couponId, openFacts(subject.now(), { stock: 5 }));
      await loadPlaces(5);
      await subject.gate.admit(requestOf(couponId, "u"));
      await taken();
      await taken();
      expect(await surveyed()).toMatchObject({
        loaded: { revision: 1, stock: 4 },
        pendingCount: 1,
        places: { revision: 1, remaining: 3 },
        takenCount: 2,
      });
    });

    test("300 requests in one tick are served in order, past the size of one script call", async () => {
      await loadPlaces(200);
      const outcomes = await Promise.all(Array.from({ length: 300 }, () => take()));
      expect(outcomes).toEqual(outcomes.map((_, n) => (n < 200 ? "TAKEN" : "UNDECIDED")));
      expect(await seen()).toEqual({ remaining: 0, takenCount: 200, overdueCount: 0 });
    });

    test("requests of several revisions and coupons in one tick do not touch each other", async () => {
      const other = randomUUID();
      await loadPlaces(1);
      await subject.gate.loadPlaces(other, { revision: 9, remaining: 0 });
      const elsewhere = { ...request(9), couponId: other };
      const outcomes = await Promise.all(
        [request(2), request(), elsewhere, request(), { ...elsewhere, revision: 1 }].map(take),
      );
      expect(outcomes).toEqual(["NOT_LOADED", "TAKEN", "USAGE_CAP_REACHED", "UNDECIDED", "NOT_LOADED"]);
    });

    test("every outcome of the port is answered somewhere in this suite", () => {
      expect([...placeOutcomes].sort()).toEqual(["NOT_LOADED", "TAKEN", "UNDECIDED", "USAGE_CAP_REACHED"]);
    });
  });

  describe("settlePlaces", () => {
    test("a confirmation keeps the place, however often it comes", async () => {
      await loadPlaces(5);
      const one = await taken();
      for (let n = 0; n < 3; n++) await settle("CONFIRM", one);
      expect(await seen()).toEqual({ remaining: 4, takenCount: 0, overdueCount: 0 });
    });

    test("a release gives the place back once, however often it comes", async () => {
      await loadPlaces(1);
      const one = await taken();
      for (let n = 0; n < 3; n++) await settle("RELEASE", one);
      expect(await seen()).toEqual({ remaining: 1, takenCount: 0, overdueCount: 0 });
      expect([await take(), await take()]).toEqual(["TAKEN", "UNDECIDED"]);
    });

    test("the first outcome counts: a late one changes nothing", async () => {
      await loadPlaces(5);
      const [kept, given] = [await taken(), await taken()];
      await settle("CONFIRM", kept);
      await settle("RELEASE", given);
      await settle("RELEASE", kept);
      await settle("CONFIRM", given);
      expect(await seen()).toEqual({ remaining: 4, takenCount: 0, overdueCount: 0 });
    });

    test("of what was never taken it is void", async () => {
      await loadPlaces(5);
      await settle("RELEASE", request());
      await settle("CONFIRM", request());
      expect(await seen()).toEqual({ remaining: 5, takenCount: 0, overdueCount: 0 });
    });

    test("of a coupon whose places are not known it only ends what is pending", async () => {
      await loadPlaces(5);
      const [kept, given] = [await taken(), await taken()];
      await subject.gate.invalidate(couponId);
      expect(await surveyed()).toMatchObject({ places: null, takenCount: 2 });
      await settle("CONFIRM", kept);
      await settle("RELEASE", given);
      expect(await surveyed()).toBeUndefined();
      expect(await take()).toBe("NOT_LOADED");
    });

    test("of several coupons, and of more than one script call, comes in one call", async () => {
      const other = randomUUID();
      await loadPlaces(300);
      await subject.gate.loadPlaces(other, { revision: 1, remaining: 1 });
      const requests = Array.from({ length: 300 }, () => request());
      await Promise.all(requests.map(take));
      const elsewhere = { ...request(), couponId: other };
      await take(elsewhere);
      await subject.gate.settlePlaces([
        ...requests.map((one, n): PlaceSettlement => ({ ...one, outcome: n % 3 ? "CONFIRM" : "RELEASE" })),
        { ...elsewhere, outcome: "RELEASE" },
      ]);
      expect(await seen()).toEqual({ remaining: 100, takenCount: 0, overdueCount: 0 });
      expect(await take(elsewhere)).toBe("TAKEN");
    });

    test("none at all is fine", async () => {
      await expect(subject.gate.settlePlaces([])).resolves.toBeUndefined();
    });
  });

  describe("loadPlaces", () => {
    test("changes nothing when this revision is known: what was taken since it was read would be forgotten", async () => {
      await loadPlaces(5);
      await taken();
      await loadPlaces(5);
      expect(await seen()).toEqual({ remaining: 4, takenCount: 1, overdueCount: 0 });
    });

    test("of another revision replaces what is known, and what was pending with it", async () => {
      await loadPlaces(1);
      const one = await taken();
      await loadPlaces(7, 2);
      expect(await surveyed()).toMatchObject({ places: { revision: 2, remaining: 7 }, takenCount: 0 });
      expect([await take(), await take(request(2))]).toEqual(["NOT_LOADED", "TAKEN"]);
      // Of the old copy: it is void, or the new one would know of a place that there is not.
      await settle("RELEASE", one);
      expect(await seen()).toEqual({ remaining: 6, takenCount: 1, overdueCount: 0 });
    });

    test("after invalidate begins anew", async () => {
      await loadPlaces(3);
      const one = await taken();
      await subject.gate.invalidate(couponId);
      expect(await take()).toBe("NOT_LOADED");
      await loadPlaces(3);
      await settle("RELEASE", one);
      expect(await seen()).toEqual({ remaining: 3, takenCount: 0, overdueCount: 0 });
    });

    test("does not disturb the coupon, its reservations, or a load under way", async () => {
      await load(subject, couponId, openFacts(subject.now()));
      await subject.gate.admit(requestOf(couponId, "u"));
      const loading = await subject.gate.beginLoad(couponId);
      await loadPlaces(5);
      expect(await loading?.install(openFacts(subject.now(), { revision: 2 }))).toBe(true);
      expect(await surveyed()).toMatchObject({
        loaded: { revision: 2, stock: 9 },
        pendingCount: 1,
        places: { revision: 1, remaining: 5 },
      });
    });

    test("a load of the coupon does not disturb its places", async () => {
      await loadPlaces(5);
      await taken();
      await load(subject, couponId, openFacts(subject.now()));
      expect(await seen()).toEqual({ remaining: 4, takenCount: 1, overdueCount: 0 });
    });
  });

  describe("time", () => {
    test("shows a place as overdue from its deadline until it is settled", async () => {
      await loadPlaces(5);
      const [a, b] = [await taken(), await taken()];
      await subject.advance(defaultReservationMs - 2_000);
      expect((await surveyed())?.overdueUsageIds).toEqual([]);
      const young = await taken();
      await subject.advance(4_000);
      for (let n = 0; n < 2; n++) {
        expect([...((await surveyed())?.overdueUsageIds ?? [])].sort()).toEqual([a.usageId, b.usageId].sort());
      }
      await settle("CONFIRM", a);
      await settle("RELEASE", b);
      expect(await seen()).toEqual({ remaining: 3, takenCount: 1, overdueCount: 0 });
      await settle("RELEASE", young);
    });

    test("an overdue place is held until somebody has asked Postgres", async () => {
      await loadPlaces(1);
      await taken();
      await subject.advance(defaultReservationMs + 1_000);
      expect(await take()).toBe("UNDECIDED");
    });

    test("an overdue one of places that are not known any more is found", async () => {
      await loadPlaces(1);
      const one = await taken();
      await subject.gate.invalidate(couponId);
      await subject.advance(defaultReservationMs + 1_000);
      expect(await surveyed()).toMatchObject({
        loaded: null,
        places: null,
        takenCount: 1,
        overdueUsageIds: [one.usageId],
      });
    });

    test("lists no more overdue ones than asked for", async () => {
      await loadPlaces(5);
      for (let n = 0; n < 3; n++) await taken();
      await subject.advance(defaultReservationMs + 1_000);
      const [few] = await subject.gate.survey(10, 2);
      expect([few?.overdueUsageIds.length, few?.takenCount]).toEqual([2, 3]);
      const [none] = await subject.gate.survey(10, 0);
      expect([none?.overdueUsageIds.length, none?.takenCount]).toEqual([0, 3]);
    });

    test("places stay known for a while after the last one was taken, and no longer", async () => {
      await loadPlaces(5);
      await subject.advance(keepPlacesMs - 60_000);
      const one = await taken();
      await settle("CONFIRM", one);
      await subject.advance(keepPlacesMs - 60_000);
      expect(await seen()).toEqual({ remaining: 4, takenCount: 0, overdueCount: 0 });
      await subject.advance(120_000);
      expect(await surveyed()).toBeUndefined();
      expect(await take()).toBe("NOT_LOADED");
    });
  });

  /**
   * What Postgres has, and what is on its way there. The rule of the port, after every step:
   * places remaining >= usage cap - places taken in Postgres - places that are pending here.
   */
  test("never knows of fewer places than are left, whatever is lost, late or repeated", async () => {
    const cap = 6;
    const step = fc.oneof(
      { weight: 6, arbitrary: fc.record({ kind: fc.constant("take" as const) }) },
      {
        weight: 5,
        arbitrary: fc.record({ kind: fc.constant("commit" as const), which: fc.nat(9), tell: fc.boolean() }),
      },
      { weight: 3, arbitrary: fc.record({ kind: fc.constant("refuse" as const), which: fc.nat(9) }) },
      { weight: 2, arbitrary: fc.record({ kind: fc.constant("direct" as const) }) },
      { weight: 3, arbitrary: fc.record({ kind: fc.constant("read" as const) }) },
      { weight: 3, arbitrary: fc.record({ kind: fc.constant("load" as const) }) },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant("invalidate" as const) }) },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant("edit" as const), invalidates: fc.boolean() }) },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant("free" as const) }) },
      { weight: 2, arbitrary: fc.record({ kind: fc.constant("repeat" as const), which: fc.nat(9) }) },
      { weight: 2, arbitrary: fc.record({ kind: fc.constant("sweep" as const) }) },
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 60, size: "max" }), async (steps) => {
        couponId = randomUUID();
        let revision = 1;
        let placed = 0;
        const stored = new Set<string>();
        let open: PlaceRequest[] = [];
        const past: { request: PlaceRequest; outcome: PlaceSettlement["outcome"] }[] = [];
        let read: { remaining: number; revision: number } | null = null;
        const decide = (which: number) => {
          const one = open[which % open.length];
          open = open.filter((other) => other !== one);
          return one;
        };
        for (const one of steps) {
          switch (one.kind) {
            case "take": {
              const next = request(revision);
              const outcome = await take(next);
              if (outcome === "TAKEN") open.push(next);
              // Nobody is refused while there are places, nor while somebody may give some back.
              if (outcome === "USAGE_CAP_REACHED") {
                expect({ left: Math.max(0, cap - placed), ...(await seen()) }).toMatchObject({
                  left: 0,
                  takenCount: 0,
                });
              }
              break;
            }
            case "commit": {
              const next = decide(one.which);
              // The table's CHECK: never over the cap.
              const outcome = next && placed < cap ? "CONFIRM" : "RELEASE";
              if (!next) break;
              if (outcome === "CONFIRM") {
                placed += 1;
                stored.add(next.usageId);
              }
              past.push({ request: next, outcome });
              if (one.tell) await settle(outcome, next);
              break;
            }
            case "refuse": {
              const next = decide(one.which);
              if (!next) break;
              past.push({ request: next, outcome: "RELEASE" });
              await settle("RELEASE", next);
              break;
            }
            case "direct":
              if (placed < cap) placed += 1;
              break;
            case "read":
              read = { remaining: cap - placed, revision };
              break;
            case "load":
              if (read) await loadPlaces(read.remaining, read.revision);
              read = null;
              break;
            case "invalidate":
              await subject.gate.invalidate(couponId);
              break;
            case "edit":
              revision += 1;
              if (one.invalidates) await subject.gate.invalidate(couponId);
              break;
            case "free":
              // What is read before and loaded after would be out of date: the keeper's business, not the port's.
              read = null;
              if (placed > 0) placed -= 1;
              await subject.gate.invalidate(couponId);
              break;
            case "repeat": {
              const { request: again, outcome } = past[one.which % past.length] ?? {};
              if (again && outcome) await settle(outcome, again);
              break;
            }
            case "sweep": {
              await subject.advance(defaultReservationMs + 1_000);
              const overdue = (await surveyed())?.overdueUsageIds ?? [];
              for (const usageId of overdue)
                await settle(stored.has(usageId) ? "CONFIRM" : "RELEASE", { ...request(), usageId });
              break;
            }
          }
          const found = await surveyed();
          if (found?.places?.revision === revision) {
            expect(found.places.remaining).toBeGreaterThanOrEqual(cap - placed - found.takenCount);
          }
        }
        await subject.advance(defaultReservationMs + 1_000);
        const found = await surveyed();
        for (const usageId of found?.overdueUsageIds ?? []) {
          await settle(stored.has(usageId) ? "CONFIRM" : "RELEASE", { ...request(), usageId });
        }
        const settled = await surveyed();
        if (settled?.places?.revision === revision) {
          expect(settled.takenCount).toBe(0);
          expect(settled.places.remaining).toBeGreaterThanOrEqual(cap - placed);
        }
      }),
      { numRuns: runs, ...seed },
    );
  });
});

describe("RedisGate, keys of places", () => {
  let subject: RedisSubject;

  beforeEach(async () => {
    subject = await startRedisSubject();
  });
  afterEach(() => subject.close());

  test("what is known ends by itself, what is pending does not, and both lie in the coupon's slot", async () => {
    const couponId = randomUUID();
    await subject.gate.loadPlaces(couponId, { revision: 1, remaining: 5 });
    const requests = Array.from({ length: 2 }, () => ({ couponId, revision: 1, usageId: randomUUID() }));
    for (const one of requests) await subject.gate.takePlace(one);
    const key = (name: string) => `${subject.keyPrefix}:{${couponId}}:${name}`;
    const leftMs = await subject.redis.pttl(key("places"));
    expect(leftMs).toBeGreaterThan(keepPlacesMs - 60_000);
    expect(leftMs).toBeLessThanOrEqual(keepPlacesMs);
    expect(await subject.redis.pttl(key("taken"))).toBe(-1);
    await subject.gate.settlePlaces(requests.map((one) => ({ ...one, outcome: "CONFIRM" })));
    const keys = await subject.redis.keys(`${subject.keyPrefix}:*`);
    const registry = `${subject.keyPrefix}:coupons`;
    expect(keys.sort()).toEqual([registry, `${subject.keyPrefix}:{${registry}}:looks`, key("places")].sort());
  });

  test("a release after Redis was wiped makes no place known", async () => {
    const couponId = randomUUID();
    await subject.gate.loadPlaces(couponId, { revision: 1, remaining: 5 });
    const one = { couponId, revision: 1, usageId: randomUUID() };
    await subject.gate.takePlace(one);
    await subject.redis.del(`${subject.keyPrefix}:{${couponId}}:places`);
    await subject.gate.settlePlaces([{ ...one, outcome: "RELEASE" }]);
    expect(await subject.gate.takePlace({ ...one, usageId: randomUUID() })).toBe("NOT_LOADED");
    expect(await subject.redis.exists(`${subject.keyPrefix}:{${couponId}}:places`)).toBe(0);
  });
});
