import { setImmediate as turnsEnd } from "node:timers/promises";
import { type OpenMetricsContentType, Registry } from "prom-client";
import { SharedReads } from "../shared-reads.js";

/** Whether a scraper would rather have OpenMetrics 1.0 than Prometheus' own text format. */
export function wantsOpenMetrics(accept = ""): boolean {
  const best = { open: 0, plain: 0 };
  for (const range of accept.toLowerCase().split(",")) {
    const [type = "", ...parameters] = range.split(";").map((part) => part.trim());
    const given = (name: string) => parameters.find((one) => one.startsWith(`${name}=`))?.slice(name.length + 1);
    const quality = Number(given("q") ?? 1);
    const isOpen = type === "application/openmetrics-text" && (given("version") ?? "1.0.0") === "1.0.0";
    if (isOpen) best.open = Math.max(best.open, quality);
    if (type === "text/plain") best.plain = Math.max(best.plain, quality);
  }
  return best.open > 0 && best.open >= best.plain;
}

/** What the registry asks of a metric. */
interface ReadMetric {
  readonly name: string;
  get(): Promise<{ readonly type: string }>;
}

/**
 * The same metrics as OpenMetrics, which alone has exemplars. The library's own way there takes `_total` off the names of its counters
 * for good, so that Prometheus' text format loses them, too: so the names are changed in what it is shown of them.
 */
async function asOpenMetrics(registry: Registry): Promise<{ contentType: string; text: string }> {
  const shown = new Registry<OpenMetricsContentType>();
  shown.setContentType(Registry.OPENMETRICS_CONTENT_TYPE);
  for (const metric of registry.getMetricsAsArray() as unknown as ReadMetric[]) {
    const get = async () => {
      const read = await metric.get();
      return { ...read, name: read.type === "counter" ? metric.name.replace(/_total$/, "") : metric.name };
    };
    shown.registerMetric({ name: metric.name, get } as never);
  }
  return { contentType: shown.contentType, text: await shown.metrics() };
}

/**
 * The pages of all metrics, by whether it is OpenMetrics. To write one takes milliseconds, in one go: a turn of the event loop has one,
 * which those share who have asked before.
 */
export function pagesOf(registry: Registry) {
  return new SharedReads(async (isOpen: boolean) => {
    await turnsEnd();
    if (isOpen) return await asOpenMetrics(registry);
    return { contentType: registry.contentType, text: await registry.metrics() };
  });
}
