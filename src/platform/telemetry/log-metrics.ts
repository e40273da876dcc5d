import { Counter, type Registry } from "prom-client";

/** Looked up when the metrics are. */
export function showDroppedLines(registry: Registry, count: () => number): void {
  const counter: Counter = new Counter({
    name: "coupon_log_lines_dropped_total",
    help: "Lines of the log that were dropped, because whoever reads it had not taken those before them.",
    registers: [registry],
    collect: () => {
      counter.reset();
      counter.inc(count());
    },
  });
}
