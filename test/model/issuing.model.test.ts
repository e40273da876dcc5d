import { create } from "@bufbuild/protobuf";
import { durationFromMs, timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  CreateCouponRequestSchema,
  DeleteCouponRequestSchema,
  PauseCouponRequestSchema,
  ResumeCouponRequestSchema,
  UpdateCouponRequestSchema,
} from "../../gen/coupon/v1/catalog_service_pb.js";
import type { Coupon as CouponMessage } from "../../gen/coupon/v1/coupon_pb.js";
import { IssueCouponRequestSchema } from "../../gen/coupon/v1/issuance_service_pb.js";
import { UserCouponStatus } from "../../gen/coupon/v1/user_coupon_pb.js";
import { GetUserCouponRequestSchema } from "../../gen/coupon/v1/user_coupon_service_pb.js";
import { decideIssue } from "../../src/domain/issue.js";
import { Refusal } from "../../src/domain/refusal.js";
import { expiryOf, userCouponStatus } from "../../src/domain/user-coupon.js";
import { until } from "../support/until.js";
import { type GateName, type Service, startService } from "./service.js";

/**
 * The whole life of coupons against a model of a few lines: MODEL_RUNS lives on each gate, MODEL_SEED to see one again
 * (a failure prints its seed and the shortest life that fails).
 *
 * Postgres' clock stands still between steps of ten seconds and the gate's runs on, so everything that depends on time
 * lies five seconds past a step. A life takes far less than that.
 */
const stepMs = 10_000;
const runs = Number(process.env.MODEL_RUNS ?? 30);
const seed = process.env.MODEL_SEED === undefined ? {} : { seed: Number(process.env.MODEL_SEED) };

interface CouponModel {
  readonly id: string;
  startsAt: Date;
  expiresAt: Date;
  quantity: number | null;
  validityMs: number | null;
  maxPerUser: number;
  pausedAt: Date | null;
  deletedAt: Date | null;
  revokedAt: Date | null;
  revision: number;
  issuedCount: number;
}

interface RowModel {
  readonly id: string;
  readonly coupon: CouponModel;
  readonly userId: string;
  readonly requestId: string;
  readonly validUntil: Date | null;
}

type Change =
  | { readonly field: "quantity"; readonly to: number | null }
  | { readonly field: "validity"; readonly to: number | null }
  | { readonly field: "expiry"; readonly to: number }
  | { readonly field: "perUser"; readonly to: number };

type Command =
  | {
      readonly kind: "create";
      readonly quantity: number | null;
      readonly validity: number | null;
      readonly perUser: number;
      readonly start: number;
      readonly end: number;
      readonly request: number;
    }
  | { readonly kind: "issue"; readonly coupon: number; readonly user: number; readonly request: number }
  | { readonly kind: "crowd"; readonly coupon: number; readonly users: readonly number[] }
  | { readonly kind: "pause" | "resume"; readonly coupon: number; readonly request: number }
  | {
      readonly kind: "update";
      readonly coupon: number;
      readonly change: Change;
      readonly revision: "any" | "current" | "stale";
      readonly request: number;
    }
  | { readonly kind: "delete"; readonly coupon: number; readonly revoke: boolean; readonly request: number }
  | { readonly kind: "advance"; readonly steps: number }
  | { readonly kind: "read"; readonly row: number }
  | { readonly kind: "load" | "forget"; readonly coupon: number }
  | { readonly kind: "sweep" };

