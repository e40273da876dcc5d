import { StoreUnavailable } from "../../domain/refusal.js";
import { BoundedCache } from "../../platform/bounded-cache.js";
import { steadyMs } from "../../platform/clock.js";
import type { FailureLog } from "../../platform/failure-log.js";
import type { RedisServers } from "../../platform/redis-servers.js";
import { type Commands, type Connection, openConnection, withoutArguments } from "./connection.js";
import { type KeyOwner, Keys, slotTextOf } from "./keys.js";
import { type Script, scripts, sourceOf } from "./scripts.js";

/** After a command timed out, Redis is not asked again for this long, so that not every call waits for the timeout. */
const restAfterTimeoutMs = 500;
/** What has failed within this time is not over, though other things are answered: a Redis that is full still tells what it has. */
const calmMs = 5_000;
/** Slots of a Cluster that are not asked; of further ones each call waits for its timeout. */
const maxResting = 10_000;

export type RedisValue = string | number | Uint8Array;
type Command = (...args: RedisValue[]) => Promise<unknown>;

/**
 * How what is wrong with Redis itself begins, and not with what it was asked: it loads its data, is full, is a replica, is
 * another node than the one that is asked for, ... Redis 6 says first in which script it found that out.
 */
const awayReplies =
  /^(?:ERR Error running script .*: -)?(LOADING|BUSY|OOM|READONLY|MISCONF|MASTERDOWN|MOVED|ASK|CLUSTERDOWN|TRYAGAIN|NOREPLICAS|NOAUTH|WRONGPASS|NOPERM|UNKILLABLE)\b/;
/** As failures are reported: Redis does not answer; it answers that a script or a command of ours is wrong. */
const away = "ask redis; requests go straight to postgres";
const fault = "run a script in redis; requests go straight to postgres";

/** Asks Redis, and says in one way that it cannot be asked: StoreUnavailable. */
export class RedisClient {
  readonly keys: Keys;
  private readonly connection: Connection;
  private readonly commands = new Map<string, Command>();
  private readonly sources = new Map<string, string>();
  /** What has timed out, by slot of a Cluster: others are on other servers. A server alone rests as a whole. */
  private readonly resting = new BoundedCache<Error>(maxResting, { ttl: restAfterTimeoutMs });

  private hasAnswered = true;
  private lastFailureMs = Number.NEGATIVE_INFINITY;

  constructor(
    servers: RedisServers,
    keyPrefix: string,
    private readonly failures: Pick<FailureLog, "failed" | "succeeded">,
    patienceMs?: number,
  ) {
    this.keys = new Keys(keyPrefix);
    const onError = (error: unknown) => this.failures.failed(away, withoutArguments(error));
    this.connection = openConnection(servers, onError, patienceMs);
    const { commands } = this.connection;
    for (const script of Object.values(scripts)) {
      const lua = sourceOf(script);
      this.sources.set(script.name, lua);
      commands.defineCommand(script.name, { lua, numberOfKeys: script.keys.length });
      const command = (commands as unknown as Record<string, Command>)[script.name];
      if (command) this.commands.set(script.name, command.bind(commands));
    }
  }

  /** Resolves when the first connection is up; false when it is not within the time that a connection may take. */
  ready(): Promise<boolean> {
    return this.connection.ready();
  }

  run(script: Script, owner: KeyOwner, args: readonly RedisValue[]): Promise<unknown> {
    const command = this.commands.get(script.name) as Command;
    const keys = script.keys.map((name) => this.keys[name](owner));
    return this.guard(keys[0] as string, () => command(...keys, ...args), script);
  }

  /** Runs an ordinary command on a key, and on others of the same slot. */
  call<T>(key: string, command: (redis: Commands) => Promise<T>): Promise<T> {
    return this.guard(key, () => command(this.connection.commands));
  }

  /** Whether what was asked last, or anything within some seconds, had no answer. */
  get isAway(): boolean {
    return !this.hasAnswered || steadyMs() - this.lastFailureMs < calmMs;
  }

  close(): void {
    this.connection.close();
  }

  private async guard<T>(key: string, command: () => Promise<T>, script?: Script): Promise<T> {
    const slot = this.connection.isCluster ? slotTextOf(key) : "";
    const timedOut = this.resting.get(slot);
    if (timedOut) throw new StoreUnavailable("redis did not answer a moment ago", { cause: timedOut });
    try {
      const reply = await command();
      this.hasAnswered = true;
      this.failures.succeeded(away);
      this.failures.succeeded(fault);
      return reply;
    } catch (thrown) {
      const error = withoutArguments(thrown);
      if (script) error.message += missingRight(error.message, this.sources.get(script.name) as string);
      if (error.message.includes("timed out")) this.resting.set(slot, error);
      this.hasAnswered = false;
      this.lastFailureMs = steadyMs();
      const [, awayReply] = awayReplies.exec(error.message) ?? [];
      const isOurs = error.name === "ReplyError" && awayReply === undefined;
      // So that each is reported: when there is room again, it may be a replica.
      if (awayReply !== undefined) Object.assign(error, { code: awayReply });
      this.failures.failed(isOurs ? fault : away, error);
      // The answers do not change without Redis, so callers are served in both cases.
      throw new StoreUnavailable(`redis: ${error.message}`, { cause: error });
    }
  }
}

/** Of a right that a script has not, Redis before 7.2 says in which line it is missing, and not which one it is. */
export function missingRight(message: string, lua: string): string {
  if (!/can't run this command/.test(message)) return "";
  const [, line] = /@user_script: ?(\d+)/.exec(message) ?? [];
  const names = [...(lua.split("\n")[Number(line) - 1] ?? "").matchAll(/redis\.call\('(\w+)'/g)].map(
    ([, name]) => name,
  );
  return names.length > 0 ? ` (its Redis user lacks the right to ${names.join(" or ")})` : "";
}
