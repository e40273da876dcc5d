import { inspect, isDeepStrictEqual } from "node:util";
import { expect } from "vitest";
import { madeBy, perform } from "./calls.js";
import { type Command, callOf, crowdOf, definitionOf, type Facts, type Life as LifeNames, stepMs } from "./commands.js";
import { explain } from "./crowd.js";
import { Model } from "./model.js";
import type { Service } from "./service.js";
import type { Answer, Call, Expected } from "./state.js";

/** A coupon that could not be loaded again for a moment can be after this long. */
const reloadPauseMs = 260;
/** How often two sweeps are tried. */
const maxSweepAttempts = 3;

let lives = 0;

/** One life: drives the service, and holds each answer, and in the end all that is stored, against the model. */
export class Life implements LifeNames {
  private readonly number = ++lives;
  private readonly startedAt = Date.now();
  private model = Model.at(this.startedAt);
  private turn = 0;
  readonly made: Call[] = [];

  constructor(private readonly service: Service) {}

  async live(commands: readonly Command[]): Promise<void> {
    await this.service.setClock(new Date(this.startedAt));
    try {
      for (const command of commands) await this.act(command);
      await this.checkBooks();
    } finally {
      await this.service.settled();
      for (const { id } of this.model.state.coupons) await this.service.reservations.invalidate(id);
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
    return definitionOf(facts, this.startedAt);
  }

  private async act(command: Command): Promise<void> {
    const { state } = this.model;
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
        return await this.service.reservations.invalidate(target.id);
      }
      case "crowd":
      case "rush":
      case "useAll":
        return await this.crowd(crowdOf(command, this.model, this));
    }
    const call = callOf(command, this.model, this);
    if (!call) return;
    this.made.push(call);
    const answer = await perform(this.nextReplica(), call);
    compare(call, answer, this.model.apply(call, madeBy(answer)));
  }

  /** Sequential calls take turns as well, so that one replica knows nothing of what the other has done. */
  private nextReplica() {
    this.turn += 1;
    return this.service.replicas[this.turn % 2] as Service["replicas"][0];
  }

  /** All at once: which order they come in is open, but there must be one. */
  private async crowd(calls: readonly Call[]): Promise<void> {
    const answers = await Promise.all(calls.map((call) => perform(this.nextReplica(), call)));
    this.made.push(...calls);
    const stored = await this.stored();
    const after = explain(
      this.model,
      calls,
      answers,
      (model) => JSON.stringify(factsOf(model)) === JSON.stringify(stored),
    );
    if (!after) {
      const text = inspect(
        calls.map((call, index) => ({ call, answer: answers[index] })),
        { depth: 9 },
      );
      const facts = inspect({ before: factsOf(this.model), stored }, { depth: 9, maxStringLength: 200 });
      throw new Error(`no order of these calls explains their answers and what was stored: ${text}\n${facts}`);
    }
    this.model = after;
  }

  /** What is stored of this life's coupons, in the form of `factsOf`. */
  private async stored(): Promise<Stored> {
    const { sql } = this.service.clocked;
    const { now, coupons } = this.model.state;
    const ids = coupons.map(({ id }) => id);
    const [couponRows, userCouponRows, usageRows, eventRows] = await Promise.all([
      sql`SELECT id, revision::int, issued_count::int, used_count::int, place_count::int, millis(exhausted_at)::text AS exhausted_at,
          millis(paused_at)::text AS paused_at, millis(deleted_at)::text AS deleted_at, millis(revoked_at)::text AS revoked_at
        FROM coupons WHERE id = ANY (${ids}) ORDER BY id`,
      sql`SELECT id, user_id, use_count, place_count, max_uses, millis(valid_until)::text AS valid_until, lock_version::int,
          millis(CASE WHEN locked_until > ${new Date(now)} THEN locked_until END)::text AS locked_until,
          millis(claim_until)::text AS claim_until, millis(released_at)::text AS released_at, millis(deleted_at)::text AS deleted_at
        FROM user_coupons WHERE coupon_id = ANY (${ids}) ORDER BY id`,
      sql`SELECT id, user_coupon_id, order_id, order_amount::int, discount_amount::int, millis(cancelled_at)::text AS cancelled_at
        FROM usages WHERE coupon_id = ANY (${ids}) ORDER BY id`,
      sql`SELECT kind, coupon_id, user_coupon_id, usage_id, detail->>'lockVersion' AS version,
          millis((detail->>'lockedUntil')::timestamptz)::text AS until, detail->>'restocked' AS restocked
        FROM events WHERE coupon_id = ANY (${ids})`,
    ]);
    const values = (rows: readonly object[]) =>
      rows.map((row) =>
        Object.values(row)
          .map((value) => (value === null ? "-" : String(value)))
          .join(" "),
      );
    const events = eventRows.map((row) =>
      Object.values(row)
        .filter((value) => value !== null)
        .join(" "),
    );
    return {
      coupons: values(couponRows),
      userCoupons: values(userCouponRows),
      usages: values(usageRows),
      events: changes(events),
    };
  }

  /** Postgres has what callers were told, no more and no less, and the gate counts the same. */
  private async checkBooks(): Promise<void> {
    expect(await this.stored()).toEqual(factsOf(this.model));
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
    await this.service.reservations.survey(10_000, 10);
    for (const survey of await this.service.reservations.survey(10_000, 10)) {
      const target = this.model.state.coupons.find(({ id }) => id === survey.couponId);
      if (!target) continue;
      expect([survey.pendingCount, survey.takenCount], "pending at rest").toEqual([0, 0]);
      const stock = target.quantity === null ? null : target.quantity - target.issuedCount;
      if (survey.loaded) expect(survey.loaded, "stock in the gate").toEqual({ revision: target.revision, stock });
      if (!survey.places) continue;
      const left = this.model.placesLeft(target);
      if (!exact && survey.places.revision !== target.revision) continue;
      expect(survey.places.revision, "revision of the places in the gate").toBe(target.revision);
      if (exact) expect(survey.places.remaining, "places in the gate after sweeps").toBe(left);
      else expect(survey.places.remaining, "places in the gate").toBeGreaterThanOrEqual(left);
    }
  }
}