const coupon = fc.nat(1);
const request = fc.nat(3);
const quantity = fc.option(fc.integer({ min: 1, max: 4 }), { freq: 6 });
const validity = fc.option(fc.integer({ min: 1, max: 3 }));
const perUser = fc.constantFrom(1, 1, 1, 2);
const newCoupon = fc.record({
  kind: fc.constant("create" as const),
  quantity,
  validity,
  perUser,
  start: fc.constantFrom(-5, -5, -5, -5, 1),
  end: fc.constantFrom(30, 30, 30, 3),
  request,
});
const change: fc.Arbitrary<Change> = fc.oneof(
  fc.record({ field: fc.constant("quantity" as const), to: quantity }),
  fc.record({ field: fc.constant("validity" as const), to: validity }),
  fc.record({ field: fc.constant("expiry" as const), to: fc.integer({ min: -6, max: 30 }) }),
  fc.record({ field: fc.constant("perUser" as const), to: fc.integer({ min: 1, max: 3 }) }),
);
const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 1, arbitrary: newCoupon },
  { weight: 14, arbitrary: fc.record({ kind: fc.constant("issue" as const), coupon, user: fc.nat(2), request }) },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("crowd" as const),
      coupon,
      users: fc.array(fc.nat(7), { minLength: 2, maxLength: 16 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constantFrom("pause" as const, "resume" as const), coupon, request }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant("update" as const),
      coupon,
      change,
      revision: fc.constantFrom("any" as const, "any" as const, "current" as const, "stale" as const),
      request,
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("delete" as const), coupon, revoke: fc.boolean(), request }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("advance" as const), steps: fc.integer({ min: 1, max: 2 }) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("read" as const), row: fc.nat(20) }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("load" as const), coupon }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("forget" as const), coupon }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("sweep" as const) }) },
);
const life = fc
  .tuple(newCoupon, fc.array(command, { maxLength: 30, size: "max" }))
  .map(([first, rest]): Command[] => [first, ...rest]);

let lives = 0;

class Life {
  private readonly number = ++lives;
  private readonly startedAt = new Date();
  private now = this.startedAt;
  private readonly coupons: CouponModel[] = [];
  private readonly rows: RowModel[] = [];
  /** What a request to the catalogue was answered, by method and request id. */
  private readonly answers = new Map<string, { input: string; id: string; revision: number }>();

  constructor(private readonly service: Service) {}

  async live(commands: readonly Command[]): Promise<void> {
    await this.service.setClock(this.now);
    for (const one of commands) await this.act(one);
    await this.checkBooks();
  }

  private async act(one: Command): Promise<void> {
    switch (one.kind) {
      case "create":
        return await this.create(one);
      case "advance":
        this.now = new Date(this.now.getTime() + one.steps * stepMs);
        return await this.service.setClock(this.now);
      case "sweep":
        return await this.service.keeper.sweep();
      case "read":
        return await this.read(this.rows[one.row % Math.max(1, this.rows.length)]);
    }
    const target = this.coupons[one.coupon % this.coupons.length];
    if (!target) return;
    switch (one.kind) {
      case "issue":
        return await this.issue(target, one.user, one.request);
      case "crowd":
        return await this.crowd(target, one.users);
      case "load":
        return await this.service.load(target.id);
      case "forget":
        return await this.service.reservations.invalidate(target.id);
      case "pause":
      case "resume":
        return await this.pauseOrResume(one.kind, target, one.request);
      case "update":
        return await this.update(target, one);
      case "delete":
        return await this.delete(target, one);
    }
  }

  private context() {
    return { requestId: "model", deadlineMs: Date.now() + 20_000 };
  }

  private requestId(request: number): string {
    return request === 0 ? "" : `life-${this.number}-${request}`;
  }

  /** Five seconds past a step, counted from the beginning of this life. */
  private moment(steps: number): Date {
    return new Date(this.startedAt.getTime() + steps * stepMs + stepMs / 2);
  }

  private validityOf(steps: number | null): number | null {
    return steps === null ? null : steps * stepMs - stepMs / 2;
  }

  private async create(one: Command & { kind: "create" }): Promise<void> {
    const requestId = this.requestId(one.request);
    const model = {
      startsAt: this.moment(one.start),
      expiresAt: this.moment(one.end),
      quantity: one.quantity,
      validityMs: this.validityOf(one.validity),
      maxPerUser: one.perUser,
    };
    const message = create(CreateCouponRequestSchema, {
      coupon: {
        name: "model",
        discount: { kind: { case: "percentageBasisPoints", value: 500 } },
        startTime: timestampFromDate(model.startsAt),
        expireTime: timestampFromDate(model.expiresAt),
        ...(model.quantity !== null && { quantity: BigInt(model.quantity) }),
        ...(model.validityMs !== null && { validityAfterIssue: durationFromMs(model.validityMs) }),
        maxPerUser: model.maxPerUser,
      },
      requestId,
    });
    const answer = await this.service.create(message, this.context());
    const input = JSON.stringify({ ...one, request: 0 });
    await this.expectOnce("create", requestId, input, answer, async () => {
      const made = (answer as { coupon: CouponMessage }).coupon;
      this.coupons.push({
        ...model,
        id: made.id,
        pausedAt: null,
        deletedAt: null,
        revokedAt: null,
        revision: 1,
        issuedCount: 0,
      });
      return undefined;
    });
  }

