import { Counter, Gauge, type Registry } from "prom-client";

/** What `/metrics` shows of publishing events, where they are published. */
export class RelayMetrics {
  private readonly sent: Counter;
  private readonly gaps: Counter;
  private readonly holder: Gauge;
  private readonly lagSeconds: Gauge;
  private readonly lagEvents: Gauge;

  constructor(registry: Registry) {
    const registers = [registry];
    this.sent = new Counter({
      name: "coupon_relay_sent_total",
      help: "Events that were published by this replica; some more than once.",
      registers,
    });
    this.gaps = new Counter({
      name: "coupon_relay_gaps_total",
      help: "How often events were found to be gone that had not been published.",
      registers,
    });
    this.holder = new Gauge({
      name: "coupon_relay_holder",
      help: "1: this replica publishes the events; 0: another one, or none.",
      registers,
    });
    this.lagSeconds = new Gauge({
      name: "coupon_relay_lag_seconds",
      help: "Age of the first event that is not published yet, by whichever replica; 0: there is none.",
      registers,
    });
    this.lagEvents = new Gauge({
      name: "coupon_relay_lag_events",
      help: "Events that are not published yet, by whichever replica; numbers that no event has are counted, too.",
      registers,
    });
  }

  published(count: number): void {
    this.sent.inc(count);
  }

  missed(): void {
    this.gaps.inc();
  }

  holds(isHolder: boolean): void {
    this.holder.set(isHolder ? 1 : 0);
  }

  lag({ events, ms }: { readonly events: number; readonly ms: number }): void {
    this.lagEvents.set(events);
    this.lagSeconds.set(ms / 1_000);
  }
}
