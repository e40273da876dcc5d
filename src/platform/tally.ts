import { Counter, type CounterConfiguration, type Registry } from "prom-client";

/** A counter of what happens with every call: the library's own makes a hash of the labels each time, this when it is asked. */
export class Tally {
  private readonly counts = new Map<string, { readonly labels: string[]; added: number }>();

  constructor(registry: Registry, options: CounterConfiguration<string>) {
    const counter: Counter = new Counter({
      ...options,
      registers: [registry],
      collect: () => {
        for (const count of this.counts.values()) {
          counter.labels(...count.labels).inc(count.added);
          count.added = 0;
        }
      },
    });
  }

  /** There before anything has happened, so that all of it is seen to rise, however much comes before the first look. */
  begin(...labels: string[]): void {
    this.counts.set(labels.join(" "), { labels, added: 0 });
  }

  /** The values of all labels, in their order. */
  add(...labels: string[]): void {
    const key = labels.join(" ");
    const count = this.counts.get(key);
    if (count) count.added += 1;
    else this.counts.set(key, { labels, added: 1 });
  }
}
