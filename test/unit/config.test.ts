import { describe, expect, test } from "vitest";
import { hostOf, readConfig, secretNames, settingNames } from "../../src/config.js";
import { Secret } from "../../src/platform/secrets/secret.js";

const databaseUrl = "postgres://anna:secret@db:5432/coupons";

/** The variables that the error names, in order. */
const namedBy = (environment: Record<string, string>): string[] => {
  try {
    readConfig(environment);
    return [];
  } catch (error) {
    const [head, ...lines] = (error as Error).message.split("\n");
    expect(head).toBe("these settings are wrong:");
    for (const line of lines) expect(line).toMatch(/^ {2}[A-Z_]+: \S/);
    return lines.map((line) => line.trim().split(":")[0] as string);
  }
};

test("nothing has to be set", () => {
  expect(readConfig({})).toEqual({
    REDIS_KEY_PREFIX: "coupon",
    JWT_ALGORITHMS: ["ES256", "RS256", "EdDSA"],
    JWT_CLOCK_TOLERANCE_S: 5,
    JWT_SCOPES_CLAIM: "scope",
    GRPC_PORT: 50_051,
    HTTP_PORT: 8_080,
    REFLECTION: "on",
    CONSOLE: "on",
    DOCS: "on",
    TLS_MIN_VERSION: "1.2",
    MIGRATE: "on",
    DATABASE_DURABILITY: "required",
    DATABASE_START_WAIT_MS: 30_000,
    DATABASE_POOL_SIZE: 12,
    MAX_IN_FLIGHT: 4_000,
    MAX_WATCHERS: 2_000,
    DEFAULT_DEADLINE_MS: 15_000,
    MAX_DEADLINE_MS: 30_000,
    RESERVATION_MS: 5_000,
    QUOTA_TIME_ZONE: "UTC",
    PURGE: "on",
    PURGE_AFTER_DAYS: 30,
    PURGE_EVERY_MINUTES: 60,
    DELETED_CODES_KEEP_HOURS: 24,
    EVENTS_KEEP_DAYS: 400,
    AUDIT_KEEP_DAYS: 800,
    KAFKA_TOPIC: "coupon.events",
    KAFKA_FORMAT: "protobuf",
    KAFKA_FROM: "beginning",
    KAFKA_SOURCE: "/coupon-service",
    KAFKA_SSL: "off",
    DRAIN_DELAY_MS: 0,
    DRAIN_MS: 10_000,
    OTEL_SDK_DISABLED: false,
    OTEL_SERVICE_NAME: "coupon-service",
    OTEL_TRACES_SAMPLER: "parentbased_always_on",
    OTEL_TRACES_SAMPLER_ARG: 1,
    OTEL_BSP_SCHEDULE_DELAY: 5_000,
    OTEL_BSP_MAX_QUEUE_SIZE: 2_048,
    LOG_USER_IDS: "plain",
    LOG_LEVEL: "info",
    EXIT_ON_STDIN_CLOSE: false,
  });
});

test("an empty variable counts as absent, and others are not looked at", () => {
  const environment = Object.fromEntries(settingNames.map((name) => [name, ""]));
  expect(readConfig({ ...environment, PATH: "/bin", NODE_ENV: "x" })).toEqual(readConfig({}));
});

