import { afterAll, expect, test } from "vitest";
import { oneReplica } from "../support/service.js";
import { read } from "../tidy/sources.js";

// Nobody listens there: the metrics of publishing are exported all the same.
const { replica } = await oneReplica(afterAll, { ADMIN_PORT: "0", KAFKA_BROKERS: "127.0.0.1:1" });

/** What Prometheus itself brings. */
const ofPrometheus = ["up", "ALERTS"];
/** Words of PromQL that are no metrics: functions are told by their bracket. */
const words = ["by", "and", "or", "on", "unless", "without", "group_left", "group_right", "ignoring", "offset"];

/** The metrics that an expression reads. */
function metricsIn(expression: string): string[] {
  const bare = expression
    .replace(/"(?:[^"\\]|\\.)*"/g, "")
    .replace(/\{[^}]*\}|\[[^\]]*\]/g, " ")
    .replace(/\b(?:by|without|on|ignoring)\s*\([^)]*\)/g, " ");
  const names = [...bare.matchAll(/[a-zA-Z_:][\w:]*(?!\w|\s*\()/g)].map(([name]) => name);
  return names.filter((name) => !words.includes(name) && !ofPrometheus.includes(name));
}

/** All expressions below a value of a dashboard. */
function expressionsIn(value: unknown): string[] {
  if (typeof value !== "object" || value === null) return [];
  const own = "expr" in value && typeof value.expr === "string" ? [value.expr] : [];
  return [...own, ...Object.values(value).flatMap(expressionsIn)];
}

async function exported(): Promise<Set<string>> {
  const text = await (await fetch(`http://127.0.0.1:${replica.adminPort}/metrics`)).text();
  const types = [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)];
  return new Set(
    types.flatMap(([, name, type]) =>
      type === "histogram" ? ["_bucket", "_sum", "_count"].map((end) => `${name}${end}`) : [name as string],
    ),
  );
}

test("names are found in expressions", () => {
  const expression =
    'histogram_quantile(0.9, sum by (le, rpc) (rate(a_bucket{x=~"b|c"}[$__rate_interval]))) / on (le) d > 7';
  expect(metricsIn(expression)).toEqual(["a_bucket", "d"]);
});

test.for([
  ["the dashboard", () => expressionsIn(JSON.parse(read("deploy/grafana/coupon-service.json")))],
  [
    "the alerts",
    () => [...read("deploy/prometheus/alerts.yml").matchAll(/^ +expr: '(.*)'$/gm)].map(([, text]) => text as string),
  ],
  [
    "the autoscaler",
    () =>
      [...read("deploy/kubernetes/autoscaling/prometheus-adapter.yaml").matchAll(/seriesQuery: '(.*)'/g)].map(
        ([, text]) => text as string,
      ),
  ],
] as const)("what %s reads is exported", async ([, expressions]) => {
  const names = new Set(expressions().flatMap(metricsIn));
  expect(names.size).toBeGreaterThan(0);
  const there = await exported();
  expect([...names].filter((name) => !there.has(name))).toEqual([]);
});
