import { createValidator } from "@bufbuild/protovalidate";
import { expect, test } from "vitest";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { Refusal } from "../../src/domain/refusal.js";
import { Pipeline } from "../../src/transport/pipeline.js";

const pipeline = new Pipeline({
  log: { info: () => {}, error: () => {} },
  metrics: { observe: () => {}, inFlight: () => {} },
  validator: createValidator(),
  maxInFlight: 1,
  defaultDeadlineMs: 15_000,
  maxDeadlineMs: 30_000,
  isServing: () => true,
});

/** How much of its time a call hands on to its handler, in ms. */
async function handedOnMs(leftMs: number): Promise<number> {
  const now = Date.now();
  let deadlineMs = Number.NaN;
  const method = CatalogService.method.listCoupons;
  const invoke = pipeline.mount(method, async (_, context) => {
    deadlineMs = context.deadlineMs;
    return new Refusal("SOLD_OUT");
  });
  await invoke({
    frontEnd: "grpc",
    header: () => undefined,
    deadlineMs: now + leftMs,
    decode: () => ({ $typeName: method.input.typeName, pageSize: 0, pageToken: "", showDeleted: false }),
  });
  return deadlineMs - now;
}

test.for([
  [1_000, 950],
  [4_000, 3_800],
  [20_000, 19_800],
  [60_000, 30_000],
  [Number.POSITIVE_INFINITY, 15_000],
] as const)("of %i ms a handler has %i", async ([leftMs, expectedMs]) => {
  const handedOn = await handedOnMs(leftMs);
  // The call's own clock starts a little later.
  expect(handedOn).toBeGreaterThanOrEqual(expectedMs);
  expect(handedOn).toBeLessThan(expectedMs + 45);
});
