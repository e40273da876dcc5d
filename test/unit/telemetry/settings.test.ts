import { expect, test } from "vitest";
import { readConfig } from "../../../src/config.js";
import { tracingOf } from "../../../src/platform/telemetry/settings.js";
import { hashedUser } from "../../../src/platform/telemetry/user-ids.js";

const tracing = (environment: Record<string, string>) => tracingOf(readConfig(environment));
const endpoint = "http://collector:4318";

test.for<[Record<string, string>, string | undefined]>([
  [{}, undefined],
  [{ OTEL_TRACES_EXPORTER: "none", OTEL_EXPORTER_OTLP_ENDPOINT: endpoint }, undefined],
  [{ OTEL_SDK_DISABLED: "true", OTEL_EXPORTER_OTLP_ENDPOINT: endpoint }, undefined],
  [{ OTEL_TRACES_EXPORTER: "otlp" }, "http://localhost:4318/v1/traces"],
  [{ OTEL_EXPORTER_OTLP_ENDPOINT: `${endpoint}/` }, `${endpoint}/v1/traces`],
  [{ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: `${endpoint}/own` }, `${endpoint}/own`],
  [{ OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "https://other/x" }, "https://other/x"],
])("%j sends traces to %s", ([environment, url]) => {
  expect(tracing(environment)?.url).toBe(url);
});

test("headers and attributes are pairs with percent-encoded values, and a sampler has its share", () => {
  const settings = {
    OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
    OTEL_EXPORTER_OTLP_HEADERS: "authorization=Bearer%20x==, a = b",
    OTEL_RESOURCE_ATTRIBUTES: "deployment.environment.name=prod",
    OTEL_TRACES_SAMPLER: "traceidratio",
    OTEL_TRACES_SAMPLER_ARG: "0.01",
  };
  expect(tracing(settings)).toMatchObject({
    headers: { authorization: "Bearer x==", a: "b" },
    attributes: { "deployment.environment.name": "prod" },
    sampler: "traceidratio",
    ratio: 0.01,
  });
});

test.for([
  ["OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "http/protobuf"],
  ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json", "http/protobuf"],
  ["OTEL_TRACES_EXPORTER", "zipkin", "otlp"],
  ["OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317", "http://host:port"],
  ["OTEL_EXPORTER_OTLP_ENDPOINT", "http://anna:secret@collector:4318", "http://host:port"],
  ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://:secret@collector/traces", "http://host:port"],
  ["OTEL_TRACES_SAMPLER", "sometimes", "always_on"],
  ["OTEL_TRACES_SAMPLER_ARG", "1.5", "share"],
  ["OTEL_EXPORTER_OTLP_HEADERS", "secret", "name=value"],
  ["OTEL_RESOURCE_ATTRIBUTES", "a=%zz", "%"],
  ["LOG_USER_IDS_KEY", "short", "16"],
])("%s=%s is refused with a word on what it may be", ([name, value, word]) => {
  const read = () => readConfig({ [name as string]: value as string });
  expect(read).toThrow(`${name}: `);
  expect(read).toThrow(word as string);
  if (value?.includes("secret")) expect(read).not.toThrow("secret");
});

test("users have names in the log that hang on the key", () => {
  expect(() => readConfig({ LOG_USER_IDS: "hashed" })).toThrow("LOG_USER_IDS_KEY: must be set");
  const [one, other] = [hashedUser("a key of sixteen"), hashedUser("another of sixteen")];
  expect(one("anna")).toBe(hashedUser("a key of sixteen")("anna"));
  expect(new Set([one("anna"), one("bert"), other("anna"), "anna"]).size).toBe(4);
});
