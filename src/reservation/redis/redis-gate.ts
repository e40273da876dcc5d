import type { Clock } from "../../platform/clock.js";
import type { FailureLog } from "../../platform/failure-log.js";
import { groupBy } from "../../platform/group-by.js";
import { timeOf } from "../../platform/new-id.js";
import { QuotaDays } from "../../platform/quotas/quota-days.js";
import { QuotaGroups, type QuotaOptions } from "../../platform/quotas/quota-groups.js";
import { type RedisSettings, redisServers } from "../../platform/redis-servers.js";
import { afterLook, defaultPauses, type LookPauses } from "../looks.js";
import { requestHash, userHash } from "../packed-holdings.js";
import type {
  Admission,
  AdmissionRequest,
  Gate,
  GateRequest,
  Loading,
  Look,
  LookEnd,
  PlaceFacts,
  PlaceOutcome,
  PlaceRequest,
  PlaceSettlement,
  Settlement,
  Survey,
} from "../port.js";
import { defaultReservationMs, keepPlacesMs, keepQuotaDayMs, throttleSecondMs, ticketSlack } from "../port.js";
import { Batcher } from "./batcher.js";
import { RedisClient } from "./client.js";
import { admissionOf, batches, settledDetail } from "./fields.js";
import { type InspectAnswer, type Inspection, inspectionOf } from "./inspection.js";
import { Loader } from "./loader.js";
import { type Ended, Registry } from "./registry.js";
import { outcomeOf, type Script, scripts } from "./scripts.js";

export interface RedisGateOptions extends QuotaOptions {
  /** In any form of REDIS_URL. */
  readonly url: string;
  /** What the URL does not say: the Sentinels' password, certificates. */
  readonly settings?: Omit<RedisSettings, "REDIS_URL">;
  readonly keyPrefix: string;
  /** Told when Redis does not answer, and when it does again. */
  readonly failures: Pick<FailureLog, "failed" | "succeeded">;
  readonly reservationMs?: number;
  /** By which it is judged what Postgres has said until when it holds. Absent: that of this process. */
  readonly clock?: Clock;
  /** Added to Redis' clock, and to that of this process. For tests that move time. */
  readonly clockOffsetMs?: () => number;
  /** For tests that do not wait as long. */
  readonly pauses?: Partial<LookPauses>;
  /** How long an answer is waited for. For tests that have no Postgres to ask instead. */
  readonly patienceMs?: number;
}

/** The reservation port on Redis. Asks for the same coupon share script calls. */
export class RedisGate implements Gate {
  private readonly client: RedisClient;
  private readonly loadClient: RedisClient;
  private readonly reservationMs: number;
  private readonly clockOffsetMs: () => number;
  private readonly clock: Clock;
  private readonly admissions = new Batcher<AdmissionRequest, Admission>((couponId, requests) =>
    this.admitBatch(couponId, requests),
  );
  private readonly places = new Batcher<PlaceRequest, PlaceOutcome>((couponId, requests) =>
    this.takeBatch(couponId, requests),
  );
  private readonly quotaGroups: QuotaGroups;
  private readonly quotaDays: QuotaDays;
  private readonly pauses: LookPauses;
  private readonly registry: Registry;
  private readonly loader: Loader;
  private surveyOffset = 0;

  constructor(options: RedisGateOptions) {
    const servers = redisServers({ ...options.settings, REDIS_URL: options.url });
    this.client = new RedisClient(servers, options.keyPrefix, options.failures, options.patienceMs);
    this.loadClient = new RedisClient(servers, options.keyPrefix, options.failures, options.patienceMs);
    this.reservationMs = options.reservationMs ?? defaultReservationMs;
    this.clockOffsetMs = options.clockOffsetMs ?? (() => 0);
    this.clock = options.clock ?? { nowMs: () => Date.now() + this.clockOffsetMs() };
    this.quotaGroups = new QuotaGroups(options.quotaGroupOf);
    this.quotaDays = options.quotaDays ?? new QuotaDays();
    this.pauses = { ...defaultPauses(this.reservationMs), ...options.pauses };
    this.registry = new Registry(this.client, this.pauses, this.clockOffsetMs);
    this.loader = new Loader(this.loadClient, this.quotaGroups, this.registry, this.clock, this.clockOffsetMs);
  }

  async ready(): Promise<boolean> {
    const ready = await Promise.all([this.client.ready(), this.loadClient.ready()]);
    return ready.every((one) => one);
  }

