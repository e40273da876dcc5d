import { setTimeout as sleep } from "node:timers/promises";
import { inspect, isDeepStrictEqual } from "node:util";
import { checkBooks } from "./books.js";
import { type Answer, type Call, type Expected, isListed } from "./call.js";
import { callOf, crowdOf } from "./call-of.js";
import { type Batch, perform, performBatch } from "./calls.js";
import { type Command, type Facts, type Meanwhile, stepMs } from "./commands.js";
import { explain } from "./crowd.js";
import { definitionOf, type Life as LifeNames } from "./definitions.js";
import { EventStream } from "./event-stream.js";
import { differences, factsOf, lockVersions, openTypePools, storedOf } from "./facts.js";
import { isThrottled, LossyCrowd, repeatable } from "./lossy.js";
import { Model } from "./model.js";
import { countOutcome } from "./outcomes.js";
import type { Replica, Service } from "./service.js";
import type { CouponType } from "./state.js";
import { strangeCall } from "./strangers.js";
import { EventFollower, wantedBy } from "./told-events.js";
import { nextMidnight } from "./world.js";

/** In one of so many lives somebody watches events. */
const streamEvery = 4;
/** After so many turns who watches events goes on with the other replica. */
const streamTurns = 12;
/** If the gate's time has gone on for so long since a step, the next step comes. */
const slowMs = stepMs / 2;
/** Before time passes in the middle of a crowd. */
const longestDelayMs = 6;
/** Request ids of what is asked for again have numbers from here on. */
const lostRequests = 10_000;

/** Midnight comes between two steps. */
const beforeMidnightMs = 4.5 * stepMs;

let lives = 0;

/** One life: drives the service, and holds each answer, and in the end all that is stored, against the model. */
export class Life implements LifeNames {
  private readonly number = ++lives;
  private readonly startedAt = nextMidnight(Date.now()) - beforeMidnightMs;
  model = Model.at(this.startedAt);
  turn = 0;
  /** No other life has it: what is on record stays. */
  readonly caller = `life-${this.number}`;
  readonly made: Call[] = [];
  /** Who reads events while they come. */
  readonly follower = new EventFollower();
  stream: EventStream | null = null;
  /** By performance.now(), when time last passed in the stores. */
  private steppedMs = performance.now();
  /** A list that goes on. */
  private listing: (Call & { method: "page" }) | null = null;

  constructor(readonly service: Service) {}

  async live(commands: readonly Command[]): Promise<void> {
    await this.service.setClock(new Date(this.startedAt));
    await this.service.clear();
    try {
      for (const command of commands) await this.act(command);
      await checkBooks(this);
    } finally {
      await this.stream?.end();
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
    // On a slow machine as well, what ends on the next step has not done so.
    if (command.kind !== "advance" && performance.now() - this.steppedMs > slowMs)
      await this.act({ kind: "advance", steps: 1 });
    const { state } = this.model;
    state.turn += 1;
    const [first] = state.coupons;
    // One tells late, and costs a query for each fifth of a second.
    if (this.number % streamEvery === 0 && first)
      this.stream ??= new EventStream(
        this.service.replicas,
        wantedBy(this.number / streamEvery, first.id, this.userId(0)),
      );
    if (state.turn % streamTurns === 0) this.stream?.moveOn();
    switch (command.kind) {
      case "advance":
        state.now += command.steps * stepMs;
        this.steppedMs = performance.now();
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
      case "page": {
        const list = callOf(command.list, this.model, this);
        this.listing = null;
        if (!list || !isListed(list)) return;
        return await this.page({ method: "page", list, size: command.size, token: "", after: null });
      }
      case "nextPage":
        if (!this.listing) return;
        return await this.page({ ...this.listing, size: command.size });
      case "readAtOnce": {
        const calls = command.commands.flatMap((one) => callOf(one, this.model, this) ?? []);
        const replica = this.nextReplica();
        const answers = await Promise.all(calls.map((call) => perform(replica, call, this.caller)));
        for (const [index, call] of calls.entries()) this.check(call, answers[index] as Answer);
        return;
      }
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
        const performAnew = (call: Call) => perform(fresh[++this.turn % 2] as Replica, call, this.caller);
        const what = "meanwhile" in command ? (command.meanwhile ?? null) : null;
        const happens = this.meanwhile(what);
        const all: Call[] = what === "step" ? [...calls, { method: "step" }] : calls;
        // A load in which something is issued, expires, and has its place taken counts that twice, until a sweep has found it.
        if (what === "step") for (const { id } of state.coupons) await this.service.load(id);
        await this.crowd(all, async () => {
          const [answers] = await Promise.all([Promise.all(all.map(performAnew)), happens?.()]);
          return answers;
        });
        if (what === "step") await this.nextReplica().keeper.sweep();
        return;
      }
      case "strangers": {
        const replica = anew(this.nextReplica());
        const strange = command.which.map((nth) => strangeCall(state, nth));
        const answers = await Promise.all(strange.map(([call]) => perform(replica, call, this.caller)));
        for (const [index, [call, expected]] of strange.entries()) {
          compare(call, answers[index] as Answer, expected);
          countOutcome(call, answers[index] as Answer, "strangers: ");
        }
        return;
      }
      case "lossy":
        return await this.lose(command);
      case "batch":
        return await this.batch(command, (asked) => performBatch(this.nextReplica(), asked));
    }
    const call = callOf(command, this.model, this);
    if (!call) return;
    this.made.push(call);
    await this.call(call);
  }

