import type { Metric, Registry } from "prom-client";

export interface HistogramOptions<Label extends string> {
  readonly name: string;
  readonly help: string;
  readonly labelNames: readonly Label[];
  /** Upper bounds, rising; one more for everything has no name. */
  readonly buckets: readonly number[];
}

/** A call that a bucket has counted, and the trace that tells more of it. `timestamp`: in seconds since 1970. */
interface Exemplar {
  readonly labelSet: { readonly trace_id: string };
  readonly value: number;
  readonly timestamp: number;
}

/** What was observed with the same labels. */
class Series {
  readonly counts: number[];
  /** By bucket, the last one; those of no bucket are absent. */
  readonly exemplars = new Map<number, Exemplar>();
  sum = 0;

  constructor(
    readonly labels: readonly string[],
    bucketCount: number,
  ) {
    this.counts = new Array<number>(bucketCount + 1).fill(0);
  }
}

/** All series that begin with the same labels. */
class Branch extends Map<string, Branch> {
  series: Series | undefined;
}

interface Value {
  readonly metricName: string;
  readonly labels: Record<string, string>;
  readonly value: number;
  readonly exemplar?: Exemplar | undefined;
}

/**
 * A histogram of what happens with every call: it adds to plain numbers, and makes series of them when it is asked. The
 * library's own makes a hash and an object of the labels each time.
 */
export class HistogramTally<Label extends string> {
  private readonly byLabels = new Branch();
  private readonly all: Series[] = [];

  constructor(
    registry: Registry,
    private readonly options: HistogramOptions<Label>,
  ) {
    // What the registry asks of a metric is its name, and `get`.
    registry.registerMetric(this as unknown as Metric<Label>);
  }

  get name(): string {
    return this.options.name;
  }

  /** The values of all labels, in their order. */
  observe(value: number, ...labels: string[]): void {
    const series = this.seriesOf(labels);
    const at = this.bucketOf(value);
    series.counts[at] = (series.counts[at] as number) + 1;
    series.sum += value;
  }

  /** Of what was observed: which trace it is in. */
  exemplify(traceId: string, value: number, ...labels: string[]): void {
    const exemplar = { labelSet: { trace_id: traceId }, value, timestamp: Date.now() / 1_000 };
    this.seriesOf(labels).exemplars.set(this.bucketOf(value), exemplar);
  }

  get() {
    const { name, help } = this.options;
    return { name, help, type: "histogram", aggregator: "sum", values: this.all.flatMap((one) => this.valuesOf(one)) };
  }

  private bucketOf(value: number): number {
    const { buckets } = this.options;
    let at = 0;
    while (at < buckets.length && value > (buckets[at] as number)) at += 1;
    return at;
  }

  /** Found by one label after the other, so that nothing has to be put together. */
  private seriesOf(labels: readonly string[]): Series {
    let at = this.byLabels;
    for (const label of labels) {
      let next = at.get(label);
      if (!next) {
        next = new Branch();
        at.set(label, next);
      }
      at = next;
    }
    if (!at.series) {
      at.series = new Series(labels, this.options.buckets.length);
      this.all.push(at.series);
    }
    return at.series;
  }

  private valuesOf({ labels: given, counts, sum, exemplars }: Series): Value[] {
    const { name, labelNames, buckets } = this.options;
    const labels = Object.fromEntries(labelNames.map((label, index) => [label, given[index] as string]));
    let count = 0;
    const values = counts.map((more, index) => {
      count += more;
      const le = index < buckets.length ? String(buckets[index]) : "+Inf";
      return { metricName: `${name}_bucket`, labels: { le, ...labels }, value: count, exemplar: exemplars.get(index) };
    });
    return [
      ...values,
      { metricName: `${name}_sum`, labels, value: sum },
      { metricName: `${name}_count`, labels, value: count },
    ];
  }
}
