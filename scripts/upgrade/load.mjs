import { randomUUID } from "node:crypto";
import { fromBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Channels } from "../../dist/bench/load/channels.js";
import { callPersistently } from "../../dist/bench/load/persistent-call.js";
import { runSchedule } from "../../dist/bench/load/schedule.js";
import { encode, pathOf } from "../../dist/bench/support/api.js";
import { CatalogService } from "../../dist/gen/coupon/v1/catalog_service_pb.js";
import { IssuanceService } from "../../dist/gen/coupon/v1/issuance_service_pb.js";
import { UsageService } from "../../dist/gen/coupon/v1/usage_service_pb.js";
import { UserCouponService } from "../../dist/gen/coupon/v1/user_coupon_service_pb.js";

/** As docs/errors.md tells clients to. */
const patience = { attemptTimeoutMs: 5_000, maxAttempts: 8 };
const connectionsPerReplica = 4;
const dayMs = 86_400_000;
/** Of the issues, one in so many: asks for the scarce coupon; is sent twice at once; has its user coupon used; is listed. */
const every = { scarce: 10, twice: 25, used: 5, listed: 5 };
/** Of the uses, one in so many: is cancelled. */
const everyCancelled = 2;

/** The calls of many users, over those replicas that are named at the moment, and what they were told. */
export class Load {
  #channels = new Map();
  #open = [];
  #next = 0;
  #phaseMs = [];
  issued = [];
  used = [];
  cancelled = [];
  soldOut = 0;
  failures = [];
  calls = 0;
  retries = 0;
  /** Of the asks for a coupon that began in each phase, with all their repetitions. */
  latenciesMs = new Map();

  /** From now on calls go to these replicas by turns; a phase begins. Calls under way, and connections, stay. */
  async shiftTo(targets, phase) {
    for (const target of targets) {
      if (this.#channels.has(target)) continue;
      const channels = new Channels({ targets: [target], connectionsPerTarget: connectionsPerReplica });
      await channels.connect();
      this.#channels.set(target, channels);
    }
    this.#open = targets.map((target) => this.#channels.get(target));
    this.begin(phase);
  }

  begin(phase) {
    this.#phaseMs = [];
    this.latenciesMs.set(phase, this.#phaseMs);
  }

  close() {
    for (const channels of this.#channels.values()) channels.close();
  }

  async createCoupon(name, quantity) {
    const { response, failure } = await this.#call(CatalogService.method.createCoupon, {
      coupon: {
        name,
        quantity: BigInt(quantity),
        discount: { kind: { case: "percentageBasisPoints", value: 1_000 } },
        expireTime: timestampFromMs(Date.now() + dayMs),
      },
      requestId: randomUUID(),
    });
    if (failure) throw new Error(`no coupon could be created: ${failure.reason}: ${failure.message}`);
    return response.coupon.id;
  }

  /** Ends when every call has its answer. `isOver` is looked at before each issue. */
  async offer({ plenty, scarce, rate, isOver }) {
    const lives = [];
    let index = 0;
    while (!isOver()) {
      const count = rate;
      await runSchedule({
        count,
        dueMs: (at) => (at * 1_000) / rate,
        send: () => {
          const at = index++;
          lives.push(this.#live(at, at % every.scarce === 0 ? scarce : plenty));
        },
      });
    }
    await Promise.all(lives);
  }

  async #live(index, couponId) {
    const userId = `user-${index}`;
    const ask = { target: { case: "couponId", value: couponId }, userId, requestId: randomUUID() };
    const phaseMs = this.#phaseMs;
    const startedMs = performance.now();
    const answers = await Promise.all(
      Array.from({ length: index % every.twice === 0 ? 2 : 1 }, () =>
        this.#call(IssuanceService.method.issueCoupon, ask),
      ),
    );
    phaseMs.push(performance.now() - startedMs);
    for (const { failure } of answers) {
      if (failure?.reason === "SOLD_OUT") this.soldOut += 1;
      else if (failure) return this.#fail("IssueCoupon", failure);
    }
    const ids = new Set(answers.map(({ response }) => response?.userCoupon.id));
    if (ids.size > 1) {
      // The replicas in the order in which they were started, of those that are called.
      const told = answers.map(
        ({ response, place }) => `${response?.userCoupon.id ?? "SOLD_OUT"} by replica ${place + 1}`,
      );
      return this.#fail("IssueCoupon", { reason: "one request got two answers", message: told.join(", ") });
    }
    const [userCouponId] = ids;
    if (userCouponId === undefined) return;
    this.issued.push({ userCouponId, userId, couponId });
    if (index % every.listed === 1) await this.#list(userId, userCouponId);
    if (index % every.used === 2) await this.#use(index, userId, userCouponId);
  }

  async #list(userId, userCouponId) {
    const { response, failure } = await this.#call(UserCouponService.method.listUserCoupons, { userId });
    if (failure) return this.#fail("ListUserCoupons", failure);
    if (response.userCoupons.some(({ id }) => id === userCouponId)) return;
    this.#fail("ListUserCoupons", { reason: "an issued one is missing", message: userCouponId });
  }

  async #use(index, userId, userCouponId) {
    const choice = { target: { case: "userCouponId", value: userCouponId } };
    const orderAmount = { currencyCode: "USD", minorUnits: 1_999n };
    const lock = await this.#call(UsageService.method.lockCoupons, {
      userId,
      coupons: [choice],
      requestId: randomUUID(),
    });
    if (lock.failure) return this.#fail("LockCoupons", lock.failure);
    const { lockVersion } = lock.response.locks[0];
    const order = { userId, coupons: [{ ...choice, lockVersion }], productId: "p", orderId: `o-${index}`, orderAmount };
    const use = await this.#call(UsageService.method.useCoupons, { ...order, requestId: randomUUID() });
    if (use.failure) return this.#fail("UseCoupons", use.failure);
    const usageId = use.response.usages[0].id;
    this.used.push({ usageId, userCouponId });
    if (this.used.length % everyCancelled > 0) return;
    const cancel = await this.#call(UsageService.method.cancelUsage, { userId, usageId, requestId: randomUUID() });
    if (cancel.failure) return this.#fail("CancelUsage", cancel.failure);
    this.cancelled.push(usageId);
  }

  #fail(method, { reason, message }) {
    this.failures.push(`${method}: ${reason}: ${message}`);
  }

  async #call(method, input) {
    const request = encode(method.input, input);
    // Every attempt chooses anew, as a client behind a balancer does.
    let place;
    const channels = {
      send: (...args) => {
        place = this.#next++ % this.#open.length;
        return this.#open[place].send(...args);
      },
    };
    const { response, failure, attempts } = await callPersistently(channels, pathOf(method), request, patience);
    this.calls += 1;
    this.retries += attempts - 1;
    return { response: response && fromBinary(method.output, response), failure, place };
  }
}