  /**
   * A request that was answered before is answered the same or refused; otherwise `first` says what is right: a refusal,
   * or undefined for success, in which case it has changed the model.
   */
  private async expectOnce(
    method: string,
    requestId: string,
    input: string,
    answer: { coupon?: CouponMessage | undefined } | Refusal,
    first: () => Promise<string | undefined>,
  ): Promise<void> {
    const key = `${method} ${requestId}`;
    const earlier = requestId === "" ? undefined : this.answers.get(key);
    if (earlier) {
      if (earlier.input !== input) {
        expect(answer).toMatchObject({ reason: "REQUEST_ID_REUSED" });
        return;
      }
      expect(answer).not.toBeInstanceOf(Refusal);
      const { coupon: repeated } = answer as { coupon: CouponMessage };
      expect({ id: repeated.id, revision: Number(repeated.revision) }).toEqual({
        id: earlier.id,
        revision: earlier.revision,
      });
      return;
    }
    const refusal = await first();
    if (refusal) {
      expect(answer).toMatchObject({ reason: refusal });
      return;
    }
    expect(answer).not.toBeInstanceOf(Refusal);
    const { coupon: changed } = answer as { coupon: CouponMessage };
    const model = this.coupons.find(({ id }) => id === changed.id) as CouponModel;
    expect(this.seen(changed)).toEqual({
      revision: model.revision,
      quantity: model.quantity,
      issuedCount: model.issuedCount,
      maxPerUser: model.maxPerUser,
      expiresAt: model.expiresAt,
      deletedAt: model.deletedAt,
    });
    if (requestId !== "") this.answers.set(key, { input, id: changed.id, revision: model.revision });
  }

  private seen(message: CouponMessage) {
    return {
      revision: Number(message.revision),
      quantity: message.quantity === undefined ? null : Number(message.quantity),
      issuedCount: Number(message.issuedCount),
      maxPerUser: message.maxPerUser,
      expiresAt: message.expireTime ? timestampDate(message.expireTime) : null,
      deletedAt: message.deleteTime ? timestampDate(message.deleteTime) : null,
    };
  }

  private async pauseOrResume(kind: "pause" | "resume", target: CouponModel, request: number): Promise<void> {
    const changes = target.deletedAt === null && (kind === "pause") === (target.pausedAt === null);
    // Whether a call that changes nothing is remembered has a test of its own, below.
    const requestId = changes ? this.requestId(request) : "";
    const message = { couponId: target.id, requestId };
    const answer =
      kind === "pause"
        ? await this.service.pause(create(PauseCouponRequestSchema, message), this.context())
        : await this.service.resume(create(ResumeCouponRequestSchema, message), this.context());
    await this.expectOnce(kind, requestId, target.id, answer, async () => {
      if (target.deletedAt) return "COUPON_NOT_FOUND";
      if (changes) {
        target.pausedAt = kind === "pause" ? this.now : null;
        target.revision += 1;
      }
      return undefined;
    });
  }

  private async update(target: CouponModel, one: Command & { kind: "update" }): Promise<void> {
    const requestId = this.requestId(one.request);
    const { change: wanted } = one;
    const revision = { any: 0, current: target.revision, stale: target.revision + 1 }[one.revision];
    const coupon = {
      quantity: { path: "quantity", fields: wanted.to === null ? {} : { quantity: BigInt(wanted.to) } },
      validity: {
        path: "validity_after_issue",
        fields: wanted.to === null ? {} : { validityAfterIssue: durationFromMs(this.validityOf(wanted.to) as number) },
      },
      expiry: { path: "expire_time", fields: { expireTime: timestampFromDate(this.moment(wanted.to ?? 0)) } },
      perUser: { path: "max_per_user", fields: { maxPerUser: wanted.to ?? 1 } },
    }[wanted.field];
    const message = create(UpdateCouponRequestSchema, {
      coupon: { id: target.id, revision: BigInt(revision), ...coupon.fields },
      updateMask: { paths: [coupon.path] },
      requestId,
    });
    const answer = await this.service.update(message, this.context());
    const input = JSON.stringify([target.id, revision, wanted]);
    await this.expectOnce("update", requestId, input, answer, async () => {
      if (target.deletedAt) return "COUPON_NOT_FOUND";
      if (one.revision === "stale") return "STALE_REVISION";
      if (wanted.field === "expiry" && this.moment(wanted.to) <= target.startsAt) return "INVALID_FIELD";
      if (wanted.field === "quantity" && wanted.to !== null && wanted.to < target.issuedCount) {
        return "QUANTITY_BELOW_ISSUED";
      }
      if (wanted.field === "quantity") target.quantity = wanted.to;
      if (wanted.field === "validity") target.validityMs = this.validityOf(wanted.to);
      if (wanted.field === "expiry") target.expiresAt = this.moment(wanted.to);
      if (wanted.field === "perUser") target.maxPerUser = wanted.to;
      target.revision += 1;
      return undefined;
    });
  }

