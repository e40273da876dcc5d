import { z } from "zod";
import { type CallerLimits, readCallerLimits } from "./domain/caller-limits.js";
import { databaseServers } from "./platform/database-url.js";
import { timeZoneOf } from "./platform/quotas/quota-days.js";
import { redisServers, WrongRedisSetting } from "./platform/redis-servers.js";
import { kafkaProblems, readBrokers, saslMechanisms } from "./platform/relay/kafka-settings.js";
import { Secret } from "./platform/secrets/secret.js";
import { fileSettingOf, readSecretFiles } from "./platform/secrets/secret-files.js";
import { otelSettings, pairs } from "./platform/telemetry/settings.js";

/** A blank is no number; JavaScript takes it for 0, which turns off or keeps for ever what is set by it. */
const number = (least: number, most: number) =>
  z.string().regex(/\S/, "must be a number").transform(Number).pipe(z.number().int().min(least).max(most));
const port = number(0, 65_535);
const whole = (fallback: number, least: number, most: number) => number(least, most).default(fallback);

/** How callers may prove who they are. */
export const authWays = ["keys", "jwt", "certificates"] as const;
export type AuthWay = (typeof authWays)[number];

/** `off`, or one or several ways. */
const auth = z
  .string()
  .transform((text) => text.split(",").map((way) => way.trim()))
  .refine(
    (ways) => ways.join() === "off" || ways.every((way) => (authWays as readonly string[]).includes(way)),
    `must be off, or some of ${authWays.join(", ")}, with commas between`,
  )
  .transform((ways): readonly AuthWay[] => (ways.join() === "off" ? [] : (ways as AuthWay[])));

/** What tokens may be signed with. A secret that both sides know is none: whoever verifies could sign. */
const algorithms = [
  "ES256",
  "ES384",
  "ES512",
  "RS256",
  "RS384",
  "RS512",
  "PS256",
  "PS384",
  "PS512",
  "EdDSA",
  "Ed25519",
];

const jwtAlgorithms = z
  .string()
  .default("ES256,RS256,EdDSA")
  .transform((text): readonly string[] => text.split(",").map((name) => name.trim()))
  .refine((names) => names.every((name) => algorithms.includes(name)), `must be some of ${algorithms.join(", ")}`);

const claimName = z.string().max(128, "must be the name of a claim, 128 characters at most");
const origin = (text: string) => {
  try {
    return /^https?:/.test(text) && new URL(text).origin === text;
  } catch {
    return false;
  }
};
const maxOrigins = 100;

/** `*` alone, or exact origins. */
const origins = z
  .string()
  .transform((text) => text.split(",").map((one) => one.trim()))
  .refine(
    (all) => all.join() === "*" || (all.length <= maxOrigins && all.every(origin)),
    `must be * or up to ${maxOrigins} origins as browsers send them (https://shop.example, without a path), with commas between`,
  );

/** `off`: nobody is limited. */
const callerLimits = z.string().transform((text, context): CallerLimits | "off" => {
  if (text === "off") return text;
  const limits = readCallerLimits(text);
  if (typeof limits !== "string") return limits;
  context.addIssue({ code: "custom", message: `${limits}; or be off` });
  return z.NEVER;
});

const loopback = /^(localhost|127(\.\d{1,3}){3}|::1)$/;

const secretMark = z.registry<{ secret: true }>();

/**
 * A setting that is a secret, or has one in it: it is not shown by mistake, it does not stay in the environment, and a setting
 * of its name with _FILE behind it names a file that has its value.
 */
const secret = (text: z.ZodString = z.string()) =>
  text
    .transform((value) => new Secret(value))
    .optional()
    .register(secretMark, { secret: true });

const databaseUrl = z.string().check(({ value, issues }) => {
  try {
    databaseServers(value);
  } catch (error) {
    // The value stays out of it: there may be a password in it.
    issues.push({ code: "custom", message: (error as Error).message, input: undefined });
  }
});

/** Whoever could change the keys on their way could sign for anybody. */
function isSafeToTrust(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const url = new URL(text);
  if (url.username || url.password) return false;
  return url.protocol === "https:" || (url.protocol === "http:" && loopback.test(url.hostname.replace(/^\[|\]$/g, "")));
}

