import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import { steadyMs } from "../clock.js";
import { Tally } from "../tally.js";
import { HistogramTally } from "./histogram-tally.js";

const waitBucketsS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1];
const loadBucketsS = [0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60];
/** Coupons of which it is counted how often they are asked for; with more of them the count begins anew. */
const maxCounted = 10_000;
/** What was seen of a coupon's stock so long ago says nothing any more: others look at it, or nobody does. */
const stockKeptMs = 60_000;

/** How Redis takes part: it is asked; it is away, and Postgres decides alone; there is none. */
export const redisModes = ["used", "bypassed", "none"] as const;
export type RedisMode = (typeof redisModes)[number];

/** What the gate does, and what it knows. All of it is counted here, or was seen by others: nobody is asked for a scrape. */
export class GateMetrics {
  private readonly admissions: Tally;
  private readonly places: Tally;
  private readonly waits: HistogramTally<"operation">;
  private readonly loads: Counter<"outcome">;
  private readonly loadTimes: Histogram;
  private readonly loadedBytes: Counter;
  private readonly sweptTotal: Counter<"what" | "outcome">;
  /** By coupon: calls since the count began. */
  private readonly asked = new Map<string, number>();
  private readonly stocks = new Map<string, { readonly stock: number; readonly atMs: number }>();
  private topCount = 0;

  constructor(private readonly registry: Registry) {
    const registers = [registry];
    this.admissions = new Tally(registry, {
      name: "coupon_gate_admissions_total",
      help: "What the gate said of requests for a coupon (RESERVED: let through; AWAY: not asked), each time that one asked.",
      labelNames: ["outcome"],
    });
    this.places = new Tally(registry, {
      name: "coupon_gate_places_total",
      help: "What the gate said of uses under a usage cap (TAKEN: let through; AWAY: not asked).",
      labelNames: ["outcome"],
    });
    this.waits = new HistogramTally(registry, {
      name: "coupon_gate_duration_seconds",
      help: "How long the gate took to answer, by operation (admit or take_place).",
      labelNames: ["operation"],
      buckets: waitBucketsS,
    });
    this.loads = new Counter({
      name: "coupon_gate_loads_total",
      help: "Loads of coupons into the gate, by outcome (OK or FAILED).",
      labelNames: ["outcome"],
      registers,
    });
    this.loadTimes = new Histogram({
      name: "coupon_gate_load_seconds",
      help: "How long a load of a coupon into the gate took.",
      buckets: loadBucketsS,
      registers,
    });
    this.loadedBytes = new Counter({
      name: "coupon_gate_loaded_bytes_total",
      help: "Bytes of packed holdings that were loaded into the gate: who holds the coupons.",
      registers,
    });
    this.sweptTotal = new Counter({
      name: "coupon_reservations_swept_total",
      help: "Reservations past their deadline that a sweep has settled, by what was reserved (stock or place) and outcome (CONFIRM or RELEASE).",
      labelNames: ["what", "outcome"],
      registers,
    });
    // There before anything has happened, so that the first that does is seen to rise.
    for (const outcome of ["OK", "FAILED"]) this.loads.inc({ outcome }, 0);
    for (const what of ["stock", "place"] as const) this.swept(what, 0, 0);
    const stock: Gauge<"coupon_id"> = new Gauge({
      name: "coupon_stock_left",
      help: "What is left of the coupons that were asked for most here, when this replica last looked, within a minute. See METRICS_COUPONS.",
      labelNames: ["coupon_id"],
      registers,
      collect: () => {
        stock.reset();
        for (const [couponId, left] of this.busiest()) stock.set({ coupon_id: couponId }, left);
      },
    });
  }

  /** How many of the busiest coupons have a series of their own. */
  showCoupons(count: number): void {
    this.topCount = count;
  }

  /** Shows these whenever it is asked. */
  watch(facts: { redisMode(): RedisMode; reservationsOpen(): number; loadsUnderWay(): number }): void {
    const registers = [this.registry];
    const mode: Gauge<"mode"> = new Gauge({
      name: "coupon_redis_mode",
      help: "1 for what Redis is: used; bypassed, for it has not answered lately, or refused something; none, for there is none.",
      labelNames: ["mode"],
      registers,
      collect: () => {
        const now = facts.redisMode();
        for (const one of redisModes) mode.set({ mode: one }, one === now ? 1 : 0);
      },
    });
    const open: Gauge = new Gauge({
      name: "coupon_reservations_open",
      help: "Reservations of stock that this replica has made and that Postgres has not decided yet.",
      registers,
      collect: () => open.set(facts.reservationsOpen()),
    });
    const loads: Gauge = new Gauge({
      name: "coupon_gate_loads_under_way",
      help: "Coupons that this replica is loading into the gate.",
      registers,
      collect: () => loads.set(facts.loadsUnderWay()),
    });
  }

  admitted(couponId: string, outcome: string, ms: number): void {
    this.admissions.add(outcome);
    this.waits.observe(ms / 1_000, "admit");
    if (this.topCount === 0) return;
    if (this.asked.size >= maxCounted) this.asked.clear();
    this.asked.set(couponId, (this.asked.get(couponId) ?? 0) + 1);
  }

  placeTaken(outcome: string, ms: number): void {
    this.places.add(outcome);
    this.waits.observe(ms / 1_000, "take_place");
  }

  loaded(outcome: "OK" | "FAILED", ms: number, bytes: number): void {
    this.loads.inc({ outcome });
    this.loadTimes.observe(ms / 1_000);
    this.loadedBytes.inc(bytes);
  }

  swept(what: "stock" | "place", confirmed: number, released: number): void {
    this.sweptTotal.inc({ what, outcome: "CONFIRM" }, confirmed);
    this.sweptTotal.inc({ what, outcome: "RELEASE" }, released);
  }

  /** What Postgres says is left of a coupon that a sweep has looked at; null: it has no end. */
  stockSeen(couponId: string, stock: number | null): void {
    if (this.topCount === 0 || stock === null) return;
    this.stocks.delete(couponId);
    if (this.stocks.size >= maxCounted) this.stocks.clear();
    this.stocks.set(couponId, { stock, atMs: steadyMs() });
  }

  private busiest(): [couponId: string, stock: number][] {
    const sinceMs = steadyMs() - stockKeptMs;
    const known = [...this.stocks].filter(([, { atMs }]) => atMs >= sinceMs);
    const byCalls = ([a]: [string, unknown], [b]: [string, unknown]) =>
      (this.asked.get(b) ?? 0) - (this.asked.get(a) ?? 0);
    const most = known.sort(byCalls).slice(0, this.topCount);
    return most.map(([couponId, { stock }]) => [couponId, stock]);
  }
}
