import { randomUUID } from "node:crypto";
import postgres from "postgres";
import { inject } from "vitest";
import { searchPath } from "../../src/storage/postgres/migrating/release-functions.js";

export interface TestStores {
  readonly databaseUrl: string;
  readonly redisUrl: string;
  /** For RedisGate, and REDIS_KEY_PREFIX of a server. */
  readonly keyPrefix: string;
  drop(): Promise<void>;
}

/** A fresh database, cloned from the migrated template, and a key prefix of its own. */
export async function createStores(): Promise<TestStores> {
  const adminUrl = inject("databaseUrl");
  const name = `test_${randomUUID().replaceAll("-", "")}`;
  await asAdmin(
    adminUrl,
    `CREATE DATABASE ${name} TEMPLATE coupon_template`,
    // So that tests, too, find the service's functions.
    `ALTER DATABASE ${name} SET search_path = ${searchPath()}`,
  );
  const url = new URL(adminUrl);
  url.pathname = `/${name}`;
  return {
    databaseUrl: url.href,
    redisUrl: inject("redisUrl"),
    keyPrefix: name,
    drop: () => asAdmin(adminUrl, `DROP DATABASE ${name} WITH (FORCE)`),
  };
}

/** For all files of a worker: most begin with a database and end with dropping it. */
let admin: postgres.Sql | undefined;
/** Between two files; nobody ends it, and a worker has to end. */
const idleSeconds = 5;

async function asAdmin(url: string, ...statements: string[]): Promise<void> {
  admin ??= postgres(url, { max: 1, idle_timeout: idleSeconds, onnotice: () => {} });
  for (const statement of statements) await admin.unsafe(statement);
}
