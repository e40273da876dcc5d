import { Histogram, Registry } from "prom-client";
import { describe, expect, test, vi } from "vitest";
import { Metrics } from "../../../src/platform/metrics.js";
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

describe("exemplars", () => {
  const traceId = "4bf92f3577b34da6a3ce929d0e0e4736";
  const call = { rpc: "Get", method: "a/Get", system: "grpc", code: "OK", reason: "OK" };
  /** What Prometheus 2 and 3 ask with. */
  const openMetrics = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
  const traced = () => {
    const metrics = new Metrics();
    metrics.showTraces();
    return metrics;
  };

  test("a bucket names the last sampled call in it, to who asks for OpenMetrics", async () => {
    const metrics = traced();
    metrics.observe({ ...call, seconds: 0.003, traceId: "before".padEnd(32, "0") });
    metrics.observe({ ...call, seconds: 0.004, traceId });
    metrics.observe({ ...call, seconds: 0.0045 });
    metrics.observe({ ...call, seconds: 40, traceId });
    const { contentType, text } = await metrics.page(openMetrics);
    expect(contentType).toBe("application/openmetrics-text; version=1.0.0; charset=utf-8");
    const named = text.split("\n").filter((line) => line.includes(" # {"));
    const labels = 'rpc_system_name="grpc",rpc_method="a/Get",rpc_response_status_code="OK",coupon_reason="OK"';
    const line = (le: string, count: number, seconds: number) =>
      `rpc_server_call_duration_seconds_bucket{le="${le}",${labels}} ${count} # {trace_id="${traceId}"} ${seconds}`;
    expect(named.map((one) => one.slice(0, one.lastIndexOf(" ")))).toEqual([
      line("0.005", 3, 0.004),
      line("+Inf", 4, 40),
    ]);
    expect(Math.abs(Number(named[0]?.split(" ").at(-1)) - Date.now() / 1_000)).toBeLessThan(60);
    expect(text.endsWith("\n# EOF\n")).toBe(true);
  });

  test("the series have the same names in both formats, whatever was asked before", async () => {
    const metrics = traced();
    metrics.observe({ ...call, seconds: 1, traceId });
    const pages = [];
    for (const accept of [undefined, openMetrics, undefined, openMetrics]) pages.push(await metrics.page(accept));
    const series = pages.map(({ text }) =>
      text
        .split("\n")
        // Those of collections come with the first one, those of what is active while something is: nobody says when that is.
        .filter((line) => /^[a-z]/.test(line) && !/^nodejs_(gc_|active_[a-z]+\{)/.test(line))
        .map((line) => line.slice(0, line.lastIndexOf("}") + 1) || line.split(" ", 1)[0]?.trim()),
    );
    expect(series[0]?.length).toBeGreaterThan(50);
    expect(series[0]).toContain('coupon_calls_total{rpc="Get",outcome="OK"}');
    for (const others of series.slice(1)) expect(new Set(others.map(nameOf))).toEqual(new Set(series[0]?.map(nameOf)));
    expect(pages.map(({ contentType }) => contentType.split(";", 1)[0])).toEqual([
      ...["text/plain", "application/openmetrics-text", "text/plain", "application/openmetrics-text"],
    ]);
  });
  const nameOf = (series: string | undefined) => series?.replace(/ #.*/, "").replace(/[ {].*/, "");

  test.for([
    ["nobody says", undefined],
    ["a browser asks", "text/html,application/xhtml+xml,*/*;q=0.8"],
    ["text is liked better", "text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0;q=0.9"],
    ["another version is wanted", "application/openmetrics-text;version=0.0.1"],
    ["it is refused", "application/openmetrics-text;q=0"],
    ["it says nonsense", ";q=,application/openmetrics-text;q=x;;,"],
  ])("when %s, the page is Prometheus' text and has none", async ([, accept]) => {
    const metrics = traced();
    metrics.observe({ ...call, seconds: 1, traceId });
    const { contentType, text } = await metrics.page(accept);
    expect(contentType).toContain("text/plain");
    expect(text).not.toContain(traceId);
  });

  test("nothing changes where nothing is traced", async () => {
    expect((await new Metrics().page(openMetrics)).contentType).toContain("text/plain");
  });
});

test("a crowd that asks for the page at the same moment has it written once or twice, and not for each", async () => {
  const metrics = new Metrics();
  const written = vi.spyOn(metrics.registry, "metrics");
  const asked = [];
  for (let index = 0; index < 50; index += 1) {
    asked.push(metrics.page(undefined));
    // As many streams of one connection do: each is heard when what the one before it has begun went on as far as it could.
    for (let step = 0; step < 200; step += 1) await undefined;
  }
  const pages = await Promise.all(asked);
  expect(new Set(pages.map(({ text }) => text)).size).toBeLessThanOrEqual(2);
  expect(written.mock.calls.length).toBeLessThanOrEqual(2);
});

test("who asks for the page after a call finds the call in it, though somebody else asks, too", async () => {
  const metrics = new Metrics();
  const before = metrics.page(undefined);
  metrics.shedCall("Get", "manage");
  const [, { text }] = await Promise.all([before, metrics.page(undefined)]);
  expect(text).toContain('coupon_calls_shed_total{kind="manage"} 1');
});