/** Every setting is an environment variable. docs/configuration.md lists them; a test compares the two. */
const schema = z.object({
  DATABASE_URL: secret(databaseUrl),
  REDIS_URL: secret(),
  REDIS_SENTINEL_USER: z.string().optional(),
  REDIS_SENTINEL_PASSWORD: secret(),
  REDIS_TLS_CA_FILE: z.string().optional(),
  REDIS_TLS_CERT_FILE: z.string().optional(),
  REDIS_TLS_KEY_FILE: z.string().optional(),
  REDIS_KEY_PREFIX: z
    .string()
    .regex(/^[\w:.-]{1,64}$/, "must be 1 to 64 letters, digits, _ : . -")
    .default("coupon"),
  HOST: z.string().min(1).optional(),
  AUTH: auth.optional(),
  JWT_ISSUER: z.string().max(1_000).optional(),
  JWT_AUDIENCE: z.string().max(1_000).optional(),
  JWT_JWKS_URL: z
    .string()
    .refine(isSafeToTrust, "must be https://..., or http://... of this machine, without a password")
    .optional(),
  JWT_JWKS_FILE: z.string().optional(),
  JWT_ALGORITHMS: jwtAlgorithms,
  JWT_CLOCK_TOLERANCE_S: whole(5, 0, 60),
  JWT_SCOPES_CLAIM: claimName.default("scope"),
  JWT_USER_CLAIM: claimName.optional(),
  AUTH_CERTIFICATES_FILE: z.string().min(1).optional(),
  TLS_CERT_FILE: z.string().min(1).optional(),
  TLS_KEY_FILE: z.string().min(1).optional(),
  TLS_CLIENT_CA_FILE: z.string().min(1).optional(),
  TLS_MIN_VERSION: z.enum(["1.2", "1.3"]).default("1.2"),
  CALLER_LIMITS: callerLimits.optional(),
  MAX_WRONG_CODES: number(0, 1_000).optional(),
  GRPC_PORT: port.default(50_051),
  HTTP_PORT: port.default(8_080),
  ADMIN_PORT: port.optional(),
  ADMIN_HOST: z.string().min(1).optional(),
  CORS_ORIGINS: origins.optional(),
  REFLECTION: z.enum(["on", "off"]).default("on"),
  CONSOLE: z.enum(["on", "off"]).default("on"),
  DOCS: z.enum(["on", "off"]).default("on"),
  DATA_DIR: z.string().min(1).optional(),
  MIGRATE: z.enum(["on", "check", "off"]).default("on"),
  DATABASE_DURABILITY: z.enum(["required", "off"]).default("required"),
  DATABASE_START_WAIT_MS: whole(30_000, 1_000, 600_000),
  DATABASE_POOL_SIZE: whole(12, 4, 200),
  MAX_IN_FLIGHT: whole(4_000, 1, 100_000),
  MAX_WATCHERS: whole(2_000, 0, 6_000),
  DEFAULT_DEADLINE_MS: whole(15_000, 100, 600_000),
  MAX_DEADLINE_MS: whole(30_000, 100, 600_000),
  RESERVATION_MS: whole(5_000, 1_000, 60_000),
  QUOTA_TIME_ZONE: z
    .string()
    .default("UTC")
    .transform(timeZoneOf)
    .pipe(z.string("must be a name of the IANA time zone database")),
  PURGE: z.enum(["on", "off", "dry-run"]).default("on"),
  PURGE_AFTER_DAYS: whole(30, 1, 3_650),
  PURGE_EVERY_MINUTES: whole(60, 1, 10_080),
  DELETED_CODES_KEEP_HOURS: whole(24, 0, 87_600),
  EVENTS_KEEP_DAYS: whole(400, 0, 36_500),
  AUDIT_KEEP_DAYS: whole(800, 0, 36_500),
  KAFKA_BROKERS: z
    .string()
    .refine((text) => readBrokers(text) !== undefined, "must be host:port, up to 32 of them with commas between")
    .optional(),
  KAFKA_TOPIC: z
    .string()
    .regex(/^(?!\.{1,2}$)[\w.-]{1,249}$/, "must be 1 to 249 letters, digits, . _ -")
    .default("coupon.events"),
  KAFKA_FORMAT: z.enum(["protobuf", "json"]).default("protobuf"),
  KAFKA_FROM: z.enum(["beginning", "now"]).default("beginning"),
  KAFKA_SOURCE: z
    .string()
    .regex(/^[\w\-.~:/?#[\]@!$&'()*+,;=%]{1,256}$/, "must be a URI or a path of one, 256 characters at most")
    .default("/coupon-service"),
  KAFKA_SSL: z.enum(["on", "off"]).default("off"),
  KAFKA_SSL_CA_FILE: z.string().optional(),
  KAFKA_SSL_CERT_FILE: z.string().optional(),
  KAFKA_SSL_KEY_FILE: z.string().optional(),
  KAFKA_SASL_MECHANISM: z.enum(saslMechanisms).optional(),
  KAFKA_USERNAME: z.string().max(256).optional(),
  KAFKA_PASSWORD: secret(),
  DRAIN_DELAY_MS: whole(0, 0, 600_000),
  DRAIN_MS: whole(10_000, 0, 600_000),
  ...otelSettings.shape,
  OTEL_EXPORTER_OTLP_HEADERS: secret(pairs),
  METRICS_COUPONS: number(0, 100).optional(),
  LOG_USER_IDS: z.enum(["plain", "hashed"]).default("plain"),
  LOG_USER_IDS_KEY: secret(z.string().min(16, "must have at least 16 characters").max(1_000)),
  LOG_LEVEL: z.enum(["trace", "debug", "info", "warn", "error", "fatal", "silent"]).default("info"),
  EXIT_ON_STDIN_CLOSE: z.stringbool().default(false),
});

export type Config = z.infer<typeof schema>;

/** Those of which each may be in a file. */
export const secretNames = Object.entries(schema.shape).flatMap(([name, type]) => (secretMark.has(type) ? [name] : []));

export const settingNames = [...Object.keys(schema.shape), ...secretNames.map(fileSettingOf)];

/** A setting that is wrong, and so the start is refused. */
export class WrongSetting extends Error {
  override readonly name = "WrongSetting";

  constructor(lines: readonly string[]) {
    super(["these settings are wrong:", ...lines.map((line) => `  ${line}`)].join("\n"));
  }
}

/** Throws an error that names every variable that is wrong, and tells no value. Empty variables count as absent. */
export function readConfig(environment: NodeJS.ProcessEnv): Config {
  const set = Object.fromEntries(
    settingNames.flatMap((name) => (environment[name] ? [[name, environment[name]] as const] : [])),
  );
  const { given, names, problems } = readSecretFiles(set, secretNames);
  const result = schema.safeParse(given);
  const found = (result.error?.issues ?? []).map((issue) => `${issue.path.join(".")}: ${issue.message}`);
  // Not of a URL that could not be read.
  if (problems.length === 0) found.push(...redisProblems(given));
  found.push(...jwtProblems(given), ...tlsProblems(given), ...kafkaProblems(given));
  if (given.LOG_USER_IDS === "hashed" && !given.LOG_USER_IDS_KEY)
    found.push("LOG_USER_IDS_KEY: must be set for LOG_USER_IDS=hashed");
  const { GRPC_PORT, HTTP_PORT, ADMIN_PORT, ADMIN_HOST } = result.data ?? {};
  if (GRPC_PORT && GRPC_PORT === HTTP_PORT) found.push("HTTP_PORT: must be another one than GRPC_PORT");
  if (ADMIN_PORT && !ADMIN_HOST && (ADMIN_PORT === GRPC_PORT || ADMIN_PORT === HTTP_PORT))
    found.push("ADMIN_PORT: must be another one than GRPC_PORT and HTTP_PORT");
  // As they were given: what is wrong may be in a file.
  const lines = [...problems, ...found.map((line) => line.replace(/^\w+/, (name) => names.get(name) ?? name))];
  if (!result.success || lines.length > 0) throw new WrongSetting(lines);
  const { AUTH, HOST } = result.data;
  if (AUTH === undefined && HOST !== undefined && !loopback.test(HOST)) {
    throw new WrongSetting([
      "AUTH: must say who may call, for HOST lets others than this machine call; AUTH=off asks nobody",
    ]);
  }
  return result.data;
}

/** Where the service listens: unless it is said who may call, only this machine may. */
export function hostOf({ HOST, AUTH }: Pick<Config, "HOST" | "AUTH">): string {
  return HOST ?? (AUTH === undefined ? "127.0.0.1" : "0.0.0.0");
}

function redisProblems(given: Record<string, string | undefined>): string[] {
  const { REDIS_URL } = given;
  if (!REDIS_URL) {
    const without = settingNames.filter((name) => /^REDIS_(SENTINEL|TLS)_/.test(name) && given[name]);
    return without.map((name) => `${name}: needs REDIS_URL`);
  }
  try {
    redisServers({ ...given, REDIS_URL });
  } catch (error) {
    if (!(error instanceof WrongRedisSetting)) throw error;
    return [`${error.setting}: ${error.message}`];
  }
  return given.DATABASE_URL ? [] : ["REDIS_URL: needs DATABASE_URL; without it the service brings both servers"];
}

function jwtProblems(given: Record<string, string | undefined>): string[] {
  if (!/(^|,)\s*jwt\s*(,|$)/.test(given.AUTH ?? "")) return [];
  const missing = ["JWT_ISSUER", "JWT_AUDIENCE"].filter((name) => !given[name]);
  const lines = missing.map((name) => `${name}: must be set for AUTH=jwt`);
  if (!given.JWT_JWKS_URL === !given.JWT_JWKS_FILE)
    lines.push("JWT_JWKS_URL: must be set for AUTH=jwt, or else JWT_JWKS_FILE; not both");
  return lines;
}

function tlsProblems(given: Record<string, string | undefined>): string[] {
  const asksClients = /(^|,)\s*certificates\s*(,|$)/.test(given.AUTH ?? "");
  const problems: string[] = [];
  const need = (name: string, why: string) => given[name] || problems.push(`${name}: must be set ${why}`);
  const noUse = (name: string, why: string) => given[name] && problems.push(`${name}: is of use only ${why}`);
  if (asksClients || given.TLS_KEY_FILE) need("TLS_CERT_FILE", "for TLS_KEY_FILE, and for AUTH=certificates");
  if (given.TLS_CERT_FILE) need("TLS_KEY_FILE", "for TLS_CERT_FILE");
  for (const name of ["TLS_CLIENT_CA_FILE", "AUTH_CERTIFICATES_FILE"]) {
    if (asksClients) need(name, "for AUTH=certificates");
    else noUse(name, "with certificates in AUTH");
  }
  if (!given.ADMIN_PORT) noUse("ADMIN_HOST", "with ADMIN_PORT");
  return problems;
}
