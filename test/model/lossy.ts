import { setTimeout as sleep } from "node:timers/promises";
import { type Answer, type Call, isRepeatable } from "./call.js";
import { perform } from "./calls.js";
import type { Lost } from "./commands.js";
import type { Model } from "./model.js";
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

  async perform(calls: readonly Call[]): Promise<Answer[]> {
    const { lost, service } = this;
    const { replicas } = service;
    const mortal = lost.kind === "dies" ? await service.startMortal(lost.part) : null;
    const all = mortal ? [mortal.replica, ...replicas] : replicas;
    const cut = lost.kind === "cut" ? sleep(lost.afterMs).then(() => service.cutPostgres()) : null;
    if (lost.kind === "dies") mortal?.dieAfter(lost.afterMessages);
    const tried = calls.map(async (call, index) => {
      const replica = all[index % all.length] as Replica;
      // What has lost a store answers all the same.
      const isDying = lost.kind === "dies" && lost.part === "all" && mortal?.replica === replica;
      const first = await this.firstAnswer(replica, call, index, isDying ? mortal.death : null);
      // Who is in a hurry may ask again while the first call is still at work.
      return lost.kind === "hurried" && lost.isAtOnce ? await this.askAgain(call, index, first) : first;
    });
    const answers = await Promise.all(tried);
    await cut;
    await mortal?.bury();
    await Promise.all(this.atWork);
    if (mortal) await service.passReservations();
    return await Promise.all(calls.map((call, index) => this.askAgain(call, index, answers[index] as Answer)));
  }

  private async firstAnswer(replica: Replica, call: Call, index: number, death: Promise<void> | null): Promise<Answer> {
    const { lost } = this;
    const ms = lost.kind === "hurried" ? (lost.ms[index % lost.ms.length] ?? null) : null;
    const answer = perform(replica, call, this.caller, ms ?? undefined);
    this.atWork.push(answer.catch(() => {}));
    if (ms !== null) {
      const first = await Promise.race([answer, sleep(ms, { refused: "DEADLINE_EXCEEDED" })]);
      // Its turn cannot come before its own deadline.
      return first.refused === "THROTTLED" ? { refused: "DEADLINE_EXCEEDED" } : first;
    }
    return death ? await Promise.race([answer, death.then(() => ({ refused: "STORE_UNAVAILABLE" }))]) : await answer;
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
}

/**
 * The calls of a crowd that can be asked again, each with a request id. A lock ends by itself and is not asked for again here: who is
 * told nothing of one waits until it is over.
 */
export function repeatable(
  calls: readonly Call[],
  lost: Lost,
  model: Model,
  nameOf: (index: number) => string,
): Call[] {
  const isEditing = calls.some(({ method }) => method === "update");
  const isThrottled = (call: Call) =>
    call.method === "issue" &&
    model.state.coupons.some(
      (one) => one.throttle !== null && (!("couponId" in call.target) || call.target.couponId === one.id),
    );
  return (
    calls
      .filter(isRepeatable)
      // One that was issued by type is not told again once its coupon has another type.
      .filter((one) => !(isEditing && one.method === "issue" && "type" in one.target))
      // The ticket of a dead replica is waited for until its reservation has run out.
      .filter((one) => lost.kind !== "dies" || !isThrottled(one))
      .map((one, index) => (one.requestId === "" ? { ...one, requestId: nameOf(index) } : one))
  );
}