  get isAway(): boolean {
    return this.client.isAway;
  }

  admit(request: AdmissionRequest): Promise<Admission> {
    return this.admissions.submit(request.couponId, request);
  }

  async settle(settlements: readonly Settlement[]): Promise<void> {
    const ofCoupons = groupBy(settlements, (settlement) => settlement.couponId);
    await Promise.all([...ofCoupons].map(([couponId, ofCoupon]) => this.settleCoupon(couponId, ofCoupon)));
  }

  beginLoad(couponId: string): Promise<Loading | null> {
    return this.loader.begin(couponId);
  }

  async invalidate(couponId: string): Promise<void> {
    const { keys } = this.client;
    const owner = { couponId, quotaGroup: await this.quotaGroups.of(couponId), day: "" };
    await this.client.call(keys.coupon(owner), (redis) =>
      redis.unlink(keys.coupon(owner), keys.loading(owner), keys.holders(owner), keys.places(owner)),
    );
  }

  takePlace(request: PlaceRequest): Promise<PlaceOutcome> {
    return this.places.submit(request.couponId, request);
  }

  async settlePlaces(settlements: readonly PlaceSettlement[]): Promise<void> {
    const calls: Promise<unknown>[] = [];
    for (const [couponId, ofCoupon] of groupBy(settlements, (settlement) => settlement.couponId)) {
      this.registry.announce(couponId);
      for (const batch of batches(ofCoupon)) {
        const args = batch.flatMap(({ outcome, usageId }) => [outcome, usageId]);
        calls.push(this.run(scripts.settlePlaces, couponId, args));
      }
    }
    for (const answer of await Promise.all(calls)) outcomeOf(scripts.settlePlaces, answer);
  }

  async loadPlaces(couponId: string, { revision, remaining }: PlaceFacts): Promise<void> {
    await this.registry.register(couponId);
    const answer = await this.run(scripts.loadPlaces, couponId, [revision, remaining, keepPlacesMs]);
    outcomeOf(scripts.loadPlaces, answer);
  }

  async survey(couponLimit: number, overdueLimit: number): Promise<Survey[]> {
    const all = await this.registry.all();
    if (this.surveyOffset >= all.length) this.surveyOffset = 0;
    const ids = all.slice(this.surveyOffset, this.surveyOffset + couponLimit);
    this.surveyOffset += couponLimit;
    const inspections = await Promise.all(ids.map((couponId) => this.inspect(couponId, overdueLimit)));
    return inspections
      .map(({ survey }) => survey)
      .filter(({ loaded, pendingCount, places, takenCount }) => loaded || places || pendingCount + takenCount > 0);
  }

  async lookAtDue(couponLimit: number, overdueLimit: number): Promise<Look[]> {
    const claimed = await this.registry.claim(couponLimit);
    const looks = await Promise.allSettled(
      claimed.map(async ({ couponId, claim, calmLooks }) => ({
        ...(await this.inspect(couponId, overdueLimit)),
        ...{ claim, calmLooks },
      })),
    );
    // One that cannot be looked at keeps nobody from the others; it is tried again when its lease is over.
    const done = looks.flatMap((look) => (look.status === "fulfilled" ? [look.value] : []));
    const failed = looks.find((look) => look.status === "rejected");
    if (failed && done.length === 0) throw failed.reason;
    return done;
  }

  async endLooks(ends: readonly LookEnd[]): Promise<void> {
    await this.registry.end(await Promise.all(ends.map((one) => this.endOf(one))));
  }

  async close(): Promise<void> {
    this.client.close();
    this.loadClient.close();
  }

  /** Of a coupon that is known here the script call begins at once: nothing is waited for on the way. */
  private run(script: Script, couponId: string, args: readonly (string | number)[], day = ""): Promise<unknown> {
    const known = this.quotaGroups.known(couponId);
    if (known !== undefined) return this.client.run(script, { couponId, quotaGroup: known, day }, args);
    return this.quotaGroups
      .of(couponId)
      .then((quotaGroup) => this.client.run(script, { couponId, quotaGroup, day }, args));
  }

  /** The day of the quota that a request counts in, from its id alone: so it is found again whenever it is settled. */
  private dayOf(request: GateRequest): string {
    return this.quotaDays.nameOf(timeOf(request.userCouponId) + this.clockOffsetMs());
  }

