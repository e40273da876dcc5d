import { inspect, isDeepStrictEqual } from "node:util";
import { expect } from "vitest";
import { countedStats, miscounted } from "../support/counted-stats.js";
import type { Answer, Call, Expected } from "./call.js";
import { callOf, crowdOf } from "./call-of.js";
import { perform, performBatch } from "./calls.js";
import { type Command, type Facts, type Meanwhile, reads, stepMs } from "./commands.js";
import { explain } from "./crowd.js";
import { definitionOf, type Life as LifeNames } from "./definitions.js";
import { differences, factsOf, openTypePools, storedOf } from "./facts.js";
import { Model } from "./model.js";
import { countOutcome } from "./outcomes.js";
import { readCall } from "./reads.js";
import type { Replica, Service } from "./service.js";
import type { CouponType } from "./state.js";
import { filters, listEvents, wrongEvents } from "./told-events.js";
import { nextMidnight } from "./world.js";

/** A coupon that could not be loaded again for a moment can be after this long. */
const reloadPauseMs = 260;
/** How often two sweeps are tried. */
const maxSweepAttempts = 3;
/** Midnight comes between two steps. */
const beforeMidnightMs = 4.5 * stepMs;

let lives = 0;

/** One life: drives the service, and holds each answer, and in the end all that is stored, against the model. */
export class Life implements LifeNames {
  private readonly number = ++lives;
  private readonly startedAt = nextMidnight(Date.now()) - beforeMidnightMs;
  private model = Model.at(this.startedAt);
  private turn = 0;
  readonly made: Call[] = [];

  constructor(private readonly service: Service) {}

  async live(commands: readonly Command[]): Promise<void> {
    await this.service.setClock(new Date(this.startedAt));
    await this.service.clear();
    try {
      for (const command of commands) await this.act(command);
      await this.checkBooks();
    } finally {
      await this.service.settled();
      for (const { couponId } of await this.service.gate.survey(10_000, 0))
        await this.service.gate.invalidate(couponId);
      this.service.reported.length = 0;
    }
  }

  requestId(request: number): string {
    return request === 0 ? "" : `life-${this.number}-${request}`;
  }

  userId(user: number): string {
    return `user-${this.number}-${user}`;
  }

  definitionOf(facts: Partial<Facts>) {
    return definitionOf(facts, this.startedAt, `life-${this.number}`);
  }

  code(name: string): string {
    return `L${this.number}-${name}`;
  }

  private async act(command: Command): Promise<void> {
    const { state } = this.model;
    state.turn += 1;
    switch (command.kind) {
      case "advance":
        state.now += command.steps * stepMs;
        return await this.service.setClock(new Date(state.now));
      case "sweep":
        return await this.nextReplica().keeper.sweep();
      case "load":
      case "forget": {
        const target = state.coupons[command.coupon % state.coupons.length];
        if (!target) return;
        if (command.kind === "load") return await this.service.load(target.id);
        return await this.service.gate.invalidate(target.id);
      }
      case "wipe":
        return await this.service.wipe();
      case "crowd":
      case "rush":
      case "codeRush":
      case "typeRush":
      case "groupRush":
      case "useAll": {
        const calls = crowdOf(command, this.model, this);
        this.made.push(...calls);
        // They share what is looked up, but know nothing of what was a moment ago: a code that was deleted may be another coupon's by now.
        const fresh = this.service.replicas.map(anew);
        const performAnew = (call: Call) => perform(fresh[++this.turn % 2] as Replica, call);
        const happens = "meanwhile" in command ? this.meanwhile(command.meanwhile ?? null) : null;
        return await this.crowd(calls, async () => {
          const [answers] = await Promise.all([Promise.all(calls.map(performAnew)), happens?.()]);
          return answers;
        });
      }
      case "batch": {
        const calls = crowdOf(command, this.model, this) as (Call & { method: "issue" })[];
        const [first] = calls;
        if (!first || !("couponId" in first.target)) return;
        const { couponId } = first.target;
        const asked = {
          couponId,
          userIds: calls.map(({ userId }) => userId),
          requestId: this.requestId(command.request),
        };
        return await this.crowd(calls, () => performBatch(this.nextReplica(), asked));
      }
    }
    const call = callOf(command, this.model, this);
    if (!call) return;
    this.made.push(call);
    await this.call(call);
  }

