import { Gauge, type Registry } from "prom-client";

export interface OverloadFacts {
  readonly limit: number;
  readonly atWork: number;
  readonly waiting: number;
  readonly maxConnections: number;
}

const gauges: readonly { name: string; help: string; of: (state: OverloadFacts) => number }[] = [
  { name: "coupon_calls_in_flight", help: "Calls at work.", of: ({ atWork }) => atWork },
  {
    name: "coupon_calls_limit",
    help: "Calls that may be at work; found from what they take.",
    of: ({ limit }) => limit,
  },
  { name: "coupon_calls_waiting", help: "Calls that wait until fewer are at work.", of: ({ waiting }) => waiting },
  {
    name: "coupon_connections_limit",
    help: "Connections that the gRPC port takes at most; fewer while connections are shed.",
    of: ({ maxConnections }) => maxConnections,
  },
];

/** What the overload protection allows and what there is, looked up when the metrics are. */
export function showOverload(registry: Registry, state: () => OverloadFacts): void {
  for (const { name, help, of } of gauges) {
    const gauge: Gauge = new Gauge({ name, help, registers: [registry], collect: () => gauge.set(of(state())) });
  }
}