  private async admitBatch(couponId: string, requests: readonly AdmissionRequest[]): Promise<Admission[]> {
    const known = this.quotaGroups.known(couponId);
    const quotaGroup = known === undefined ? await this.quotaGroups.ofAsked(couponId) : known;
    if (quotaGroup === undefined) return requests.map(() => ({ outcome: "COUPON_NOT_FOUND" }));
    if (quotaGroup === null) return await this.admitOnDay(couponId, "", requests);
    const admissions = new Map<GateRequest, Admission>();
    for (const [day, ofDay] of groupBy(requests, (request) => this.dayOf(request))) {
      const answers = await this.admitOnDay(couponId, day, ofDay);
      for (const [index, request] of ofDay.entries()) admissions.set(request, answers[index] as Admission);
    }
    return requests.map((request) => admissions.get(request) as Admission);
  }

  private async admitOnDay(couponId: string, day: string, requests: readonly AdmissionRequest[]): Promise<Admission[]> {
    const times = [this.clock.nowMs(), this.clockOffsetMs(), this.reservationMs];
    const args: (string | number)[] = [...times, ticketSlack, throttleSecondMs, keepQuotaDayMs];
    for (const { userCouponId, userId, requestId, ticket = "", patienceMs = "" } of requests) {
      args.push(userCouponId, userId, requestId, ticket, patienceMs, userHash(userId), requestHash(requestId));
    }
    const answers = await this.reserve(scripts.admit, couponId, args, day);
    return requests.map((_, index) => admissionOf(answers[index]));
  }

  private async settleCoupon(couponId: string, settlements: readonly Settlement[]): Promise<void> {
    this.registry.announce(couponId);
    const quotaGroup = await this.quotaGroups.of(couponId);
    const days =
      quotaGroup === null ? [["", settlements] as const] : groupBy(settlements, (settlement) => this.dayOf(settlement));
    const calls: Promise<unknown>[] = [];
    for (const [day, ofDay] of days) {
      for (const batch of batches(ofDay)) {
        const args: (string | number)[] = [this.clockOffsetMs(), quotaGroup === null ? 0 : 1, keepQuotaDayMs];
        for (const s of batch) {
          args.push(s.outcome, s.userCouponId, s.userId, s.requestId, settledDetail(s));
          args.push(userHash(s.userId), requestHash(s.requestId));
        }
        calls.push(this.run(scripts.settle, couponId, args, day));
      }
    }
    for (const answer of await Promise.all(calls)) outcomeOf(scripts.settle, answer);
  }

  private async takeBatch(couponId: string, requests: readonly PlaceRequest[]): Promise<PlaceOutcome[]> {
    const args: (string | number)[] = [this.clockOffsetMs(), this.reservationMs, keepPlacesMs];
    for (const request of requests) args.push(request.usageId, request.revision);
    const answers = await this.reserve(scripts.takePlaces, couponId, args);
    return requests.map((_, index) => outcomeOf(scripts.takePlaces, answers[index]));
  }

  private async inspect(couponId: string, overdueLimit: number): Promise<Inspection> {
    const answer = await this.run(scripts.inspect, couponId, [this.clockOffsetMs(), overdueLimit]);
    return inspectionOf(couponId, answer as InspectAnswer);
  }

  private async endOf({ look, again }: LookEnd): Promise<Ended> {
    const { couponId } = look.survey;
    const after = afterLook(look, again, this.pauses);
    const gone = { couponId, claim: look.claim, pauseMs: null, calmLooks: 0 };
    if (after.what === "PAUSE") return { ...gone, pauseMs: after.pauseMs, calmLooks: after.calmLooks };
    // First it leaves, then it is unregistered: whoever comes between the two registers it anew.
    if (after.what === "FORGET" || (await this.leave(couponId))) return gone;
    return { ...gone, pauseMs: 0 };
  }

  private async leave(couponId: string): Promise<boolean> {
    return outcomeOf(scripts.leave, await this.run(scripts.leave, couponId, [])) === "LEFT";
  }

  /** Sends what may make a reservation. */
  private async reserve(
    script: Script,
    couponId: string,
    args: readonly (string | number)[],
    day = "",
  ): Promise<string[]> {
    this.registry.announce(couponId);
    try {
      return (await this.run(script, couponId, args, day)) as string[];
    } catch (error) {
      this.registry.doubt(couponId);
      throw error;
    }
  }
}