  /** No caller may notice. */
  private meanwhile(what: Meanwhile): (() => Promise<unknown>) | null {
    const all = this.model.state.coupons.map(({ id }) => id);
    switch (what) {
      case "wipe":
        return () => this.service.wipe();
      case "sweep":
        return () => this.nextReplica().keeper.sweep();
      case "load":
        return () => Promise.all(all.map((id) => this.service.load(id)));
      case "forget":
        return () => Promise.all(all.map((id) => this.service.gate.invalidate(id)));
      case null:
        return null;
    }
  }

  private async call(call: Call): Promise<void> {
    const answer = await perform(anew(this.nextReplica()), call);
    compare(call, answer, this.model.apply(call, answer));
    countOutcome(call, answer);
  }

  /** Sequential calls take turns as well, so that one replica knows nothing of what the other has done. */
  private nextReplica() {
    this.turn += 1;
    return this.service.replicas[this.turn % 2] as Service["replicas"][0];
  }

  /** All at once: which order they come in is open, but there must be one. */
  private async crowd(calls: readonly Call[], perform: () => Promise<Answer[]>): Promise<void> {
    const answers = await perform();
    const { sql } = this.service.clocked;
    const stored = await storedOf(sql, this.model.state.now);
    const before = this.model.clone();
    for (const { id, type } of await openTypePools(sql))
      if (isOvertaken(type, calls, answers)) before.openTypePool(type, id);
    const after = explain(before, calls, answers, (model) => JSON.stringify(factsOf(model)) === JSON.stringify(stored));
    if (!after) {
      const text = inspect(
        calls.map((call, index) => ({ call, answer: answers[index] })),
        { depth: 9 },
      );
      const facts = differences(stored, factsOf(this.model)).join("\n");
      throw new Error(
        `no order of these calls explains their answers and what was stored: ${text}\nwhich has changed so:\n${facts}`,
      );
    }
    this.model = after;
    for (const [index, call] of calls.entries()) countOutcome(call, answers[index] as Answer, "at once: ");
  }

  /** Postgres has what callers were told, no more and no less, and the gate counts the same. */
  private async checkBooks(): Promise<void> {
    const { sql } = this.service.clocked;
    const differing = differences(await storedOf(sql, this.model.state.now), factsOf(this.model));
    if (differing.length > 0) throw new Error(`what is stored differs:\n${differing.join("\n")}`);
    const miscounts = await miscounted(sql);
    if (miscounts.length > 0) throw new Error(`counters differ from what they count: ${inspect(miscounts)}`);
    await this.checkReports();
    await this.checkEvents();
    await this.service.settled();
    await this.checkGate(false);
    for (let attempt = 0; attempt < maxSweepAttempts; attempt++) {
      for (let round = 0; round < 2; round++) await this.service.replicas[0].keeper.sweep();
      await this.service.settled();
      if (await this.isGateExact()) break;
      await new Promise((resolve) => setTimeout(resolve, reloadPauseMs));
    }
    await this.checkGate(true);
    expect(this.service.reported).toEqual([]);
  }

  /** What is told of codes and in numbers is what happened, and the numbers are those of the rows. */
  private async checkReports(): Promise<void> {
    const { coupons } = this.model.state;
    for (const { id } of coupons) {
      await this.call({ method: "listCodes", couponId: id, statuses: [] });
      await this.call({ method: "getStats", scope: { couponId: id } });
      const said = this.model.apply({ method: "getStats", scope: { couponId: id } }, {});
      expect(await countedStats(this.service.clocked.sql, id), "rows").toEqual(said);
    }
    const call = readCall(
      { kind: "read", what: reads[this.turn % reads.length] as (typeof reads)[0], pick: this.turn },
      this.model,
    );
    if (call) await this.call(call);
    for (const type of ["FREE", "STANDARD"] as const) await this.call({ method: "getStats", scope: { type } });
    await this.call({ method: "getStats", scope: null });
  }

