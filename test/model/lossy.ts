import { setTimeout as sleep } from "node:timers/promises";
import { type Answer, type Call, isRepeatable } from "./call.js";
import { type Batch, perform, performBatch } from "./calls.js";
import type { Lost } from "./commands.js";
import type { Model } from "./model.js";
import type { Mortal } from "./mortal.js";
import type { Replica, Service } from "./service.js";

/** What tells a caller that it does not know what became of its call, or that nothing did: it asks again. */
const unclear = ["STORE_UNAVAILABLE", "DEADLINE_EXCEEDED", "OVERLOADED"];
/** How often a caller asks again before that counts as no answer. */
const maxAttempts = 10;
const pauseMs = 20;

/** Callers at once, some of whom hear nothing of what became of their calls, and ask again with the same request id. */
export class LossyCrowd {
  /** What is at work, also when its caller has gone. */
  private readonly atWork: Promise<unknown>[] = [];

  constructor(
    private readonly service: Service,
    private readonly caller: string,
    private readonly lost: Lost,
  ) {}

  perform(calls: readonly Call[]): Promise<Answer[]> {
    const { lost } = this;
    const first = async (call: Call, index: number, all: readonly Replica[], mortal: Mortal | null) => {
      const replica = all[index % all.length] as Replica;
      const answer = await this.firstAnswer(replica, mortal, index, (ms) => perform(replica, call, this.caller, ms));
      // Who is in a hurry may ask again while the first call is still at work.
      return lost.kind === "hurried" && lost.isAtOnce ? await this.askAgain(call, index, answer) : answer;
    };
    return this.losing(
      (all, mortal) => Promise.all(calls.map((call, index) => first(call, index, all, mortal))),
      (told) => Promise.all(calls.map((call, index) => this.askAgain(call, index, told[index] as Answer))),
    );
  }

  /** One call for many, of whom some may be told that they are issued one before the others ask again. */
  performBatch(batch: Batch): Promise<Answer[]> {
    const untold = batch.userIds.map(() => ({ refused: "DEADLINE_EXCEEDED" }));
    return this.losing(
      async ([replica], mortal) => {
        const asked = async (ms?: number) => ({ items: await performBatch(replica as Replica, batch, ms) });
        const { items = untold } = (await this.firstAnswer(replica as Replica, mortal, 0, asked)) as Told;
        return items.map((one) => (one.refused === "THROTTLED" ? untold[0] : one) as Answer);
      },
      (told) => this.askBatchAgain(batch, told),
    );
  }

  /** Calls, and what they are told in the end. */
  private async losing(
    callAll: (replicas: readonly Replica[], mortal: Mortal | null) => Promise<Answer[]>,
    askAgain: (told: readonly Answer[]) => Promise<Answer[]>,
  ): Promise<Answer[]> {
    const { lost, service } = this;
    const mortal = lost.kind === "dies" ? await service.startMortal(lost.part) : null;
    const cut = lost.kind === "cut" ? sleep(lost.afterMs).then(() => service.cutPostgres()) : null;
    if (lost.kind === "dies") mortal?.dieAfter(lost.afterMessages);
    const told = await callAll(mortal ? [mortal.replica, ...service.replicas] : service.replicas, mortal);
    await cut;
    await mortal?.bury();
    await Promise.all(this.atWork);
    if (mortal) await service.passReservations();
    return await askAgain(told);
  }

  /** `ask` is told how long the caller has, if that is not long. */
  private async firstAnswer(
    replica: Replica,
    mortal: Mortal | null,
    index: number,
    ask: (timeMs?: number) => Promise<Answer>,
  ): Promise<Answer> {
    const { lost } = this;
    const ms = lost.kind === "hurried" ? (lost.ms[index % lost.ms.length] ?? undefined) : undefined;
    const answer = ask(ms);
    this.atWork.push(answer.catch(() => {}));
    if (ms !== undefined) {
      const first = await Promise.race([answer, sleep(ms, { refused: "DEADLINE_EXCEEDED" })]);
      // Its turn cannot come before its own deadline.
      return first.refused === "THROTTLED" ? { refused: "DEADLINE_EXCEEDED" } : first;
    }
    // What has lost a store answers all the same.
    const isDying = lost.kind === "dies" && lost.part === "all" && mortal?.replica === replica;
    if (!isDying) return await answer;
    return await Promise.race([answer, mortal.death.then(() => ({ refused: "STORE_UNAVAILABLE" }))]);
  }

  /** Until the answer is clear. */
  private async askAgain(call: Call, index: number, first: Answer): Promise<Answer> {
    let answer = first;
    for (let attempt = 0; unclear.includes(answer.refused ?? ""); attempt++) {
      if (attempt === maxAttempts) throw new Error(`no clear answer: ${JSON.stringify({ call, answer })}`);
      if (attempt > 0) await sleep(pauseMs);
      const replica = this.service.replicas[(index + 1 + attempt) % 2] as Replica;
      answer = { ...(await perform(replica, call, this.caller)), isRetold: true };
    }
    return answer;
  }

  private async askBatchAgain(batch: Batch, told: readonly Answer[]): Promise<Answer[]> {
    let answers = [...told];
    for (let attempt = 0; answers.some(({ refused }) => unclear.includes(refused ?? "")); attempt++) {
      if (attempt === maxAttempts) throw new Error(`no clear answers: ${JSON.stringify({ batch, answers })}`);
      if (attempt > 0) await sleep(pauseMs);
      const again = await performBatch(this.service.replicas[attempt % 2] as Replica, batch);
      for (const [index, { id }] of answers.entries())
        if (id !== undefined && again[index]?.id !== id) throw new Error(`${id} was issued, and not told again`);
      answers = again.map((one) => ({ ...one, isRetold: true }));
    }
    return answers;
  }
}

type Told = { readonly items?: readonly Answer[] };

/** The calls of a crowd that can be asked again, each with a request id where it may have one. */
export function repeatable(
  calls: readonly Call[],
  lost: Lost,
  model: Model,
  nameOf: (index: number) => string,
): Call[] {
  const isEditing = calls.some(({ method }) => method === "update");
  return (
    calls
      .filter(isRepeatable)
      // One that was issued by type is not told again once its coupon has another type.
      .filter((one) => !(isEditing && one.method === "issue" && "type" in one.target))
      // The ticket of a dead replica is waited for until its reservation has run out.
      .filter((one) => lost.kind !== "dies" || !isThrottled(one, model))
      .map((one, index) => ("requestId" in one && one.requestId === "" ? { ...one, requestId: nameOf(index) } : one))
  );
}

/** Of a dead replica, whose ticket is waited for until its reservation has run out. */
export function isThrottled(call: Call, model: Model): boolean {
  if (call.method !== "issue") return false;
  const { target } = call;
  return model.state.coupons.some(
    (one) => one.throttle !== null && (!("couponId" in target) || target.couponId === one.id),
  );
}
