import { z } from "zod";
import type { Secret } from "../secrets/secret.js";

/** What OpenTelemetry means by a rate. */
const rate = /^(0(\.\d+)?|1(\.0+)?|\.\d+)$/;
const maxPairs = 64;

const samplers = [
  "always_on",
  "always_off",
  "traceidratio",
  "parentbased_always_on",
  "parentbased_always_off",
  "parentbased_traceidratio",
] as const;

const protocol = z.enum(["http/protobuf"], "must be http/protobuf: no other protocol is supported").optional();

/** A password would be in what is no secret. */
function isEndpoint(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, username, password } = new URL(text);
  return /^https?:$/.test(protocol) && username === "" && password === "";
}

const endpoint = z
  .string()
  .refine(
    isEndpoint,
    "must be http://host:port or https://host:port, with a path or without; a password goes into OTEL_EXPORTER_OTLP_HEADERS",
  )
  .optional();

/** Pairs as in the header `baggage`: name=value,name=value; values may be percent-encoded. Throws. */
function readPairs(text: string): Record<string, string> {
  const pairs = text
    .split(",")
    .map((pair) => pair.trim())
    .filter((pair) => pair !== "");
  if (pairs.length > maxPairs) throw new Error(`must have ${maxPairs} pairs at most`);
  return Object.fromEntries(
    pairs.map((pair) => {
      const at = pair.indexOf("=");
      if (at < 1) throw new Error("must be name=value,name=value");
      try {
        return [pair.slice(0, at).trim(), decodeURIComponent(pair.slice(at + 1).trim())];
      } catch {
        throw new Error("has a % that is not followed by two hexadecimal digits");
      }
    }),
  );
}

export const pairs = z.string().check(({ value, issues }) => {
  try {
    readPairs(value);
  } catch (error) {
    // The value stays out of it: headers have secrets.
    issues.push({ code: "custom", message: (error as Error).message, input: undefined });
  }
});

/** The settings that OpenTelemetry has given names, besides those that are secrets. */
export const otelSettings = z.object({
  OTEL_SDK_DISABLED: z.stringbool().default(false),
  OTEL_SERVICE_NAME: z.string().max(255).default("coupon-service"),
  OTEL_RESOURCE_ATTRIBUTES: pairs.optional(),
  OTEL_TRACES_EXPORTER: z.enum(["otlp", "console", "none"]).optional(),
  OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: endpoint,
  OTEL_EXPORTER_OTLP_PROTOCOL: protocol,
  OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: protocol,
  OTEL_TRACES_SAMPLER: z.enum(samplers).default("parentbased_always_on"),
  OTEL_TRACES_SAMPLER_ARG: z.string().regex(rate, "must be a share from 0 to 1").default("1").transform(Number),
  OTEL_BSP_SCHEDULE_DELAY: z.coerce.number().int().min(10).max(60_000).default(5_000),
  OTEL_BSP_MAX_QUEUE_SIZE: z.coerce.number().int().min(1).max(100_000).default(2_048),
});

type Settings = z.infer<typeof otelSettings> & { readonly OTEL_EXPORTER_OTLP_HEADERS?: Secret | undefined };

export interface TracingSettings {
  readonly exporter: "otlp" | "console";
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly serviceName: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly sampler: (typeof samplers)[number];
  /** Of `traceidratio`: which share of all traces. */
  readonly ratio: number;
  /** Until what has ended is sent, in ms. */
  readonly delayMs: number;
  readonly maxQueue: number;
}

const defaultEndpoint = "http://localhost:4318";

/** How calls are traced; undefined: nobody has asked for it. */
export function tracingOf(settings: Settings): TracingSettings | undefined {
  const base = settings.OTEL_EXPORTER_OTLP_ENDPOINT;
  const own = settings.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT;
  const exporter = settings.OTEL_TRACES_EXPORTER ?? ((own ?? base) === undefined ? "none" : "otlp");
  if (settings.OTEL_SDK_DISABLED || exporter === "none") return undefined;
  return {
    exporter,
    url: own ?? `${(base ?? defaultEndpoint).replace(/\/$/, "")}/v1/traces`,
    headers: readPairs(settings.OTEL_EXPORTER_OTLP_HEADERS?.reveal() ?? ""),
    serviceName: settings.OTEL_SERVICE_NAME,
    attributes: readPairs(settings.OTEL_RESOURCE_ATTRIBUTES ?? ""),
    sampler: settings.OTEL_TRACES_SAMPLER,
    ratio: settings.OTEL_TRACES_SAMPLER_ARG,
    delayMs: settings.OTEL_BSP_SCHEDULE_DELAY,
    maxQueue: settings.OTEL_BSP_MAX_QUEUE_SIZE,
  };
}
