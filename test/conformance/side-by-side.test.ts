import { createHash } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import type { Throttle } from "../../src/domain/coupon.js";
import { groupBy } from "../../src/platform/group-by.js";
import { packHoldings } from "../../src/reservation/packed-holdings.js";
import type {
  Admission,
  GateRequest,
  Holding,
  Loading,
  PlaceRequest,
  PlaceSettlement,
  Settlement,
  Survey,
} from "../../src/reservation/port.js";
import { implementations, openFacts, type Subject } from "./implementations.js";

/**
 * Both implementations get the same random life, command by command, and must give the same answers and the same survey
 * after each. The clocks stand but for what messages take, so time is moved in steps of ten seconds while everything that
 * depends on it lies some seconds past a step. Both coupons are of one quota group.
 */
const stepMs = 10_000;
const reservationMs = 15_000;
const longestLifeMs = 500_000;
const dayMs = 86_400_000;
const quotaGroup = "group";
const runs = Number(process.env.MODEL_RUNS ?? 150);
const seed = process.env.MODEL_SEED === undefined ? {} : { seed: Number(process.env.MODEL_SEED) };

const couponIds = ["11111111-1111-7111-8111-111111111111", "22222222-2222-7222-8222-222222222222"] as const;

interface Who {
  readonly coupon: number;
  readonly user: number;
  readonly requestNumber: number;
}

type Command =
  | { readonly kind: "admit"; readonly requests: readonly Who[] }
  | { /** Of those that wait with a ticket. */ readonly kind: "again"; readonly which: readonly number[] }
  | {
      readonly kind: "settle";
      readonly which: readonly {
        request: number;
        outcome: Settlement["outcome"];
        validSteps: number;
        givenBackNo: number;
      }[];
    }
  | { readonly kind: "adopt"; readonly who: Who; readonly validSteps: number }
  | { readonly kind: "begin"; readonly coupon: number }
  | {
      readonly kind: "holders";
      readonly coupon: number;
      readonly mask: readonly boolean[];
      readonly validSteps: number;
    }
  | {
      readonly kind: "install";
      readonly coupon: number;
      readonly revision: number;
      readonly startSteps: number;
      readonly endSteps: number;
      readonly paused: boolean;
      readonly deleted: boolean;
      readonly exhausted: boolean;
      readonly maxPerUser: number;
      readonly stock: number | null;
      readonly givenBackTotal: number;
      readonly throttle: Throttle | null;
      readonly maxPerDay: number | null;
    }
  | { readonly kind: "take"; readonly coupon: number; readonly revisions: readonly number[] }
  | { readonly kind: "settlePlaces"; readonly which: readonly { usage: number; confirm: boolean }[] }
  | { readonly kind: "loadPlaces"; readonly coupon: number; readonly revision: number; readonly remaining: number }
  | { readonly kind: "invalidate"; readonly coupon: number }
  | { readonly kind: "advance"; readonly steps: number };

const coupon = fc.nat(couponIds.length - 1);
const who: fc.Arbitrary<Who> = fc.record({ coupon, user: fc.nat(2), requestNumber: fc.nat(3) });
/** 0: without an end of its own. */
const validSteps = fc.constantFrom(0, 0, 1, 2);
const rarely = fc.integer({ min: 0, max: 9 }).map((n) => n === 9);
const outcome = fc.constantFrom(
  "CONFIRM" as const,
  "CONFIRM" as const,
  "RELEASE" as const,
  "RELEASE" as const,
  "FREE" as const,
  "RETURN" as const,
);
const revision = fc.constantFrom(1, 1, 1, 2);
const loadPlaces = fc.record({ kind: fc.constant("loadPlaces" as const), coupon, revision, remaining: fc.nat(4) });
const install = fc.record({
  kind: fc.constant("install" as const),
  coupon,
  revision: fc.integer({ min: 1, max: 3 }),
  startSteps: fc.constantFrom(-10, -10, -10, 1),
  endSteps: fc.constantFrom(30, 30, 2, 0),
  paused: rarely,
  deleted: rarely,
  exhausted: rarely,
  maxPerUser: fc.integer({ min: 1, max: 2 }),
  stock: fc.constantFrom(null, 0, 1, 2, 3, 5),
  givenBackTotal: fc.nat(3),
  // Waits are some whole seconds, which the time that messages take cannot blur.
  throttle: fc.option(
    fc.record({
      maxConcurrent: fc.integer({ min: 1, max: 2 }),
      maxPerSecond: fc.constant(1),
      maxWaitMs: fc.constantFrom(2_600, 60_000),
    }),
    { freq: 2 },
  ),
  maxPerDay: fc.constantFrom(null, null, 1, 3),
});

