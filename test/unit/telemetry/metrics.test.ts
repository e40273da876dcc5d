import { Histogram, Registry } from "prom-client";
import { expect, test, vi } from "vitest";
import { GateMetrics } from "../../../src/platform/telemetry/gate-metrics.js";
import { HistogramTally } from "../../../src/platform/telemetry/histogram-tally.js";
import { followDate } from "../../support/steady-clock.js";

test("a tally shows what the library's own histogram shows", async () => {
  const options = { name: "waits", help: "Waits.", labelNames: ["queue", "reason"], buckets: [0.5, 1, 2] };
  const [own, library] = [new Registry(), new Registry()];
  const tally = new HistogramTally(own, options);
  const histogram = new Histogram({ ...options, registers: [library] });
  for (const [value, ...labels] of [
    [0.5, "a", "OK"],
    [0.75, "a", "OK"],
    [3, "a", "OK"],
    [1, "a", "NO"],
    [2, "b", "OK"],
  ] as const) {
    tally.observe(value, ...labels);
    histogram.labels(...labels).observe(value);
  }
  const lines = async (registry: Registry) => (await registry.metrics()).trim().split("\n").sort();
  expect(await lines(own)).toEqual(await lines(library));
});

test("of the coupons whose stock was seen within a minute, those are shown that were asked for most", async () => {
  vi.useFakeTimers({ toFake: ["Date"] });
  const stop = followDate();
  try {
    const registry = new Registry();
    const metrics = new GateMetrics(registry);
    const shown = async () =>
      [...(await registry.metrics()).matchAll(/^coupon_stock_left\{coupon_id="(.+)"\} (\d+)$/gm)].map(
        ([, couponId, stock]) => `${couponId} ${stock}`,
      );
    metrics.stockSeen("early", 1);
    metrics.showCoupons(2);
    for (const [couponId, calls] of Object.entries({ few: 1, many: 3, some: 2 })) {
      for (let call = 0; call < calls; call++) metrics.admitted(couponId, "RESERVED", 1);
      metrics.stockSeen(couponId, calls * 10);
    }
    metrics.stockSeen("endless", null);
    expect(await shown()).toEqual(["many 30", "some 20"]);
    vi.setSystemTime(Date.now() + 50_000);
    metrics.stockSeen("few", 9);
    vi.setSystemTime(Date.now() + 20_000);
    expect(await shown()).toEqual(["few 9"]);
  } finally {
    stop?.();
    vi.useRealTimers();
  }
});