  private async delete(target: CouponModel, one: Command & { kind: "delete" }): Promise<void> {
    const requestId = this.requestId(one.request);
    const message = create(DeleteCouponRequestSchema, { couponId: target.id, revokeIssued: one.revoke, requestId });
    const answer = await this.service.delete(message, this.context());
    await this.expectOnce("delete", requestId, JSON.stringify([target.id, one.revoke]), answer, async () => {
      if (target.deletedAt) return "COUPON_NOT_FOUND";
      target.deletedAt = this.now;
      target.revokedAt = one.revoke ? this.now : null;
      target.revision += 1;
      return undefined;
    });
  }

  private isLive(row: RowModel): boolean {
    return row.validUntil === null || row.validUntil > this.now;
  }

  private liveCount(target: CouponModel, userId: string): number {
    return this.rows.filter((row) => row.coupon === target && row.userId === userId && this.isLive(row)).length;
  }

  private decide(target: CouponModel, userId: string): string {
    return decideIssue({ coupon: target, liveHeldCount: this.liveCount(target, userId), now: this.now });
  }

  private async issueOne(target: CouponModel, userId: string, requestId: string) {
    const message = create(IssueCouponRequestSchema, {
      target: { case: "couponId", value: target.id },
      userId,
      requestId,
    });
    const answer = await this.service.issue(message, this.context());
    if (answer instanceof Refusal) return { word: answer.reason as string, id: "" };
    return { word: answer.replayed ? "REPLAYED" : "ISSUED", id: answer.userCoupon?.id ?? "", answer };
  }

  private issued(target: CouponModel, userId: string, requestId: string, id: string): void {
    const { validityMs } = target;
    const validUntil = validityMs === null ? null : new Date(this.now.getTime() + validityMs);
    this.rows.push({ id, coupon: target, userId, requestId, validUntil });
    target.issuedCount += 1;
  }

  private async issue(target: CouponModel, user: number, request: number): Promise<void> {
    const userId = `user-${user}`;
    const requestId = this.requestId(request);
    const { word, id, answer } = await this.issueOne(target, userId, requestId);
    const earlier = requestId === "" ? undefined : this.rows.find((row) => row.requestId === requestId);
    const decision = this.decide(target, userId);
    if (!earlier) {
      expect(word).toBe(decision);
      if (word !== "ISSUED") return;
      this.issued(target, userId, requestId, id);
      const row = this.rows.at(-1) as RowModel;
      expect(timestampDate(answer?.userCoupon?.expireTime as never)).toEqual(expiryOf(row, target));
      return;
    }
    const mine = earlier.coupon === target && earlier.userId === userId;
    if (word === (mine ? "REPLAYED" : "REQUEST_ID_REUSED")) {
      if (mine) expect(id).toBe(earlier.id);
      return;
    }
    // The gate does not know every request that ever was, so it may turn away what Postgres would explain better. Which of
    // these the contract allows has tests of its own, below. A second user coupon it may never become.
    const gateMayForget = !mine || !this.isLive(earlier) || target.deletedAt || target.expiresAt <= this.now;
    expect({ word, gateMayForget: Boolean(gateMayForget) }).toEqual({ word: decision, gateMayForget: true });
    expect(word).not.toBe("ISSUED");
  }

