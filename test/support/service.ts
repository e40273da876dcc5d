import { Redis } from "ioredis";
import postgres, { type Sql } from "postgres";
import type { GrpcClient } from "./clients.js";
import { type Replica, type ReplicaProcess, type StoresOfReplica, startReplica, startShared } from "./replica.js";
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
export async function startReplicas<S extends Settings[]>(atEnd: AtEnd, stores: StoresOfReplica, ...settings: S) {
  return await startAll<S, Replica>(atEnd, settings, (one, place) => startShared(place, stores, one));
}

/** The same, each in a process of its own. */
export async function startProcesses<S extends Settings[]>(atEnd: AtEnd, stores: StoresOfReplica, ...settings: S) {
  return await startAll<S, ReplicaProcess>(atEnd, settings, (one) => startReplica(stores, one));
}

async function startAll<S extends Settings[], R extends Replica>(
  atEnd: AtEnd,
  settings: S,
  start: (settings: Settings, place: number) => Promise<R>,
): Promise<{ [K in keyof S]: R }> {
  const replicas = await Promise.all(settings.map(start));
  atEnd(async () => void (await Promise.all(replicas.map((replica) => replica.stop()))));
  return replicas as { [K in keyof S]: R };
}

export async function oneReplica(atEnd: AtEnd, settings: Settings = {}): Promise<Backing & { replica: Replica }> {
  const around = await backing(atEnd);
  const [replica] = await startReplicas(atEnd, around.stores, settings);
  return { ...around, replica };
}

export interface TwoReplicas<R extends Replica = Replica> extends Backing {
  readonly replicas: readonly [R, R];
  readonly clients: readonly [GrpcClient, GrpcClient];
}

export async function twoReplicas(atEnd: AtEnd, of: { redisUrl?: string } = {}): Promise<TwoReplicas> {
  const around = await backing(atEnd, of);
  return withClients(around, await startReplicas(atEnd, around.stores, {}, {}));
}

/** The same, each in a process of its own. */
export async function twoProcesses(atEnd: AtEnd, of: { redisUrl?: string } = {}): Promise<TwoReplicas<ReplicaProcess>> {
  const around = await backing(atEnd, of);
  return withClients(around, await startProcesses(atEnd, around.stores, {}, {}));
}

function withClients<R extends Replica>(around: Backing, replicas: readonly [R, R]): TwoReplicas<R> {
  return { ...around, replicas, clients: [replicas[0].client, replicas[1].client] };
}