const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({ kind: fc.constant("admit"), requests: fc.array(who, { minLength: 1, maxLength: 4 }) }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("settle"),
      which: fc.array(fc.record({ request: fc.nat(30), outcome, validSteps, givenBackNo: fc.nat(8) }), {
        minLength: 1,
        maxLength: 3,
      }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("adopt"), who, validSteps }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant("again"),
      which: fc.array(fc.nat(30), { minLength: 1, maxLength: 4 }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("begin"), coupon }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("holders"),
      coupon,
      mask: fc.array(fc.boolean(), { minLength: 4, maxLength: 12 }),
      validSteps,
    }),
  },
  { weight: 4, arbitrary: install },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("take"),
      coupon,
      revisions: fc.array(revision, { minLength: 1, maxLength: 4 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant("settlePlaces"),
      which: fc.array(fc.record({ usage: fc.nat(30), confirm: fc.boolean() }), { minLength: 1, maxLength: 3 }),
    }),
  },
  { weight: 2, arbitrary: loadPlaces },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("invalidate"), coupon }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("advance"), steps: fc.integer({ min: 1, max: 2 }) }) },
);

/** A coupon is usually loaded first, or most commands would meet an unknown one. */
const life = fc
  .tuple(
    fc.array(install, { maxLength: 2 }),
    fc.array(loadPlaces, { maxLength: 2 }),
    fc.array(command, { maxLength: 40, size: "max" }),
  )
  .map(([first, places, rest]): Command[] => [
    ...places,
    ...first.flatMap((one): Command[] => [{ kind: "begin", coupon: one.coupon }, one]),
    ...rest,
  ]);

/** What both lives have in common: who asked, and which user coupon a request id may be known for. */
class Script {
  readonly requests: GateRequest[] = [];
  readonly usages: PlaceRequest[] = [];
  private readonly owners = new Map<string, GateRequest>();
  private readonly stored = new Set<GateRequest>();

  newRequest({ coupon, user, requestNumber }: Who): GateRequest {
    // Noon of today: the clock of a life does not come to another day.
    const madeAtMs = Math.floor(Date.now() / dayMs) * dayMs + dayMs / 2;
    const time = madeAtMs.toString(16).padStart(12, "0");
    const userCouponId = `${time.slice(0, 8)}-${time.slice(8)}${uuidOf(`ask ${this.requests.length}`).slice(13)}`;
    const request = {
      couponId: couponIds[coupon] as string,
      userId: `user-${user}`,
      requestId: requestNumber === 0 ? "" : `request-${requestNumber}`,
      userCouponId,
    };
    this.requests.push(request);
    return request;
  }

  newUsage(couponId: string, revision: number): PlaceRequest {
    const request = { couponId, revision, usageId: uuidOf(`usage ${this.usages.length}`) };
    this.usages.push(request);
    return request;
  }

  /** The latest request with a request id that was let through or confirmed has it: Postgres stores a request id once. */
  own(request: GateRequest): void {
    this.owners.set(ownerKey(request), request);
  }
  store(request: GateRequest): void {
    this.own(request);
    this.stored.add(request);
  }
  disown(request: GateRequest): void {
    if (!this.stored.has(request) && this.owners.get(ownerKey(request)) === request)
      this.owners.delete(ownerKey(request));
  }
  mayBeStored(request: GateRequest): boolean {
    const owner = this.owners.get(ownerKey(request));
    return request.requestId === "" || owner === undefined || owner === request;
  }
}