test("everything can be set", () => {
  const environment = {
    DATABASE_URL: "postgres://anna:secret@one:5432,two/coupons?target_session_attrs=read-write",
    REDIS_URL: "rediss+sentinel://shop:secret@watch-1,watch-2:26380/coupons?db=2",
    REDIS_SENTINEL_USER: "watcher",
    REDIS_SENTINEL_PASSWORD: "secret",
    REDIS_TLS_CA_FILE: "test/support/tls/ca.pem",
    REDIS_TLS_CERT_FILE: "test/support/tls/server.pem",
    REDIS_TLS_KEY_FILE: "test/support/tls/server-key.pem",
    REDIS_KEY_PREFIX: "shop-1:coupon",
    HOST: "::1",
    AUTH: "keys,certificates",
    JWT_ISSUER: "https://issuer.test",
    JWT_AUDIENCE: "coupons",
    JWT_JWKS_URL: "https://issuer.test/jwks",
    JWT_JWKS_FILE: "jwks.json",
    JWT_ALGORITHMS: "PS512,ES384",
    JWT_CLOCK_TOLERANCE_S: "0",
    JWT_SCOPES_CLAIM: "permissions",
    JWT_USER_CLAIM: "user_id",
    AUTH_CERTIFICATES_FILE: "callers.json",
    TLS_CERT_FILE: "server.crt",
    TLS_KEY_FILE: "server.key",
    TLS_CLIENT_CA_FILE: "clients.crt",
    TLS_MIN_VERSION: "1.3",
    ADMIN_PORT: "9090",
    ADMIN_HOST: "::1",
    CORS_ORIGINS: "https://shop.example,http://localhost:5173",
    REFLECTION: "off",
    CONSOLE: "off",
    DOCS: "off",
    CALLER_LIMITS: "off",
    MAX_WRONG_CODES: "0",
    GRPC_PORT: "0",
    HTTP_PORT: "65535",
    DATA_DIR: "data",
    MIGRATE: "check",
    DATABASE_DURABILITY: "off",
    DATABASE_START_WAIT_MS: "1000",
    DATABASE_POOL_SIZE: "4",
    MAX_IN_FLIGHT: "1",
    MAX_WATCHERS: "1",
    DEFAULT_DEADLINE_MS: "100",
    MAX_DEADLINE_MS: "600000",
    RESERVATION_MS: "60000",
    QUOTA_TIME_ZONE: "Asia/Singapore",
    PURGE: "dry-run",
    PURGE_AFTER_DAYS: "3650",
    PURGE_EVERY_MINUTES: "10080",
    DELETED_CODES_KEEP_HOURS: "0",
    EVENTS_KEEP_DAYS: "0",
    AUDIT_KEEP_DAYS: "1000",
    KAFKA_BROKERS: "one:9092,two,[::1]:9093",
    KAFKA_TOPIC: "shop.coupon-events_1",
    KAFKA_FORMAT: "json",
    KAFKA_FROM: "now",
    KAFKA_SOURCE: "https://shop.example/coupons",
    KAFKA_SSL: "on",
    KAFKA_SSL_CA_FILE: "test/support/tls/ca.pem",
    KAFKA_SSL_CERT_FILE: "test/support/tls/server.pem",
    KAFKA_SSL_KEY_FILE: "test/support/tls/server-key.pem",
    KAFKA_SASL_MECHANISM: "SCRAM-SHA-512",
    KAFKA_USERNAME: "shop",
    KAFKA_PASSWORD: "secret",
    DRAIN_DELAY_MS: "5000",
    DRAIN_MS: "0",
    OTEL_SDK_DISABLED: "true",
    OTEL_SERVICE_NAME: "coupons",
    OTEL_RESOURCE_ATTRIBUTES: "deployment.environment.name=production",
    OTEL_TRACES_EXPORTER: "console",
    OTEL_EXPORTER_OTLP_ENDPOINT: "http://collector:4318",
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "https://collector/traces",
    OTEL_EXPORTER_OTLP_PROTOCOL: "http/protobuf",
    OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: "http/protobuf",
    OTEL_EXPORTER_OTLP_HEADERS: "authorization=Bearer%20one",
    OTEL_TRACES_SAMPLER: "traceidratio",
    OTEL_TRACES_SAMPLER_ARG: "0.25",
    OTEL_BSP_SCHEDULE_DELAY: "10",
    OTEL_BSP_MAX_QUEUE_SIZE: "100000",
    METRICS_COUPONS: "100",
    LOG_USER_IDS: "hashed",
    LOG_USER_IDS_KEY: "sixteen letters or more",
    LOG_LEVEL: "silent",
    EXIT_ON_STDIN_CLOSE: "true",
  };
  expect([...Object.keys(environment), ...secretNames.map((name) => `${name}_FILE`)].sort()).toEqual(
    [...settingNames].sort(),
  );
  const config = readConfig(environment);
  const texts = Object.entries(config).map(([name, value]) => [
    name,
    value instanceof Secret ? value.reveal() : String(value),
  ]);
  expect(Object.fromEntries(texts)).toEqual(environment);
});

