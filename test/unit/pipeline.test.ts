import { createValidator } from "@bufbuild/protovalidate";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { Refusal, StoreUnavailable } from "../../src/domain/refusal.js";
import { Failure } from "../../src/transport/error-table.js";
import type { Permit } from "../../src/transport/overload/admission.js";
import { type IncomingCall, Pipeline } from "../../src/transport/pipeline.js";
import { until } from "../support/until.js";

const logged: object[] = [];
const pipeline = new Pipeline({
  log: { info: (details) => void logged.push(details), error: () => {} },
  metrics: { observe: () => {} },
  validator: createValidator(),
  defaultDeadlineMs: 15_000,
  maxDeadlineMs: 30_000,
  isServing: () => true,
});

// Deadlines are counted on a clock that stands still.
beforeEach(() => void vi.useFakeTimers({ toFake: ["Date"] }));
afterEach(() => void vi.useRealTimers());

/** How much of its time a call hands on to its handler, in ms. */
async function handedOnMs(leftMs: number): Promise<number> {
  const now = Date.now();
  let deadlineMs = Number.NaN;
  const method = CatalogService.method.listCoupons;
  const invoke = pipeline.mount(method, async (_, context) => {
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

test("a call that gave its permit up while its message arrived, and gets none, is refused", async () => {
  const invoke = pipeline.mount(CatalogService.method.listCoupons, async () => new Refusal("SOLD_OUT"));
  const permit = { ...permitThat(() => {}), begin: () => false };
  const answer = await invoke(callOf({ permit }), (one) => one);
  expect((answer as Failure).reason).toBe("OVERLOADED");
});