  /** Everybody at once, without request ids: who gets one is open, how many is not. */
  private async crowd(target: CouponModel, users: readonly number[]): Promise<void> {
    const userIds = users.map((user) => `user-${user}`);
    const closed = this.decide(target, "nobody");
    const asked = new Map<string, number>();
    for (const userId of userIds) asked.set(userId, (asked.get(userId) ?? 0) + 1);
    const places = new Map<string, number>();
    for (const [userId, count] of asked) {
      places.set(userId, Math.min(count, Math.max(0, target.maxPerUser - this.liveCount(target, userId))));
    }
    const remaining = target.quantity === null ? Number.POSITIVE_INFINITY : target.quantity - target.issuedCount;
    const wanted = [...places.values()].reduce((sum, n) => sum + n, 0);

    const answers = await Promise.all(userIds.map((userId) => this.issueOne(target, userId, "")));
    if (closed !== "ISSUED" && closed !== "SOLD_OUT") {
      expect(new Set(answers.map(({ word }) => word))).toEqual(new Set([closed]));
      return;
    }
    answers.forEach(({ word, id }, index) => {
      if (word === "ISSUED") this.issued(target, userIds[index] as string, "", id);
    });
    const count = (word: string) => answers.filter((answer) => answer.word === word).length;
    expect(count("ISSUED")).toBe(Math.min(remaining, wanted));
    expect(count("ISSUED") + count("ALREADY_ISSUED") + count("SOLD_OUT")).toBe(answers.length);
    const soldOut = target.quantity !== null && target.issuedCount === target.quantity;
    if (count("SOLD_OUT") > 0) expect(soldOut).toBe(true);
    answers.forEach(({ word }, index) => {
      const held = this.liveCount(target, userIds[index] as string);
      if (word === "ALREADY_ISSUED") expect(held).toBeGreaterThanOrEqual(target.maxPerUser);
    });
  }

  private async read(row: RowModel | undefined): Promise<void> {
    if (!row) return;
    const message = create(GetUserCouponRequestSchema, { userId: row.userId, userCouponId: row.id });
    const answer = await this.service.getUserCoupon(message, this.context());
    if (answer instanceof Refusal) throw new Error(`user coupon ${row.id} is gone: ${answer.reason}`);
    const { userCoupon } = answer;
    expect(UserCouponStatus[userCoupon?.status ?? 0]).toBe(userCouponStatus(row, row.coupon, this.now));
    expect(timestampDate(userCoupon?.expireTime as never)).toEqual(expiryOf(row, row.coupon));
    expect(Number(userCoupon?.coupon?.issuedCount)).toBe(row.coupon.issuedCount);
  }

  /** Postgres has what the callers were told, no more and no less, and the gate counts the same. */
  private async checkBooks(): Promise<void> {
    const { clocked, reservations } = this.service;
    for (const target of this.coupons) {
      const [row] = await clocked.sql`
        SELECT issued_count::int AS "issuedCount", revision::int AS revision FROM coupons WHERE id = ${target.id}`;
      expect({ ...row }).toEqual({ issuedCount: target.issuedCount, revision: target.revision });
      const rows = await clocked.sql`SELECT id FROM user_coupons WHERE coupon_id = ${target.id} ORDER BY id`;
      const ofTarget = this.rows.filter((one) => one.coupon === target);
      expect(rows.map(({ id }) => id)).toEqual(ofTarget.map(({ id }) => id).sort());
      const [events] = await clocked.sql`
        SELECT count(*) FILTER (WHERE kind = 'USER_COUPON_ISSUED')::int AS issued,
          count(*) FILTER (WHERE kind <> 'USER_COUPON_ISSUED')::int AS changed
        FROM events WHERE coupon_id = ${target.id}`;
      expect({ ...events }).toEqual({ issued: ofTarget.length, changed: target.revision });
    }
    const surveys = await reservations.survey(10_000, 10);
    for (const { couponId, loaded, pendingCount } of surveys) {
      const target = this.coupons.find(({ id }) => id === couponId);
      if (!target) continue;
      expect(pendingCount).toBe(0);
      const remaining = target.quantity === null ? null : target.quantity - target.issuedCount;
      if (loaded) expect(loaded).toEqual({ revision: target.revision, stock: remaining });
    }
    expect(this.service.reported).toEqual([]);
  }
}

