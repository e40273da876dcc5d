import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { packageRoot } from "../../src/platform/package-root.js";
import {
  type RedisServers,
  type RedisSettings,
  redisServers,
  WrongRedisSetting,
} from "../../src/platform/redis-servers.js";

const inTls = (file: string) => join(packageRoot(), "test/support/tls", file);
const ca = inTls("ca.pem");
const cert = inTls("server.pem");
const key = inTls("server-key.pem");

describe("a URL says", () => {
  const one = { kind: "server" as const, masterName: "", db: 0, user: undefined, password: undefined };
  test.for<[string, Partial<RedisServers>]>([
    ["redis://cache", { ...one, hosts: [{ host: "cache", port: 6_379 }] }],
    ["redis://cache:1/", { ...one, hosts: [{ host: "cache", port: 1 }] }],
    ["redis://127.0.0.1:65535/2", { ...one, hosts: [{ host: "127.0.0.1", port: 65_535 }], db: 2 }],
    ["redis://cache?db=15", { ...one, hosts: [{ host: "cache", port: 6_379 }], db: 15 }],
    ["redis://[::1]:7000/0", { ...one, hosts: [{ host: "::1", port: 7_000 }] }],
    ["redis://[fe80::1]", { ...one, hosts: [{ host: "fe80::1", port: 6_379 }] }],
    ["redis://:secret@cache", { user: undefined, password: "secret" }],
    ["redis://shop:se:cret@cache", { user: "shop", password: "se:cret" }],
    ["redis://sh%40p:p%40ss%3Aw%2Fr%23d%25@cache", { user: "sh@p", password: "p@ss:w/r#d%" }],
    ["redis://shop@cache", { user: "shop", password: "" }],
    ["redis://cache", { tls: undefined }],
    ["rediss://cache", { tls: {} }],
    [
      "redis+sentinel://a,b:1,c.example.com:26380/my%20master",
      {
        ...{ kind: "sentinel", masterName: "my master", db: 0 },
        hosts: [
          { host: "a", port: 26_379 },
          { host: "b", port: 1 },
          { host: "c.example.com", port: 26_380 },
        ],
      },
    ],
    ["rediss+sentinel://u:p@a/m?db=3", { masterName: "m", db: 3, user: "u", password: "p", tls: {} }],
    [
      "redis+cluster://[::1]:7000,b",
      {
        ...{ kind: "cluster", db: 0, masterName: "" },
        hosts: [
          { host: "::1", port: 7_000 },
          { host: "b", port: 6_379 },
        ],
      },
    ],
    ["rediss+cluster://a?db=0", { kind: "cluster", tls: {} }],
  ])("%s", ([url, expected]) => {
    expect(redisServers({ REDIS_URL: url })).toMatchObject(expected);
  });
});

test("passwords of Sentinels, and certificates, are settings of their own", () => {
  const settings = {
    REDIS_URL: "rediss+sentinel://a/m",
    ...{ REDIS_SENTINEL_USER: "watcher", REDIS_SENTINEL_PASSWORD: "p@ss" },
    ...{ REDIS_TLS_CA_FILE: ca, REDIS_TLS_CERT_FILE: cert, REDIS_TLS_KEY_FILE: key },
  };
  const { sentinelUser, sentinelPassword, tls } = redisServers(settings);
  expect({ sentinelUser, sentinelPassword }).toEqual({ sentinelUser: "watcher", sentinelPassword: "p@ss" });
  expect(Object.keys(tls ?? {})).toEqual(["ca", "cert", "key"]);
  for (const text of Object.values(tls ?? {})) expect(text).toMatch(/^-----BEGIN /);
});

/** The setting that is named as wrong. */
function wrongSetting(settings: RedisSettings & { REDIS_URL: string }): string | undefined {
  try {
    redisServers(settings);
    return undefined;
  } catch (error) {
    if (!(error instanceof WrongRedisSetting)) throw error;
    // Whatever is wrong with it, it may hold a password.
    for (const secret of ["secret", "hush"]) expect(error.message).not.toContain(secret);
    return error.setting;
  }
}

test.for([
  "secret",
  "http://secret",
  "redis:secret",
  "redis+sentinels://secret",
  "redis+cluster:/secret",
  "redis://",
  "redis://:secret@",
  "redis://:secret@/0",
  "redis://ho st",
  "redis://:secret@host:0",
  "redis://:secret@host:65536",
  "redis://:secret@host:secret",
  "redis://:sec/ret@host",
  "redis://:se%cret@host",
  "redis://host/secret",
  "redis://host/-1",
  "redis://host/123456",
  "redis://host/0/1",
  "redis://host/1?db=2",
  "redis://host?db=1&db=1",
  "redis://host?secret=hush",
  "redis://host/0#secret",
  "redis://secret,hush",
  "redis+cluster://",
  "redis+cluster://a,,b",
  "redis+cluster://a,",
  "redis+cluster://secret/1",
  "redis+cluster://secret?db=1",
  `redis+cluster://${Array.from({ length: 101 }, () => "secret")}`,
  "redis+sentinel://secret",
  "redis+sentinel://secret/",
  "redis+sentinel://secret/m?db=hush",
  "redis+sentinel://secret/m/0",
  "redis+sentinel://secret/%",
])("not a URL: %s", (url) => {
  expect(wrongSetting({ REDIS_URL: url })).toBe("REDIS_URL");
});

test.for<[keyof RedisSettings, RedisSettings & { REDIS_URL: string }]>([
  ["REDIS_SENTINEL_PASSWORD", { REDIS_URL: "redis://a", REDIS_SENTINEL_PASSWORD: "secret" }],
  ["REDIS_SENTINEL_PASSWORD", { REDIS_URL: "redis+cluster://a", REDIS_SENTINEL_PASSWORD: "secret" }],
  ["REDIS_SENTINEL_USER", { REDIS_URL: "redis+sentinel://a/m", REDIS_SENTINEL_USER: "secret" }],
  ["REDIS_TLS_CA_FILE", { REDIS_URL: "redis://a", REDIS_TLS_CA_FILE: ca }],
  ["REDIS_TLS_CA_FILE", { REDIS_URL: "rediss://a", REDIS_TLS_CA_FILE: `${ca}.not` }],
  ["REDIS_TLS_CA_FILE", { REDIS_URL: "rediss://a", REDIS_TLS_CA_FILE: inTls(".") }],
  ["REDIS_TLS_CERT_FILE", { REDIS_URL: "rediss://a", REDIS_TLS_CERT_FILE: key, REDIS_TLS_KEY_FILE: key }],
  ["REDIS_TLS_CERT_FILE", { REDIS_URL: "rediss://a", REDIS_TLS_CERT_FILE: cert }],
  ["REDIS_TLS_KEY_FILE", { REDIS_URL: "rediss://a", REDIS_TLS_KEY_FILE: key }],
  ["REDIS_TLS_KEY_FILE", { REDIS_URL: "rediss://a", REDIS_TLS_CERT_FILE: cert, REDIS_TLS_KEY_FILE: cert }],
])("%s is wrong with %j", ([setting, settings]) => {
  expect(wrongSetting(settings)).toBe(setting);
});
