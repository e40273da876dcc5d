import { create, type DescMethodUnary } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { AuditService } from "../../gen/coupon/v1/audit_service_pb.js";
import { AuthService } from "../../gen/coupon/v1/auth_service_pb.js";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import { UsageService } from "../../gen/coupon/v1/usage_service_pb.js";
import { UserCouponService } from "../../gen/coupon/v1/user_coupon_service_pb.js";
import { anybody, type Principal } from "../../src/domain/principal.js";
import { Refusal, StoreUnavailable } from "../../src/domain/refusal.js";
import { Authorization } from "../../src/transport/authorization.js";
import { Failure } from "../../src/transport/error-table.js";
import type { Permit } from "../../src/transport/overload/admission.js";
import { type IncomingCall, Pipeline } from "../../src/transport/pipeline.js";
import { messageValidator } from "../../src/transport/validator.js";
import { followDate } from "../support/steady-clock.js";
import { until } from "../support/until.js";

let principal: Principal | Refusal = anybody;
const logged: object[] = [];
const options = {
  authenticator: { authenticate: () => principal },
  log: { info: (details) => void logged.push(details), error: () => {} },
  metrics: { observe: () => {} },
  validator: messageValidator(),
  defaultDeadlineMs: 15_000,
  maxDeadlineMs: 30_000,
  isServing: () => true,
} satisfies ConstructorParameters<typeof Pipeline>[0];
const pipeline = new Pipeline(options);

// Deadlines are counted on a clock that stands still.
beforeEach(() => {
  vi.useFakeTimers({ toFake: ["Date"] });
  return followDate();
});
afterEach(() => void vi.useRealTimers());

/** How much of its time a call hands on to its handler, in ms. */
async function handedOnMs(leftMs: number, served = pipeline): Promise<number> {
  const now = Date.now();
  let deadlineMs = Number.NaN;
  const method = CatalogService.method.listCoupons;
  const invoke = served.mount(method, async (_, context) => {
    deadlineMs = context.deadlineMs;
    return new Refusal("SOLD_OUT");
  });
  await invoke(callOf({ deadlineMs: now + leftMs }), (answer) => answer);
  return deadlineMs - now;
}

const emptyRequest = { $typeName: "coupon.v1.ListCouponsRequest", pageSize: 0, pageToken: "", showDeleted: false };

function permitThat(end: (sampled: boolean) => void): Permit {
  return { begin: () => true, end, yield: (wait) => wait() };
}

function callOf(parts: Partial<IncomingCall>): IncomingCall {
  return {
    frontEnd: "grpc",
    header: () => undefined,
    deadlineMs: Number.POSITIVE_INFINITY,
    permit: permitThat(() => {}),
    decode: () => emptyRequest,
    ...parts,
  };
}

test.for([
  [1_000, 950],
  [4_000, 3_800],
  [20_000, 19_800],
  [60_000, 30_000],
  [Number.POSITIVE_INFINITY, 15_000],
] as const)("of %i ms a handler has %i", async ([leftMs, expectedMs]) => {
  expect(await handedOnMs(leftMs)).toBe(expectedMs);
});

test("who sends no deadline has no more time than anybody", async () => {
  const hasty = new Pipeline({ ...options, maxDeadlineMs: 2_000 });
  expect(await handedOnMs(Number.POSITIVE_INFINITY, hasty)).toBe(2_000);
});

test("what the store has said of an error is in the log, and not in the answer", async () => {
  const cause = Object.assign(new Error("canceling statement due to statement timeout"), { code: "57014" });
  const invoke = pipeline.mount(CatalogService.method.listCoupons, async () => {
    throw new StoreUnavailable("postgres: 57014", { cause });
  });
  logged.splice(0);
  const answer = await invoke(callOf({}), () => {});
  expect(answer).toMatchObject({ reason: "STORE_UNAVAILABLE" });
  expect((answer as Failure).message).not.toContain("57014");
  expect(logged).toEqual([expect.objectContaining({ status: "STORE_UNAVAILABLE", code: "57014" })]);
});

test("an answer that cannot be encoded is a fault like any other: INTERNAL, and the call is over", async () => {
  const ended: boolean[] = [];
  const invoke = pipeline.mount(CatalogService.method.listCoupons, async () => ({}) as never);
  const permit = permitThat((sampled) => ended.push(sampled));
  const answer = await invoke(callOf({ permit }), () => {
    throw new Error("no such field");
  });
  expect(answer).toBeInstanceOf(Failure);
  expect((answer as Failure).reason).toBe("INTERNAL");
  expect(ended).toEqual([true]);
});

test("a handler whose caller has gone keeps its permit until it ends", async () => {
  const ended: boolean[] = [];
  let finish = () => {};
  const invoke = pipeline.mount(CatalogService.method.listCoupons, async () => {
    await new Promise<void>((resolve) => {
      finish = resolve;
    });
    return new Refusal("SOLD_OUT");
  });
  const permit = permitThat((sampled) => ended.push(sampled));
  const answer = await invoke(callOf({ permit, deadlineMs: Date.now() + 20 }), (one) => one);
  expect((answer as Failure).reason).toBe("DEADLINE_EXCEEDED");
  expect(ended).toEqual([]);
  finish();
  await until("the permit is given back", async () => ended.length === 1);
});

test("a call that is refused before its handler gives its permit back at once", async () => {
  const ended: boolean[] = [];
  const permit = permitThat((sampled) => ended.push(sampled));
  const invoke = pipeline.mount(CatalogService.method.listCoupons, async () => new Refusal("SOLD_OUT"));
  await invoke(callOf({ permit, decode: () => ({ ...emptyRequest, pageSize: -1 }) }), (one) => one);
  expect(ended).toEqual([false]);
});

