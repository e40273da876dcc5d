import { statfs } from "node:fs/promises";
import postgres, { type Sql } from "postgres";
import type { TestProject } from "vitest/node";
import { startEmbedded } from "../../embedded/embedded.js";
import { migrate } from "../../src/storage/postgres/migrating/migrate.js";
import { RedisCluster } from "./redis-cluster.js";

declare module "vitest" {
  export interface ProvidedContext {
    /** Of a server that this run started; its database `coupon_template` is migrated and must not be written to. */
    databaseUrl: string;
    redisUrl: string;
    /** In the full size of the tests (FAULT_SCALE) only. */
    redisCluster: { readonly url: string; readonly ports: readonly number[] } | null;
  }
}

/** One Postgres and one Redis for the whole run. Each file gets a database and a key prefix of its own in them. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const servers = await inMemory(() => startEmbedded());
  let cluster: RedisCluster | null = null;
  try {
    if (!servers.databaseUrl) throw new Error("no Postgres could be started");
    if (!servers.redisUrl) throw new Error(`the tests need a real Redis: ${servers.redisUnavailable}`);
    const admin = postgres(servers.databaseUrl, { max: 1, onnotice: () => {} });
    await admin`CREATE DATABASE coupon_template`;
    await hashPasswordOnce(admin, servers.databaseUrl);
    await admin.end();
    await migrate(withDatabase(servers.databaseUrl, "coupon_template"));
    project.provide("databaseUrl", servers.databaseUrl);
    project.provide("redisUrl", servers.redisUrl);
    cluster = process.env.FAULT_SCALE ? await RedisCluster.start() : null;
    project.provide("redisCluster", cluster && { url: cluster.url, ports: cluster.nodes.map(({ port }) => port) });
  } catch (error) {
    await servers.stop();
    throw error;
  }
  return async () => {
    await cluster?.close();
    await servers.stop();
  };
}

/** A run makes thousands of connections, and to hash the password 4,096 times takes each longer than all else that it does. */
async function hashPasswordOnce(admin: Sql, url: string): Promise<void> {
  const password = decodeURIComponent(new URL(url).password);
  await admin.begin(async (tx) => {
    await tx`SET LOCAL scram_iterations = 1`;
    await tx.unsafe(`ALTER ROLE CURRENT_USER PASSWORD '${password}'`);
  });
}

export function withDatabase(url: string, name: string): string {
  const changed = new URL(url);
  changed.pathname = `/${name}`;
  return changed.href;
}

/** Linux has it nearly everywhere; containers often have too little of it. */
const memoryFolder = "/dev/shm";
const tmpfsType = 0x01021994;
const enoughBytes = 4 * 1_024 ** 3;

/**
 * Has temporary data in memory where there is enough of it: each database that a test drops makes Postgres wait for the disk for half
 * a second, and a commit waits some milliseconds. All settings are those of any other Postgres, and no test outlives the machine.
 */
async function inMemory<T>(start: () => Promise<T>): Promise<T> {
  const found = await statfs(memoryFolder).catch(() => undefined);
  if (found?.type !== tmpfsType || found.bavail * found.bsize < enoughBytes) return await start();
  const { TMPDIR: before } = process.env;
  process.env.TMPDIR = memoryFolder;
  try {
    return await start();
  } finally {
    if (before === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = before;
  }
}