describe.each(["redis", "memory"] satisfies GateName[])("with the gate in %s", (gate) => {
  let service: Service;
  beforeEach(async () => {
    service = await startService(gate);
  });
  afterEach(() => service.close());

  test("any life of coupons goes as the model says", { timeout: 60_000 + runs * 2_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(life, (commands) => new Life(service).live(commands)),
      { numRuns: runs, ...seed },
    );
  });

  const context = () => ({ requestId: "test", deadlineMs: Date.now() + 20_000 });
  const newOne = async (fields: { quantity?: bigint; validityMs?: number } = {}) => {
    const message = create(CreateCouponRequestSchema, {
      coupon: {
        name: "one",
        discount: { kind: { case: "percentageBasisPoints", value: 500 } },
        startTime: timestampFromDate(new Date(Date.now() - 60_000)),
        expireTime: timestampFromDate(new Date(Date.now() + 3_600_000)),
        quantity: fields.quantity ?? 10n,
        ...(fields.validityMs !== undefined && { validityAfterIssue: durationFromMs(fields.validityMs) }),
      },
    });
    const answer = await service.create(message, context());
    if (answer instanceof Refusal) throw new Error(answer.reason);
    return answer.coupon?.id as string;
  };
  const issue = async (couponId: string, userId: string, requestId = "") => {
    const message = create(IssueCouponRequestSchema, {
      target: { case: "couponId", value: couponId },
      userId,
      requestId,
    });
    const answer = await service.issue(message, context());
    if (answer instanceof Refusal) return answer.reason;
    return `${answer.replayed ? "REPLAYED" : "ISSUED"} ${answer.userCoupon?.id}`;
  };
  /** Afterwards the gate has the coupon as Postgres has it now, whatever it had before. */
  const loadAnew = async (couponId: string) => {
    await service.reservations.invalidate(couponId);
    await until("the coupon is loaded", async () => {
      await service.load(couponId);
      return (await service.reservations.survey(1_000, 0)).some((one) => one.couponId === couponId && one.loaded);
    });
  };
  /** Postgres' clock is the gate's, give or take a second. */
  const later = (ms: number) => service.setClock(new Date(Date.now() + ms));

  // IssuanceService.IssueCoupon: "The first of these that applies is the answer: a repeated request gets the same user
  // coupon again; REQUEST_ID_REUSED; COUPON_NOT_FOUND; ...". These are the cases in which only Postgres knows.
  describe("a repeated request is answered first", () => {
    test("after the coupon was deleted", async () => {
      const couponId = await newOne();
      const first = await issue(couponId, "u", "r");
      await service.delete(create(DeleteCouponRequestSchema, { couponId }), context());
      await loadAnew(couponId);
      expect(await issue(couponId, "u", "r")).toBe(first.replace("ISSUED", "REPLAYED"));
    });

    test("after the coupon ended", async () => {
      const couponId = await newOne();
      const first = await issue(couponId, "u", "r");
      await later(3_660_000);
      await loadAnew(couponId);
      expect(await issue(couponId, "u", "r")).toBe(first.replace("ISSUED", "REPLAYED"));
    });

    test("after the user coupon expired and the coupon was sold out", async () => {
      const couponId = await newOne({ quantity: 1n, validityMs: 60_000 });
      const first = await issue(couponId, "u", "r");
      await later(120_000);
      await loadAnew(couponId);
      expect(await issue(couponId, "u", "r")).toBe(first.replace("ISSUED", "REPLAYED"));
    });

    test("after the user coupon expired and the user got another one", async () => {
      const couponId = await newOne({ validityMs: 60_000 });
      await loadAnew(couponId);
      const first = await issue(couponId, "u", "r1");
      await later(120_000);
      expect(await issue(couponId, "u", "r2")).toMatch(/^ISSUED/);
      expect([first.replace("ISSUED", "REPLAYED"), "ALREADY_ISSUED"]).toContain(await issue(couponId, "u", "r1"));
    });

    test("and one that is used again for another coupon never issues", async () => {
      const [couponId, soldOut] = [await newOne(), await newOne({ quantity: 1n })];
      await issue(couponId, "u", "r");
      await issue(soldOut, "winner");
      await loadAnew(soldOut);
      expect(["SOLD_OUT", "REQUEST_ID_REUSED"]).toContain(await issue(soldOut, "u", "r"));
    });
  });

  // CatalogService: "A repeated call with the same request_id and the same input does nothing and gets the first call's
  // answer; with other input it is refused."
  test("a pause that found the coupon paused is remembered: its retry does not pause again", async () => {
    const couponId = await newOne();
    await service.pause(create(PauseCouponRequestSchema, { couponId }), context());
    const call = create(PauseCouponRequestSchema, { couponId, requestId: "r" });
    await service.pause(call, context());
    await service.resume(create(ResumeCouponRequestSchema, { couponId }), context());
    await service.pause(call, context());
    expect(await issue(couponId, "u")).toMatch(/^ISSUED/);
  });
});