/** One line for each row, and for each event. */
interface Stored {
  readonly coupons: string[];
  readonly userCoupons: string[];
  readonly usages: string[];
  readonly events: string[];
}

/** In a crowd, one lock may be asked for twice at once: that is one change, whether it is told of once or twice. */
function changes(events: readonly string[]): string[] {
  const isRepeated = (event: string, index: number) => /LOCKED/.test(event) && events.indexOf(event) < index;
  return events.filter((event, index) => !isRepeated(event, index)).sort();
}

function factsOf(model: Model): Stored {
  const { coupons, userCoupons, usages, events } = model.state;
  const byId = <T extends { id: string }>(all: readonly T[]) => [...all].sort((a, b) => (a.id < b.id ? -1 : 1));
  const line = (...values: unknown[]) => values.map((value) => value ?? "-").join(" ");
  return {
    coupons: byId(coupons).map((one) => {
      const used = userCoupons
        .filter(({ couponId }) => couponId === one.id)
        .reduce((sum, held) => sum + model.standing(held).length, 0);
      const times = [one.exhaustedAt, one.pausedAt, one.deletedAt, one.revokedAt];
      return line(one.id, one.revision, one.issuedCount, used, model.placesTaken(one), ...times);
    }),
    userCoupons: byId(userCoupons).map((one) => {
      const uses = model.standing(one).length;
      const locked = model.isLocked(one) && one.deletedAt === null ? one.lock.until : null;
      const times = [locked, one.claimUntil, one.releasedAt, one.deletedAt];
      return line(one.id, one.userId, uses, one.places, one.maxUses, one.validUntil, one.lock.version, ...times);
    }),
    usages: byId(usages).map((one) =>
      line(one.id, one.userCouponId, one.orderId, one.amount.units, one.discount, one.cancelledAt),
    ),
    events: changes(events),
  };
}

function compare(call: Call, answer: Answer, { or, ...expected }: Expected): void {
  const right = or && answer.refused === or.refused ? or : expected;
  if (isDeepStrictEqual(answer, right)) return;
  const text = (value: object) => inspect(value, { depth: 9, breakLength: 116 });
  throw new Error(`${text(call)}\nwas answered\n${text(answer)}\nand should have been\n${text(right)}`);
}