describe("a wrong variable is named", () => {
  test.for([
    ["DATABASE_URL", "mysql://db/coupons"],
    ["DATABASE_URL", "db"],
    ["DATABASE_URL", "postgres://one,two/coupons?target_session_attrs=standby"],
    ["REDIS_KEY_PREFIX", "{coupon}"],
    ["REDIS_KEY_PREFIX", "a b"],
    ["REDIS_KEY_PREFIX", "x".repeat(65)],
    ["CALLER_LIMITS", "issue"],
    ["CALLER_LIMITS", "issue=5/0"],
    ["KAFKA_BROKERS", "one:9092,"],
    ["KAFKA_BROKERS", "kafka://one:9092"],
    ["KAFKA_BROKERS", "one:0"],
    ["KAFKA_BROKERS", "one:65536"],
    ["KAFKA_BROKERS", Array(33).fill("one").join()],
    ["MAX_WRONG_CODES", "-1"],
    ["MAX_WRONG_CODES", "1001"],
    ["GRPC_PORT", "65536"],
    ["GRPC_PORT", "-1"],
    ["GRPC_PORT", "http"],
    ["ADMIN_PORT", "65536"],
    ["ADMIN_HOST", "::1"],
    ["TLS_MIN_VERSION", "1.1"],
    ["TLS_CLIENT_CA_FILE", "clients.crt"],
    ["AUTH_CERTIFICATES_FILE", "callers.json"],
    ["REFLECTION", "yes"],
    ["CONSOLE", "yes"],
    ["DOCS", "yes"],
    ["CORS_ORIGINS", "shop.example"],
    ["CORS_ORIGINS", "https://shop.example/"],
    ["CORS_ORIGINS", "https://shop.example,*"],
    ["CORS_ORIGINS", "null"],
    ["CORS_ORIGINS", Array(101).fill("https://shop.example").join()],
    ["HTTP_PORT", "80.5"],
    ["JWT_JWKS_URL", "http://issuer.test/jwks"],
    ["JWT_JWKS_URL", "https://anna:secret@issuer.test/jwks"],
    ["JWT_JWKS_URL", "issuer.test"],
    ["JWT_ALGORITHMS", "HS256"],
    ["JWT_ALGORITHMS", "ES256,none"],
    ["JWT_ALGORITHMS", "es256"],
    ["JWT_CLOCK_TOLERANCE_S", "61"],
    ["JWT_CLOCK_TOLERANCE_S", "-1"],
    ["JWT_SCOPES_CLAIM", "x".repeat(129)],
    ["MIGRATE", "yes"],
    ["DATABASE_DURABILITY", "on"],
    ["DATABASE_START_WAIT_MS", "999"],
    ["DATABASE_START_WAIT_MS", "600001"],
    ["DATABASE_POOL_SIZE", "3"],
    ["DATABASE_POOL_SIZE", "201"],
    ["MAX_IN_FLIGHT", "0"],
    ["MAX_IN_FLIGHT", "Infinity"],
    ["DEFAULT_DEADLINE_MS", "99"],
    ["MAX_DEADLINE_MS", "600001"],
    ["RESERVATION_MS", "999"],
    ["RESERVATION_MS", "5s"],
    ["PURGE", "maybe"],
    ["PURGE_AFTER_DAYS", "0"],
    ["PURGE_AFTER_DAYS", "3651"],
    ["PURGE_EVERY_MINUTES", "0"],
    ["PURGE_EVERY_MINUTES", "10081"],
    ["DELETED_CODES_KEEP_HOURS", "-1"],
    ["DELETED_CODES_KEEP_HOURS", "87601"],
    ["EVENTS_KEEP_DAYS", "-1"],
    ["EVENTS_KEEP_DAYS", "36501"],
    ["AUDIT_KEEP_DAYS", "-1"],
    ["AUDIT_KEEP_DAYS", "36501"],
    ["QUOTA_TIME_ZONE", "Mars/Olympus"],
    ["QUOTA_TIME_ZONE", "JST-9"],
    ["QUOTA_TIME_ZONE", "+05:30"],
    ["DRAIN_MS", "-1"],
    ["DRAIN_MS", "NaN"],
    ["DRAIN_MS", " "],
    ["MAX_WRONG_CODES", " "],
    ["ADMIN_PORT", "\t"],
    ["AUDIT_KEEP_DAYS", " \n"],
    ["LOG_LEVEL", "loud"],
    ["EXIT_ON_STDIN_CLOSE", "perhaps"],
  ])("%s=%s", ([name, value]) => {
    expect(namedBy({ [name as string]: value as string })).toEqual([name]);
  });

  test("REDIS_URL with another protocol", () => {
    expect(namedBy({ DATABASE_URL: databaseUrl, REDIS_URL: "http://cache" })).toEqual(["REDIS_URL"]);
  });

  test("REDIS_URL without DATABASE_URL", () => {
    expect(namedBy({ REDIS_URL: "redis://cache" })).toEqual(["REDIS_URL"]);
    expect(namedBy({ REDIS_URL: "redis://cache", DATABASE_URL: "" })).toEqual(["REDIS_URL"]);
    expect(namedBy({ REDIS_URL: "redis://cache", DATABASE_URL: databaseUrl })).toEqual([]);
  });

  test("what belongs to REDIS_URL without it, or without what it needs of it", () => {
    expect(namedBy({ REDIS_TLS_CA_FILE: "ca.pem", REDIS_SENTINEL_USER: "watcher" })).toEqual([
      "REDIS_SENTINEL_USER",
      "REDIS_TLS_CA_FILE",
    ]);
    const urls = { DATABASE_URL: databaseUrl, REDIS_URL: "redis+cluster://a,b" };
    expect(namedBy({ ...urls, REDIS_SENTINEL_PASSWORD: "secret" })).toEqual(["REDIS_SENTINEL_PASSWORD"]);
    expect(namedBy({ ...urls, REDIS_TLS_CA_FILE: "ca.pem" })).toEqual(["REDIS_TLS_CA_FILE"]);
  });

  test("what JWTs are held against must be said when they are asked for", () => {
    const jwt = { AUTH: "jwt", JWT_ISSUER: "a", JWT_AUDIENCE: "b" };
    expect(namedBy({ AUTH: "keys,jwt" })).toEqual(["JWT_ISSUER", "JWT_AUDIENCE", "JWT_JWKS_URL"]);
    expect(namedBy(jwt)).toEqual(["JWT_JWKS_URL"]);
    expect(namedBy({ ...jwt, JWT_JWKS_URL: "http://[::1]:80/", JWT_JWKS_FILE: "c" })).toEqual(["JWT_JWKS_URL"]);
    expect(namedBy({ ...jwt, JWT_JWKS_URL: "http://127.0.0.1:80/" })).toEqual([]);
    expect(namedBy({ ...jwt, JWT_JWKS_FILE: "c" })).toEqual([]);
  });

  test.for([
    [{ TLS_CERT_FILE: "server.crt" }, ["TLS_KEY_FILE"]],
    [{ TLS_KEY_FILE: "server.key" }, ["TLS_CERT_FILE"]],
    [{ AUTH: "keys,certificates" }, ["TLS_CERT_FILE", "TLS_CLIENT_CA_FILE", "AUTH_CERTIFICATES_FILE"]],
  ] as const)("what one needs of others: %o", ([settings, expected]) => {
    expect(namedBy(settings)).toEqual(expected);
  });

  test("with every other one that is wrong", () => {
    const wrong = { GRPC_PORT: "x", HTTP_PORT: "x", LOG_LEVEL: "x", DRAIN_MS: "x", DATABASE_URL: "x" };
    expect(namedBy({ ...wrong, MAX_IN_FLIGHT: "5" }).sort()).toEqual(Object.keys(wrong).sort());
  });

  test("and a port that both front ends would have, unless the system chooses it", () => {
    expect(namedBy({ GRPC_PORT: "9000", HTTP_PORT: "9000" })).toEqual(["HTTP_PORT"]);
    expect(namedBy({ ADMIN_PORT: "8080" })).toEqual(["ADMIN_PORT"]);
    expect(namedBy({ ADMIN_PORT: "9000", GRPC_PORT: "9000" })).toEqual(["ADMIN_PORT"]);
    expect(namedBy({ ADMIN_PORT: "8080", ADMIN_HOST: "127.0.0.2" })).toEqual([]);
    expect(namedBy({ ADMIN_PORT: "0", GRPC_PORT: "0", HTTP_PORT: "0" })).toEqual([]);
    expect(readConfig({ GRPC_PORT: "0", HTTP_PORT: "0" })).toMatchObject({ GRPC_PORT: 0, HTTP_PORT: 0 });
  });

  test("and its value, which may be a password, is not told", () => {
    const read = () =>
      readConfig({ DATABASE_URL: "postgress://anna:secret@db/x", REDIS_URL: "redis+cluster://:secret@" });
    expect(read).toThrow(/DATABASE_URL.*\n.*REDIS_URL/);
    expect(read).not.toThrow(/secret/);
  });
});

