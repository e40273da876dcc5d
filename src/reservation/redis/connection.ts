import { Cluster, type CommonRedisOptions, Redis } from "ioredis";
import type { RedisServers } from "../../platform/redis-servers.js";
import { within } from "../../platform/within.js";

/** A reply that takes longer is not waited for: Postgres can answer by then. */
const commandTimeoutMs = 500;
/** A server that has been asked and says nothing for so long is left: another one may have taken its place. */
const silenceMs = 2_000;
const connectTimeoutMs = 1_000;
const longestReconnectPauseMs = 500;
/** From a node that has a slot no more to the one that has it, on to the one that it moves to, and each once again. */
const maxRedirections = 4;
/** Who serves which slot is asked after each MOVED anyway. */
const slotsRefreshMs = 10_000;
const slotsTimeoutMs = 1_000;

const reconnectPauseMs = (attempt: number) => Math.min(attempt * 50, longestReconnectPauseMs);

/** What all kinds of Redis have in common. A Cluster has no database but 0, and hands each command to the node of its key. */
export type Commands = Pick<Redis, "defineCommand" | "unlink" | "zadd" | "zrange" | "hset" | "pexpire" | "call">;

export interface Connection {
  readonly commands: Commands;
  /** Whether a server may be away while others answer. */
  readonly isCluster: boolean;
  /** Resolves when it is up; false when it is not within the time that a connection may take. */
  ready(): Promise<boolean>;
  close(): void;
}

/**
 * Fails at once instead of waiting. Commands are never queued while Redis is away and never sent a second time when the reply
 * is missing: a resent script would take stock twice. A redirection is followed, for what is redirected was not done.
 */
export function openConnection(
  servers: RedisServers,
  onError: (error: unknown) => void,
  patienceMs = commandTimeoutMs,
): Connection {
  const common = optionsOf(servers, patienceMs);
  return servers.kind === "cluster" ? openCluster(servers, common, onError) : openServer(servers, common, onError);
}

type CommonOptions = ReturnType<typeof optionsOf>;

function optionsOf({ user, password, tls }: RedisServers, commandTimeout: number) {
  return {
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    enableOfflineQueue: false,
    commandTimeout,
    connectTimeout: connectTimeoutMs,
    // Nobody needs to be allowed a command more for what only says which library this is.
    disableClientInfo: true,
    socketTimeout: silenceMs,
    // It was a master and is none any more, and keeps the connection: look who is. What it refused is not sent again.
    reconnectOnError: (error: Error) => /\bREADONLY\b/.test(error.message),
    ...(user !== undefined && { username: user }),
    ...(password !== undefined && { password }),
    ...(tls && { tls }),
  } satisfies CommonRedisOptions;
}

function openServer(servers: RedisServers, common: CommonOptions, onError: (error: unknown) => void): Connection {
  const { kind, hosts, masterName, db, sentinelUser, sentinelPassword, tls } = servers;
  const redis = new Redis({
    ...common,
    db,
    retryStrategy: reconnectPauseMs,
    ...(kind === "server" && hosts[0]),
    ...(kind === "sentinel" && {
      sentinels: hosts.map((host) => ({ ...host })),
      name: masterName,
      sentinelCommandTimeout: commandTimeoutMs,
      sentinelRetryStrategy: reconnectPauseMs,
      ...(sentinelUser !== undefined && { sentinelUsername: sentinelUser }),
      ...(sentinelPassword !== undefined && { sentinelPassword }),
      ...(tls && { sentinelTLS: tls, enableTLSForSentinelMode: true }),
    }),
  });
  redis.on("error", onError);
  return {
    commands: redis,
    isCluster: false,
    ready: () => within(isUp(redis), connectTimeoutMs, () => false),
    close: () => redis.disconnect(),
  };
}

function openCluster(servers: RedisServers, common: CommonOptions, onError: (error: unknown) => void): Connection {
  const cluster = new Cluster(
    servers.hosts.map((host) => ({ ...host })),
    {
      redisOptions: common,
      enableOfflineQueue: false,
      // A Cluster that is not whole serves what it can, and refuses the rest itself.
      enableReadyCheck: false,
      scaleReads: "master",
      maxRedirections,
      // A connection that was lost may have carried what was done: by default, it would be sent again.
      retryDelayOnFailover: 0,
      // Postgres answers sooner than a slot finds a master.
      retryDelayOnClusterDown: 0,
      slotsRefreshTimeout: slotsTimeoutMs,
      clusterRetryStrategy: reconnectPauseMs,
      // Names stay names, which certificates are made out to.
      dnsLookup: (name, found) => found(null, name),
    },
  );
  // Before it is asked: what it is asked while it connects would wait, and be sent when nobody waits for it any more.
  cluster.on("+node", (node: Redis) => void node.connect().catch(() => {}));
  cluster.on("node error", onError);
  cluster.on("error", onError);
  // A server that went silent tells nobody that another one has its slots.
  const refreshing = setInterval(() => cluster.refreshSlotsCache(), slotsRefreshMs).unref();
  return {
    // The types of the two differ only in what we do not use.
    commands: cluster as unknown as Commands,
    isCluster: true,
    ready: () =>
      within(
        isUp(cluster).then(() => Promise.all(cluster.nodes("master").map(isUp))),
        // To the node that says who the others are, and to these.
        2 * connectTimeoutMs,
        () => [],
      ).then((masters) => masters.length > 0),
    close: () => {
      clearInterval(refreshing);
      cluster.disconnect();
    },
  };
}

function isUp(redis: Redis | Cluster): Promise<true> {
  if (redis.status === "ready") return Promise.resolve(true);
  return new Promise((resolve) => void redis.once("ready", () => resolve(true)));
}

/**
 * An error as it may be reported. ioredis puts what it had sent into its errors: passwords, ids of users, whole scripts.
 */
export function withoutArguments(error: unknown): Error {
  if (!(error instanceof Error)) return new Error(String(error));
  const { name, message, stack, cause, code, lastNodeError } = error as Error & {
    code?: string;
    lastNodeError?: Error;
  };
  const inner = lastNodeError ?? cause;
  const told = new Error(message, inner === undefined ? {} : { cause: withoutArguments(inner) });
  return Object.assign(told, { name, ...(stack !== undefined && { stack }), ...(code !== undefined && { code }) });
}
