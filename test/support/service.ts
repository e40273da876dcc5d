import { Redis } from "ioredis";
import postgres, { type Sql } from "postgres";
import type { GrpcClient } from "./clients.js";
import { type Replica, type StoresOfReplica, startReplica } from "./replica.js";
import { createStores, type TestStores } from "./stores.js";

/** Registers what is to be done at the end: `afterAll` for what a file shares, `onTestFinished` for what one test has. */
export type AtEnd = (act: () => Promise<void>) => void;

type Settings = Record<string, string>;

/** Stores of their own, and ways to look into them past the service. */
export interface Backing {
  readonly stores: TestStores;
  readonly sql: Sql;
  readonly redis: Redis;
}

export async function backing(atEnd: AtEnd, of: { redisUrl?: string } = {}): Promise<Backing> {
  const stores = { ...(await createStores()), ...of };
  atEnd(() => stores.drop());
  const sql = postgres(stores.databaseUrl, { max: 3, onnotice: () => {} });
  atEnd(() => sql.end({ timeout: 1 }));
  const redis = new Redis(stores.redisUrl, { lazyConnect: true });
  atEnd(async () => redis.disconnect());
  return { stores, sql, redis };
}

/** Starts one replica for each of the settings, all on the same stores. */
export async function startReplicas<S extends Settings[]>(
  atEnd: AtEnd,
  stores: StoresOfReplica,
  ...settings: S
): Promise<{ [K in keyof S]: Replica }> {
  const replicas = await Promise.all(settings.map((one) => startReplica(stores, one)));
  atEnd(async () => void (await Promise.all(replicas.map((replica) => replica.stop()))));
  return replicas as { [K in keyof S]: Replica };
}

export async function oneReplica(atEnd: AtEnd, settings: Settings = {}): Promise<Backing & { replica: Replica }> {
  const around = await backing(atEnd);
  const [replica] = await startReplicas(atEnd, around.stores, settings);
  return { ...around, replica };
}

export interface TwoReplicas extends Backing {
  readonly replicas: readonly [Replica, Replica];
  readonly clients: readonly [GrpcClient, GrpcClient];
}

export async function twoReplicas(atEnd: AtEnd, of: { redisUrl?: string } = {}): Promise<TwoReplicas> {
  const around = await backing(atEnd, of);
  const replicas = await startReplicas(atEnd, around.stores, {}, {});
  return { ...around, replicas, clients: [replicas[0].client, replicas[1].client] };
}
