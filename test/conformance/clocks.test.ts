import { randomUUID } from "node:crypto";
import { describe, expect, onTestFinished, test } from "vitest";
import { defaultReservationMs, type GateFacts, keepEndedMs } from "../../src/reservation/port.js";
import { holdingOf, implementations, load, openFacts, requestOf, startRedisSubject } from "./implementations.js";

const hourMs = 3_600_000;
const minuteMs = 60_000;
const skews = [
  { name: "ahead of", databaseAheadMs: 2 * hourMs },
  { name: "behind", databaseAheadMs: -2 * hourMs },
];

describe.each(implementations)("$name", ({ start }) => {
  describe.each(skews)("Postgres' clock is two hours $name its own", ({ databaseAheadMs }) => {
    const begin = async () => {
      const subject = await start({ databaseAheadMs });
      onTestFinished(() => subject.close());
      /** A time by Postgres' clock, so long from now. */
      const at = (inMs: number) => new Date(subject.now() + databaseAheadMs + inMs);
      const known = async (changed: Partial<GateFacts> = {}, validUntil?: Date) => {
        const couponId = randomUUID();
        const facts = openFacts(subject.now() + databaseAheadMs, changed);
        const holdings = validUntil ? [holdingOf(requestOf(couponId, "holder"), validUntil)] : [];
        await load(subject, couponId, facts, holdings);
        return couponId;
      };
      const admit = async (couponId: string, userId = "user") =>
        (await subject.gate.admit(requestOf(couponId, userId))).outcome;
      return { subject, at, known, admit };
    };

    test("a coupon begins and ends by Postgres' clock", async () => {
      const { at, known, admit } = await begin();
      const windows: [number, number][] = [
        [-hourMs, hourMs],
        [-minuteMs, minuteMs],
        [minuteMs, hourMs],
        [-hourMs, -minuteMs],
      ];
      const outcomes = [];
      for (const [from, to] of windows) {
        outcomes.push(await admit(await known({ startsAt: at(from), expiresAt: at(to) })));
      }
      expect(outcomes).toEqual(["RESERVED", "RESERVED", "COUPON_NOT_STARTED", "COUPON_ENDED"]);
    });

    test("what a user holds counts until it ends by Postgres' clock", async () => {
      const { at, known, admit } = await begin();
      expect(await admit(await known({}, at(minuteMs)), "holder")).toBe("ALREADY_ISSUED");
      expect(await admit(await known({}, at(-minuteMs)), "holder")).toBe("RESERVED");
    });

    test("a reservation lasts by the gate's own clock", async () => {
      const { subject, known, admit } = await begin();
      const couponId = await known();
      expect(await admit(couponId)).toBe("RESERVED");
      const overdueCount = async () => {
        const surveys = await subject.gate.survey(1_000, 1_000);
        return surveys.find((one) => one.couponId === couponId)?.overdue.length;
      };
      await subject.advance(defaultReservationMs - 2_000);
      expect(await overdueCount()).toBe(0);
      await subject.advance(2_000);
      expect(await overdueCount()).toBe(1);
    });
  });
});

test.each(skews)("Redis, with Postgres' clock two hours $name its own, keeps a coupon until its end", async (skew) => {
  const { databaseAheadMs } = skew;
  const subject = await startRedisSubject({ databaseAheadMs });
  onTestFinished(() => subject.close());
  const couponId = randomUUID();
  await load(subject, couponId, openFacts(subject.now() + databaseAheadMs));
  const leftMs = await subject.redis.pttl(`${subject.keyPrefix}:{${couponId}}:coupon`);
  expect(leftMs).toBeGreaterThan(keepEndedMs + hourMs - minuteMs);
  expect(leftMs).toBeLessThanOrEqual(keepEndedMs + hourMs);
});