test.for([
  [{}, "127.0.0.1"],
  [{ AUTH: "off" }, "0.0.0.0"],
  [{ AUTH: "keys , keys" }, "0.0.0.0"],
  [{ HOST: "::1" }, "::1"],
  [{ AUTH: "off", HOST: "10.0.0.1" }, "10.0.0.1"],
] as const)("without a word on who may call, only this machine may: %o", ([settings, host]) => {
  expect(hostOf(readConfig(settings))).toBe(host);
});

test.for([[{ HOST: "0.0.0.0" }], [{ AUTH: "none" }], [{ AUTH: "off,keys" }], [{ AUTH: "keys,,jwt" }]] as const)(
  "a start that leaves open who may call is refused, and AUTH is named: %o",
  ([settings]) => {
    expect(() => readConfig(settings)).toThrow(/AUTH: must/);
  },
);

describe("settings of Kafka that do not go together are named", () => {
  const tls = "test/support/tls";
  test.for<[Record<string, string>, string[]]>([
    [{ KAFKA_TOPIC: "t", KAFKA_PASSWORD: "secret" }, ["KAFKA_TOPIC", "KAFKA_PASSWORD"]],
    [{ KAFKA_BROKERS: "one", KAFKA_TOPIC: "a b" }, ["KAFKA_TOPIC"]],
    [{ KAFKA_BROKERS: "one", KAFKA_TOPIC: ".." }, ["KAFKA_TOPIC"]],
    [{ KAFKA_BROKERS: "one", KAFKA_SOURCE: "a b" }, ["KAFKA_SOURCE"]],
    [{ KAFKA_BROKERS: "one", KAFKA_USERNAME: "u", KAFKA_PASSWORD: "secret" }, ["KAFKA_USERNAME", "KAFKA_PASSWORD"]],
    [{ KAFKA_BROKERS: "one", KAFKA_SASL_MECHANISM: "PLAIN", KAFKA_USERNAME: "u" }, ["KAFKA_PASSWORD"]],
    [
      { KAFKA_BROKERS: "one", KAFKA_SASL_MECHANISM: "GSSAPI" },
      ["KAFKA_SASL_MECHANISM", "KAFKA_USERNAME", "KAFKA_PASSWORD"],
    ],
    [{ KAFKA_BROKERS: "one", KAFKA_SSL_CA_FILE: `${tls}/ca.pem` }, ["KAFKA_SSL_CA_FILE"]],
    [{ KAFKA_BROKERS: "one", KAFKA_SSL: "on", KAFKA_SSL_CA_FILE: `${tls}/none.pem` }, ["KAFKA_SSL_CA_FILE"]],
    [{ KAFKA_BROKERS: "one", KAFKA_SSL: "on", KAFKA_SSL_CERT_FILE: `${tls}/server.pem` }, ["KAFKA_SSL_KEY_FILE"]],
    [
      {
        ...{ KAFKA_BROKERS: "one", KAFKA_SSL: "on", KAFKA_SSL_CERT_FILE: `${tls}/server.pem` },
        KAFKA_SSL_KEY_FILE: `${tls}/ca.pem`,
      },
      ["KAFKA_SSL_KEY_FILE"],
    ],
  ])("%o", ([settings, named]) => {
    expect(namedBy(settings)).toEqual(named);
  });
});