  private async lose({ crowd, lost }: Command & { kind: "lossy" }): Promise<void> {
    const firstName = this.model.state.turn * lostRequests;
    const lossy = new LossyCrowd(this.service, this.caller, lost);
    if (crowd.kind === "batch") {
      const one = { ...crowd, request: crowd.request || firstName };
      if (lost.kind === "dies" && crowdOf(one, this.model, this).some((call) => isThrottled(call, this.model))) return;
      await this.batch(one, (asked) => lossy.performBatch(asked), false);
    } else {
      const nameOf = (index: number) => this.requestId(firstName + index);
      const calls = repeatable(crowdOf(crowd, this.model, this), lost, this.model, nameOf);
      this.made.push(...calls);
      await this.crowd(calls, () => lossy.perform(calls), false);
    }
    if (lost.kind === "cut") this.service.reported.splice(0);
    // The gate was later than that for a moment.
    if (lost.kind === "dies") await this.act({ kind: "advance", steps: 1 });
  }

  private async batch(
    command: Command & { kind: "batch" },
    perform: (asked: Batch) => Promise<Answer[]>,
    isFollowed = true,
  ): Promise<void> {
    const calls = crowdOf(command, this.model, this) as (Call & { method: "issue" })[];
    const [first] = calls;
    if (!first || !("couponId" in first.target)) return;
    const { couponId } = first.target;
    const asked = {
      couponId,
      userIds: calls.map(({ userId }) => userId),
      requestId: this.requestId(command.request),
      labels: first.labels ?? "",
    };
    await this.crowd(calls, () => perform(asked), isFollowed);
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
      case "step": {
        const { now, turn } = this.model.state;
        return async () => {
          await sleep(turn % longestDelayMs);
          this.steppedMs = performance.now();
          await this.service.jumpClock(new Date(now + stepMs));
        };
      }
      case null:
        return null;
    }
  }

  async call(call: Call): Promise<void> {
    this.check(call, await perform(anew(this.nextReplica()), call, this.caller));
  }

  private async page(call: Call & { method: "page" }): Promise<void> {
    const answer = await perform(anew(this.nextReplica()), call, this.caller);
    this.check(call, answer);
    const { token } = answer;
    const last = ((answer.items ?? []) as Answer[]).at(-1);
    const after = last ? this.model.placeOf(call.list.method, last) : call.after;
    this.listing = token ? { ...call, token: String(token), after } : null;
  }

  private check(call: Call, answer: Answer): void {
    compare(call, answer, this.model.apply(call, answer));
    countOutcome(call, answer);
  }

  /** Sequential calls take turns as well, so that one replica knows nothing of what the other has done. */
  nextReplica() {
    this.turn += 1;
    return this.service.replicas[this.turn % 2] as Service["replicas"][0];
  }

  /** All at once: which order they come in is open, but there must be one. */
  private async crowd(calls: readonly Call[], perform: () => Promise<Answer[]>, isFollowed = true): Promise<void> {
    const following = isFollowed && this.follower.follow(this.nextReplica());
    const [answers] = await Promise.all([perform(), following]);
    const { sql } = this.service.clocked;
    const steps = calls.filter(({ method }) => method === "step").length;
    const stored = await storedOf(sql, this.model.state.now + steps * stepMs, this.caller);
    const before = this.model.clone();
    for (const { id, type } of await openTypePools(sql))
      if (isOvertaken(type, calls, answers)) before.openTypePool(type, id);
    const after = explain(before, calls, answers, {
      isThatOf: (model) => isDeepStrictEqual(factsOf(model), stored),
      lockVersions: await lockVersions(sql),
    });
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
    for (const [index, call] of calls.entries())
      countOutcome(call, answers[index] as Answer, isFollowed ? "at once: " : "some lost: ");
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