  /** Readers are told of each change once, and in order. */
  private async checkEvents(): Promise<void> {
    const all = await listEvents(this.nextReplica());
    const wrong = wrongEvents(all, this.model);
    if (wrong.length > 0) throw new Error(`what is told of events is wrong:\n${wrong.join("\n")}`);
    const { coupons, userCoupons } = this.model.state;
    const wanted = filters(coupons.at(-1)?.id ?? "", userCoupons.at(-1)?.userId ?? "nobody");
    const pick = wanted[this.turn % wanted.length] as (typeof wanted)[0];
    const ids = (told: readonly { id: string }[]) => told.map(({ id }) => id);
    expect(ids(await listEvents(this.nextReplica(), pick.asked)), inspect(pick.asked)).toEqual(
      ids(all.filter(pick.isMet)),
    );
  }

  private async isGateExact(): Promise<boolean> {
    return await this.checkGate(true).then(
      () => true,
      () => false,
    );
  }

  /**
   * At rest nothing is pending. Stock is exact. Of places it may know more than there are, until it is swept, but never
   * fewer; and those of an earlier revision, which nobody gets.
   */
  private async checkGate(exact: boolean): Promise<void> {
    // Looking goes on where the last look ended; the second one begins at the beginning.
    await this.service.gate.survey(10_000, 10);
    for (const survey of await this.service.gate.survey(10_000, 10)) {
      const target = this.model.state.coupons.find(({ id }) => id === survey.couponId);
      if (!target) continue;
      expect([survey.pendingCount, survey.takenCount], "pending at rest").toEqual([0, 0]);
      const quantity = this.model.quantityOf(target);
      const stock = quantity === null ? null : quantity - target.issuedCount;
      // What comes back with a code that has expired is in no stock any more; the gate learns that from a sweep.
      const isBehind = !exact && target.book !== null && survey.loaded?.revision !== target.revision;
      const { deletedCount, releasedCount } = this.model.apply(
        { method: "getStats", scope: { couponId: target.id } },
        {},
      ) as Answer & Record<"deletedCount" | "releasedCount", number>;
      const facts = { revision: target.revision, updatedAt: new Date(target.updatedAt), stock };
      if (survey.loaded && !isBehind)
        expect(survey.loaded, "coupon in the gate").toEqual({ ...facts, givenBackTo: deletedCount + releasedCount });
      if (!survey.places) continue;
      const left = this.model.placesLeft(target);
      if (!exact && survey.places.revision !== target.revision) continue;
      expect(survey.places.revision, "revision of the places in the gate").toBe(target.revision);
      if (exact) expect(survey.places.remaining, "places in the gate after sweeps").toBe(left);
      else expect(survey.places.remaining, "places in the gate").toBeGreaterThanOrEqual(left);
    }
  }
}

/**
 * Whether an upload for the type found its request id taken by another call of the crowd: it may have opened the type's pool before,
 * which stays. Nobody gets anything of it until there are codes in it.
 */
function isOvertaken(type: CouponType, calls: readonly Call[], answers: readonly Answer[]): boolean {
  return calls.some(
    (call, index) =>
      call.method === "upload" &&
      "type" in call.target &&
      call.target.type === type &&
      answers[index]?.refused === "REQUEST_ID_REUSED",
  );
}

/** The replica as it is when it has not looked up codes, or the coupons of a type, a moment ago. */
function anew(replica: Replica): Replica {
  return { ...replica, issue: replica.issuingAnew() };
}

function compare(call: Call, answer: Answer, { or, ...expected }: Expected): void {
  const right = or?.find(({ refused }) => refused === answer.refused) ?? expected;
  if (isDeepStrictEqual(answer, right)) return;
  const text = (value: object) => inspect(value, { depth: 9, breakLength: 116 });
  throw new Error(`${text(call)}\nwas answered\n${text(answer)}\nand should have been\n${text(right)}`);
}
