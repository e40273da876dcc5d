import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Throttle } from "../../src/domain/coupon.js";
import type { Admission, AdmissionRequest } from "../../src/reservation/port.js";
import { implementations, load, openFacts, requestOf, type Subject } from "./implementations.js";

const runs = Number(process.env.MODEL_RUNS ?? 12);
const seed = process.env.MODEL_SEED === undefined ? {} : { seed: Number(process.env.MODEL_SEED) };

describe.each(implementations)("$name, throttle", ({ start }) => {
  let subject: Subject;
  let couponId: string;
  let longestMs: number;

  beforeEach(async () => {
    subject = await start({ clockStands: true });
    couponId = randomUUID();
    longestMs = 0;
  });
  afterEach(() => subject.close());

  /** The clock of a subject stands still but for the time that a message takes. */
  const timed = async <T>(message: Promise<T>): Promise<T> => {
    const sentAtMs = performance.now();
    const answer = await message;
    longestMs = Math.max(longestMs, performance.now() - sentAtMs);
    return answer;
  };
  /** How far the clocks of two messages may be off, on this machine, as busy as it is. */
  const slackMs = () => Math.ceil(2 * longestMs) + 2;
  const open = (throttle: Throttle | null, stock: number | null = null) =>
    timed(load(subject, couponId, openFacts(subject.now(), { throttle, stock })));
  const newRequest = (userId: string = randomUUID()): AdmissionRequest => requestOf(couponId, userId);
  const admit = (request: AdmissionRequest) => timed(subject.gate.admit(request));
  const end = (request: AdmissionRequest, outcome: "CONFIRM" | "RELEASE" = "CONFIRM") =>
    timed(subject.gate.settle([{ ...request, outcome, validUntil: null }]));
  /** A request that waits in the queue. */
  const queued = async (): Promise<AdmissionRequest> => {
    const request = newRequest();
    const { outcome, ticket } = await admit(request);
    expect(outcome).toBe("WAIT");
    return { ...request, ticket: ticket as number };
  };
  const begun = async (request = newRequest()): Promise<AdmissionRequest> => {
    expect((await admit(request)).outcome).toBe("RESERVED");
    return request;
  };
  const expectAbout = ({ outcome, waitMs }: Admission, expected: Admission["outcome"], ms: number) => {
    expect(outcome).toBe(expected);
    expect(waitMs).toBeGreaterThan(ms - slackMs());
    expect(waitMs).toBeLessThan(ms + slackMs());
  };

  test("tickets are evenly spaced, a little wider than the limit; who comes too late is told so and takes no ticket", async () => {
    await open({ maxConcurrent: 100, maxPerSecond: 2, maxWaitMs: 1_200 });
    const first = await admit(newRequest());
    expect(first.outcome).toBe("RESERVED");
    expect(first.ticket).toBeTypeOf("number");
    expectAbout(await admit(newRequest()), "WAIT", 525);
    expectAbout(await admit(newRequest()), "WAIT", 1_050);
    for (const queueMs of [1_200, 1_000]) {
      const refused = await admit({ ...newRequest(), patienceMs: queueMs });
      expectAbout(refused, "THROTTLED", 1_575 - queueMs);
      expect(refused.queueMs).toBe(queueMs);
    }
    await subject.advance(500);
    expectAbout(await admit(newRequest()), "WAIT", 1_075);
  });

  test("requests of one moment take their tickets in the order in which they came", async () => {
    await open({ maxConcurrent: 100, maxPerSecond: 4, maxWaitMs: 10_000 });
    const answers = await Promise.all(Array.from({ length: 20 }, () => admit(newRequest())));
    expect(answers[0]?.outcome).toBe("RESERVED");
    for (const [index, answer] of answers.slice(1).entries()) expectAbout(answer, "WAIT", (index + 1) * 262.5);
  });

  test("a queue that is empty gives a ticket that is due at once, however long it was empty", async () => {
    await open({ maxConcurrent: 1, maxPerSecond: 1, maxWaitMs: 0 });
    for (let n = 0; n < 3; n++) {
      await end(await begun());
      expect((await admit(newRequest())).outcome).toBe("THROTTLED");
      await subject.advance(5_000);
    }
  });

  test("before its ticket is due a request waits on, then it begins", async () => {
    await open({ maxConcurrent: 5, maxPerSecond: 1, maxWaitMs: 5_000 });
    await end(await begun());
    const second = await queued();
    await subject.advance(500);
    expectAbout(await admit(second), "WAIT", 550);
    await subject.advance(700 + slackMs());
    await begun(second);
  });

  test("no more are pending at once than may be; when one ends, the next may begin", async () => {
    await open({ maxConcurrent: 2, maxPerSecond: 1_000, maxWaitMs: 60_000 });
    const requests = [newRequest(), newRequest(), newRequest(), newRequest()];
    let running: AdmissionRequest[] = [];
    for (const [index, request] of requests.entries()) {
      await subject.advance(100);
      const answer = await admit(request);
      expect(answer.outcome).toBe(index < 2 ? "RESERVED" : "WAIT");
      if (index < 2) running.push(request);
      else requests[index] = { ...request, ticket: answer.ticket as number };
    }
    await subject.advance(1_000);
    expect((await admit(requests[2] as AdmissionRequest)).outcome).toBe("WAIT");
    await end(running[0] as AdmissionRequest, "RELEASE");
    running = running.slice(1);
    await subject.advance(1_000);
    await begun(requests[2]);
    expect((await admit(requests[3] as AdmissionRequest)).outcome).toBe("WAIT");
  });

  test("what ended counts for a second, however late the tickets are used", async () => {
    await open({ maxConcurrent: 100, maxPerSecond: 3, maxWaitMs: 60_000 });
    await end(await begun());
    const waiting = [await queued(), await queued(), await queued(), await queued()];
    await subject.advance(60_000);
    // All of them are late, and come at once.
    for (const request of waiting.slice(0, 3)) await begun(request);
    expect((await admit(waiting[3] as AdmissionRequest)).outcome).toBe("WAIT");
    for (const request of waiting.slice(0, 3)) await end(request);
    await subject.advance(400);
    expectAbout(await admit(waiting[3] as AdmissionRequest), "WAIT", 601);
    await subject.advance(600 + slackMs());
    await begun(waiting[3]);
  });

  test("who must wait although its ticket is due is not overtaken", async () => {
    await open({ maxConcurrent: 1, maxPerSecond: 2, maxWaitMs: 60_000 });
    const running = await begun();
    const [second, third] = [await queued(), await queued()];
    await subject.advance(800);
    expectAbout(await admit(second), "WAIT", 525);
    await subject.advance(525 + slackMs());
    expectAbout(await admit(second), "WAIT", 525);
    await end(running);
    // Both tickets are due by our clock, not by the queue's.
    expectAbout(await admit(third), "WAIT", 1_050);
    expectAbout(await admit(newRequest()), "WAIT", 1_575);
    await subject.advance(525 + slackMs());
    await end(await begun(second));
    expect((await admit(third)).outcome).toBe("WAIT");
  });

  test("a caller's patience counts as the limit does, also when its ticket is due", async () => {
    await open({ maxConcurrent: 1, maxPerSecond: 1, maxWaitMs: 5_000 });
    const running = await begun();
    expectAbout(await admit({ ...newRequest(), patienceMs: 700 }), "THROTTLED", 350);
    const second = await queued();
    await subject.advance(1_200 + slackMs());
    expectAbout(await admit({ ...second, patienceMs: 300 }), "THROTTLED", 750);
    await end(running, "RELEASE");
    await subject.advance(1_200);
    await begun({ ...second, patienceMs: 300 });
  });

  test("an edit forgets neither the queue nor what ended a moment ago; new limits hold at once", async () => {
    const throttle = { maxConcurrent: 5, maxPerSecond: 1, maxWaitMs: 5_000 };
    await open(throttle);
    const running = await begun();
    const second = await queued();
    await subject.advance(2_000);
    await subject.gate.invalidate(couponId);
    await end(running);
    await open(throttle);
    expectAbout(await admit(second), "WAIT", 1_001);
    expectAbout(await admit(newRequest()), "WAIT", 2_051);

    await subject.gate.invalidate(couponId);
    await open({ ...throttle, maxWaitMs: 500 });
    expect((await admit(newRequest())).outcome).toBe("THROTTLED");
    await subject.gate.invalidate(couponId);
    await open({ ...throttle, maxPerSecond: 2 });
    await subject.advance(1_001 + slackMs());
    await end(await begun(second));
    // Tickets that were given stay as they are; those that are new are half as far apart.
    await subject.advance(10_000);
    await begun();
    expectAbout(await admit(newRequest()), "WAIT", 525);
    await subject.gate.invalidate(couponId);
    await open(null);
    for (let n = 0; n < 3; n++) expect(await admit(newRequest())).toEqual({ outcome: "RESERVED" });
  });

  test("a reservation that a load finds to be issued has ended then", async () => {
    const throttle = { maxConcurrent: 5, maxPerSecond: 1, maxWaitMs: 5_000 };
    await open(throttle);
    const running = await begun(newRequest("u"));
    const second = await queued();
    await subject.advance(2_000);
    const { userId, userCouponId, requestId } = running;
    const holding = { userId, userCouponId, requestId, validUntil: null };
    await timed(load(subject, couponId, openFacts(subject.now(), { throttle, stock: null }), [holding]));
    expectAbout(await admit(second), "WAIT", 1_001);
  });

  test("nobody waits for what is sold out, and who waits in the queue holds no stock", async () => {
    await open({ maxConcurrent: 5, maxPerSecond: 1, maxWaitMs: 60_000 }, 2);
    await end(await begun());
    const waiting = [await queued(), await queued()];
    await subject.advance(2_000);
    const last = await begun(waiting[0]);
    expect((await admit(newRequest())).outcome).toBe("UNDECIDED");
    await end(last);
    expect((await admit(newRequest())).outcome).toBe("SOLD_OUT");
    expect((await admit(waiting[1] as AdmissionRequest)).outcome).toBe("SOLD_OUT");
  });

  test("a coupon that is not throttled has neither queue nor tickets", async () => {
    await open(null);
    for (const request of [newRequest(), { ...newRequest(), ticket: 5 }, { ...newRequest(), patienceMs: 0 }]) {
      expect(await admit(request)).toEqual({ outcome: "RESERVED" });
    }
  });

  test("in any crowd: never more at once or a second, and first come, first served", { timeout: 300_000 }, async () => {
    const crowd = fc.record({
      maxConcurrent: fc.integer({ min: 1, max: 4 }),
      maxPerSecond: fc.constantFrom(1, 2, 5, 20, 100),
      callers: fc.array(fc.record({ afterMs: fc.nat(400), workMs: fc.integer({ min: 1, max: 500 }) }), {
        minLength: 5,
        maxLength: 30,
      }),
    });
    await fc.assert(
      fc.asyncProperty(crowd, async ({ callers, ...limits }) => {
        couponId = randomUUID();
        await open({ ...limits, maxWaitMs: 100_000 });
        longestMs = 0;
        const startedAtMs = subject.now();
        let atMs = startedAtMs;
        // What is to happen, and when: a request, or the end of one.
        const coming = callers.map(({ afterMs, workMs }, index) => {
          atMs += afterMs;
          return { atMs, request: newRequest(), workMs, index, ends: false };
        });
        const begunAtMs: number[] = [];
        const endedAtMs: number[] = [];
        const order: number[] = [];
        let running = 0;
        while (coming.length > 0) {
          const next = coming.reduce((first, one) => (one.atMs < first.atMs ? one : first));
          coming.splice(coming.indexOf(next), 1);
          await subject.advance(Math.max(0, next.atMs - subject.now()));
          if (next.ends) {
            await end(next.request);
            running -= 1;
            endedAtMs.push(subject.now());
            continue;
          }
          const { outcome, waitMs, ticket } = await admit(next.request);
          if (outcome === "RESERVED") {
            running += 1;
            begunAtMs.push(subject.now());
            order.push(next.index);
            coming.push({ ...next, atMs: subject.now() + next.workMs, ends: true });
          } else {
            expect(outcome).toBe("WAIT");
            // Its timer may be some milliseconds late, like any.
            const request = { ...next.request, ticket: ticket as number };
            coming.push({ ...next, request, atMs: subject.now() + (waitMs as number) + 1 });
          }
          expect(running).toBeLessThanOrEqual(limits.maxConcurrent);
        }
        for (const times of [begunAtMs, endedAtMs]) times.sort((a, b) => a - b);
        for (const [index, ms] of begunAtMs.entries()) {
          const before = begunAtMs[index - limits.maxPerSecond];
          if (before !== undefined) expect(ms - before).toBeGreaterThanOrEqual(1_000 - slackMs());
        }
        // Nobody is overtaken, unless the tickets are so close that a message which was late explains it.
        const ticketsApartMs = 1_050 / limits.maxPerSecond;
        for (const [at, index] of order.entries()) {
          const overtaken = order.slice(at + 1).filter((later) => later < index);
          for (const other of overtaken) expect((index - other) * ticketsApartMs).toBeLessThan(slackMs());
        }
      }),
      { numRuns: runs, ...seed },
    );
  });
});