test("a call whose time has run out is not begun, neither when it is let in nor when its message is there", async () => {
  let begun = 0;
  const invoke = pipeline.mount(CatalogService.method.listCoupons, async () => {
    begun += 1;
    return new Refusal("SOLD_OUT");
  });
  const late = (await invoke(callOf({ deadlineMs: Date.now() }), (one) => one)) as Failure;
  const decode = async () => {
    vi.setSystemTime(Date.now() + 1_000);
    return emptyRequest;
  };
  const lateMessage = (await invoke(callOf({ deadlineMs: Date.now() + 1_000, decode }), (one) => one)) as Failure;
  expect([late.reason, lateMessage.reason, begun]).toEqual(["DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", 0]);
});

test("a call that gave its permit up while its message arrived, and gets none, is refused", async () => {
  const invoke = pipeline.mount(CatalogService.method.listCoupons, async () => new Refusal("SOLD_OUT"));
  const permit = { ...permitThat(() => {}), begin: () => false };
  const answer = await invoke(callOf({ permit }), (one) => one);
  expect((answer as Failure).reason).toBe("OVERLOADED");
});

describe("who calls", () => {
  const user: Principal = {
    id: "jwt:me",
    scopes: new Set(["user_coupons.read", "catalog.read", "issue"]),
    userId: "me",
  };
  const decoded: string[] = [];
  const ask = async (who: Principal | Refusal, method: DescMethodUnary, request: Record<string, unknown> = {}) => {
    principal = who;
    decoded.splice(0);
    let seen: unknown;
    const invoke = pipeline.mount(method, async (given, context) => {
      seen = { given, principal: context.principal };
      return new Refusal("SOLD_OUT");
    });
    const decode = () => {
      decoded.push(method.name);
      return create(method.input, request);
    };
    const answer = (await invoke(callOf({ decode }), () => {})) as Failure;
    principal = anybody;
    return { reason: answer.reason, message: answer.message, details: answer.details, seen, decoded: decoded.length };
  };
  const { listUserCoupons } = UserCouponService.method;

  test("who brings no credentials is refused before the message is decoded", async () => {
    const { reason, decoded } = await ask(new Refusal("UNAUTHENTICATED"), listUserCoupons, { userId: "me" });
    expect([reason, decoded]).toEqual(["UNAUTHENTICATED", 0]);
  });

  test("who lacks the scope is told which, before the message is decoded", async () => {
    const { reason, message, details, decoded } = await ask(
      { id: "key:1", scopes: new Set(["use"]) },
      CatalogService.method.createCoupon,
    );
    expect([reason, message, decoded]).toEqual(["PERMISSION_DENIED", "the caller lacks the scope catalog.write", 0]);
    expect(details[0]?.value).toMatchObject({ metadata: { scope: "catalog.write" } });
  });

  test("an end user has what is its own, and of another's it is told that there is nothing", async () => {
    expect(await ask(user, listUserCoupons, { userId: "me" })).toMatchObject({
      reason: "SOLD_OUT",
      seen: { principal: user },
    });
    expect(await ask(user, listUserCoupons, { userId: "you" })).toMatchObject({
      reason: "USER_COUPON_NOT_FOUND",
      seen: undefined,
    });
  });

  test("what names no user is closed to end users, but for the catalogue", async () => {
    expect(await ask(user, IssuanceService.method.batchIssueCoupons)).toMatchObject({
      reason: "PERMISSION_DENIED",
      decoded: 0,
    });
    expect((await ask(user, CatalogService.method.listCoupons)).reason).toBe("SOLD_OUT");
  });

  test("a request id belongs to its caller and method; without callers it is kept as it came", async () => {
    const couponId = "0192f3a0-0000-7000-8000-000000000000";
    const request = { target: { case: "couponId", value: couponId }, userId: "u", requestId: "1" };
    const kept = async (who: Principal, method: DescMethodUnary, of: Record<string, unknown>) =>
      ((await ask(who, method, of)).seen as { given: { requestId: string } }).given.requestId;
    const { issueCoupon } = IssuanceService.method;
    const { cancelUsage } = UsageService.method;
    const service = (id: string): Principal => ({ ...anybody, id });
    const cancel = { userId: "u", usageId: couponId, requestId: "1" };
    expect(await kept(anybody, issueCoupon, request)).toBe("1");
    const ids = [
      await kept(service("key:1"), issueCoupon, request),
      await kept(service("key:2"), issueCoupon, request),
      await kept(service("key:1"), cancelUsage, cancel),
    ];
    expect(new Set(ids).size).toBe(3);
    expect(await kept(service("key:1"), issueCoupon, request)).toBe(ids[0]);
    expect(await kept(service("key:1"), issueCoupon, { ...request, requestId: "" })).toBe("");
  });
});

const services = [AuthService, CatalogService, IssuanceService, UserCouponService, UsageService];

test("where nobody is asked who they are, everybody may do all but make keys", () => {
  const closed = services
    .flatMap(({ methods }) => methods as readonly DescMethodUnary[])
    .filter((method) => new Authorization(method).mayCall(anybody));
  expect(closed).toEqual(AuthService.methods);
});

test("every method says which scope it asks for", () => {
  const services = [AuditService, CatalogService, IssuanceService, UserCouponService, UsageService];
  const asked = services.flatMap(({ methods }) =>
    methods.map((method) => new Authorization(method as DescMethodUnary).scope),
  );
  expect(new Set(asked).size).toBeGreaterThan(6);
});