function uuidOf(name: string): string {
  const hash = createHash("md5").update(name).digest("hex");
  return hash.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

function ownerKey({ couponId, userId, requestId }: GateRequest): string {
  return `${couponId} ${userId} ${requestId}`;
}

async function twice<T>(
  subjects: readonly Subject[],
  act: (subject: Subject, index: number) => Promise<T>,
): Promise<T> {
  const answers: T[] = [];
  for (const [index, subject] of subjects.entries()) answers.push(await act(subject, index));
  expect(answers[1]).toEqual(answers[0]);
  return answers[0] as T;
}

function comparable(surveys: readonly Survey[]) {
  return surveys
    .map((survey) => ({
      ...survey,
      overdue: [...survey.overdue].sort((a, b) => a.userCouponId.localeCompare(b.userCouponId)),
      overdueUsageIds: [...survey.overdueUsageIds].sort(),
    }))
    .sort((a, b) => a.couponId.localeCompare(b.couponId));
}

async function live(subjects: readonly Subject[], commands: readonly Command[]): Promise<void> {
  const startedAt = (subjects[0] as Subject).now();
  /** Five seconds past a step, counted from the beginning of this life. */
  const timestamp = (steps: number) => new Date(startedAt + steps * stepMs + stepMs / 2);
  let stepsGone = 0;
  const validUntil = (steps: number) => (steps === 0 ? null : timestamp(stepsGone + steps - 1));
  const script = new Script();
  const loads = new Map<number, { pair: (Loading | null)[]; staged: boolean }>();
  /** Requests that wait in a queue, with the ticket that each subject gave. */
  const waiting: { request: GateRequest; tickets: number[] }[] = [];

  /** Tickets and waits depend on the moment at which a subject looks at its clock; what else is answered must be the same. */
  const admitTogether = async (requests: readonly { request: GateRequest; tickets: readonly number[] }[]) => {
    const tickets = requests.map((): number[] => []);
    const outcomes = await twice(subjects, async ({ gate }, index) => {
      const answers = await Promise.all(
        requests.map((one) => {
          const ticket = one.tickets[index];
          return gate.admit(ticket === undefined ? one.request : { ...one.request, ticket });
        }),
      );
      return answers.map(({ outcome, userCouponId, ticket, waitMs }: Admission, at) => {
        if (ticket !== undefined) tickets[at]?.push(ticket);
        return { outcome, userCouponId, hasTurn: ticket !== undefined, waits: waitMs !== undefined && waitMs >= 1 };
      });
    });
    for (const [at, { outcome }] of outcomes.entries()) {
      const { request } = requests[at] as { request: GateRequest };
      if (outcome === "RESERVED") script.own(request);
      if (outcome === "WAIT") waiting.push({ request, tickets: tickets[at] as number[] });
    }
  };
  /** Those of one coupon at once. Over coupons that share a quota their order is nobody's promise. */
  const admitAll = async (requests: readonly { request: GateRequest; tickets: readonly number[] }[]) => {
    for (const ofCoupon of groupBy(requests, ({ request }) => request.couponId).values()) await admitTogether(ofCoupon);
  };

  for (const one of commands) {
    switch (one.kind) {
      case "admit": {
        const requests = one.requests.map((each) => script.newRequest(each));
        await admitAll(requests.map((request) => ({ request, tickets: [] })));
        break;
      }
      case "again": {
        const chosen = new Set(one.which.map((index) => waiting[index % waiting.length]));
        const requests = [...chosen].filter((each) => each !== undefined);
        for (const each of requests) waiting.splice(waiting.indexOf(each), 1);
        if (requests.length > 0) await admitAll(requests);
        break;
      }
      case "settle": {
        if (script.requests.length === 0) break;
        const settlements: Settlement[] = [];
        for (const { request: index, outcome, validSteps, givenBackNo } of one.which) {
          const request = script.requests[index % script.requests.length] as GateRequest;
          if (outcome !== "CONFIRM") {
            if (outcome === "RELEASE") script.disown(request);
            settlements.push({ ...request, outcome, ...(givenBackNo > 0 && { givenBackNo }) });
          } else if (script.mayBeStored(request)) {
            script.store(request);
            settlements.push({ ...request, outcome: "CONFIRM", validUntil: validUntil(validSteps) });
          }
        }
        await twice(subjects, ({ gate }) => gate.settle(settlements));
        break;
      }
      case "adopt": {
        const request = script.newRequest(one.who);
        if (!script.mayBeStored(request)) break;
        script.store(request);
        const settlement: Settlement = { ...request, outcome: "CONFIRM", validUntil: validUntil(one.validSteps) };
        await twice(subjects, ({ gate }) => gate.settle([settlement]));
        break;
      }
      case "begin": {
        const pair: (Loading | null)[] = [];
        await twice(subjects, async ({ gate }, index) => {
          pair[index] = await gate.beginLoad(couponIds[one.coupon] as string);
          return pair[index] !== null;
        });
        if (pair[0]) loads.set(one.coupon, { pair, staged: false });
        break;
      }
      case "holders": {
        const load = loads.get(one.coupon);
        // All holders of one user come in one call, so a load gets one call here.
        if (!load || load.staged) break;
        load.staged = true;
        const requests = script.requests.filter(
          (request, index) =>
            request.couponId === couponIds[one.coupon] &&
            one.mask[index % one.mask.length] &&
            script.mayBeStored(request),
        );
        const holdings: Holding[] = [];
        for (const request of requests) {
          if (!script.mayBeStored(request)) continue;
          script.store(request);
          const { userId, userCouponId, requestId } = request;
          holdings.push({ userId, userCouponId, requestId, validUntil: validUntil(one.validSteps) });
        }
        if (holdings.length > 0)
          await twice(subjects, async (_, index) => load.pair[index]?.addHoldings(packHoldings(holdings)));
        break;
      }
      case "install": {
        const load = loads.get(one.coupon);
        if (!load) break;
        loads.delete(one.coupon);
        const { revision, paused, deleted, exhausted, maxPerUser, stock, givenBackTotal, throttle, maxPerDay } = one;
        const facts = openFacts(startedAt, {
          revision,
          paused,
          deleted,
          exhausted,
          maxPerUser,
          stock,
          givenBackTotal,
          throttle,
          quota: maxPerDay === null ? null : { group: quotaGroup, maxPerDay },
          startsAt: timestamp(one.startSteps),
          expiresAt: timestamp(one.endSteps),
        });
        await twice(subjects, async (_, index) => load.pair[index]?.install(facts));
        break;
      }
      case "take": {
        const requests = one.revisions.map((revision) => script.newUsage(couponIds[one.coupon] as string, revision));
        await twice(subjects, ({ gate }) => Promise.all(requests.map((request) => gate.takePlace(request))));
        break;
      }
      case "settlePlaces": {
        if (script.usages.length === 0) break;
        const settlements = one.which.map(({ usage, confirm }): PlaceSettlement => {
          const request = script.usages[usage % script.usages.length] as PlaceRequest;
          return { ...request, outcome: confirm ? "CONFIRM" : "RELEASE" };
        });
        await twice(subjects, ({ gate }) => gate.settlePlaces(settlements));
        break;
      }
      case "loadPlaces": {
        const { coupon, kind: _, ...facts } = one;
        await twice(subjects, ({ gate }) => gate.loadPlaces(couponIds[coupon] as string, facts));
        break;
      }
      case "invalidate":
        await twice(subjects, ({ gate }) => gate.invalidate(couponIds[one.coupon] as string));
        break;
      case "advance":
        if ((stepsGone + one.steps) * stepMs > longestLifeMs) break;
        stepsGone += one.steps;
        for (const subject of subjects) await subject.advance(one.steps * stepMs);
        // Longer than a load may take for one step: what becomes of one that goes on is not the port's promise.
        loads.clear();
        break;
    }
    await twice(subjects, async ({ gate }) => comparable(await gate.survey(100, 100)));
  }
}

test("Redis and memory answer the same in any life", { timeout: 300_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(life, async (commands) => {
      const subjects = await Promise.all(
        implementations.map(({ start }) =>
          start({ reservationMs, clockStands: true, quotaGroupOf: async () => quotaGroup }),
        ),
      );
      try {
        await live(subjects, commands);
      } finally {
        await Promise.all(subjects.map((subject) => subject.close()));
      }
    }),
    { numRuns: runs, ...seed },
  );
});
