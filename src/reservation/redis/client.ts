import { Redis } from "ioredis";
import { StoreUnavailable } from "../../domain/refusal.js";
import { steadyMs } from "../../platform/clock.js";
import type { FailureLog } from "../../platform/failure-log.js";
import { within } from "../../platform/within.js";
import { type KeyOwner, Keys } from "./keys.js";
import { type Script, scripts, sourceOf } from "./scripts.js";

/** A reply that takes longer is not waited for: Postgres can answer by then. */
const commandTimeoutMs = 500;
const connectTimeoutMs = 1_000;
const longestReconnectPauseMs = 500;
/** After a command timed out, Redis is not asked again for this long, so that not every call waits for the timeout. */
const restAfterTimeoutMs = 500;

type Command = (...args: (string | number)[]) => Promise<unknown>;

/** How what is wrong with Redis itself begins, and not with what it was asked: it loads its data, is full, is a replica, ... */
const awayReplies =
  /^(LOADING|BUSY|OOM|READONLY|MISCONF|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|NOREPLICAS|NOAUTH|WRONGPASS|NOPERM|UNKILLABLE)\b/;
/** As failures are reported: Redis does not answer; it answers that a script or a command of ours is wrong. */
const away = "ask redis; requests go straight to postgres";
const fault = "run a script in redis; requests go straight to postgres";

/**
 * A connection that fails at once instead of waiting. Commands are never queued while Redis is away and never sent a
 * second time: a resent script would take stock twice.
 */
export class RedisClient {
  readonly keys: Keys;
  private readonly redis: Redis;
  private readonly commands = new Map<string, Command>();
  private restUntilMs = 0;
  private timedOut: unknown;

  constructor(
    url: string,
    keyPrefix: string,
    private readonly failures: Pick<FailureLog, "failed" | "succeeded">,
  ) {
    this.keys = new Keys(keyPrefix);
    this.redis = new Redis(url, {
      autoResendUnfulfilledCommands: false,
      maxRetriesPerRequest: 0,
      enableOfflineQueue: false,
      commandTimeout: commandTimeoutMs,
      connectTimeout: connectTimeoutMs,
      retryStrategy: (attempt) => Math.min(attempt * 50, longestReconnectPauseMs),
    });
    this.redis.on("error", (error: Error) => this.failures.failed(away, error));
    for (const script of Object.values(scripts)) {
      this.redis.defineCommand(script.name, { lua: sourceOf(script), numberOfKeys: script.keys.length });
      const command = (this.redis as unknown as Record<string, Command>)[script.name];
      if (command) this.commands.set(script.name, command.bind(this.redis));
    }
  }

  /** Resolves when the first connection is up; false when it is not within the time that a connection may take. */
  async ready(): Promise<boolean> {
    if (this.redis.status === "ready") return true;
    const ready = new Promise<boolean>((resolve) => this.redis.once("ready", () => resolve(true)));
    return await within(ready, connectTimeoutMs, () => false);
  }

  run(script: Script, owner: KeyOwner, args: readonly (string | number)[]): Promise<unknown> {
    const command = this.commands.get(script.name) as Command;
    return this.guard(() => command(...script.keys.map((name) => this.keys[name](owner)), ...args));
  }

  /** Runs an ordinary command. */
  call<T>(command: (redis: Redis) => Promise<T>): Promise<T> {
    return this.guard(() => command(this.redis));
  }

  close(): void {
    this.redis.disconnect();
  }

  private async guard<T>(command: () => Promise<T>): Promise<T> {
    if (steadyMs() < this.restUntilMs) {
      throw new StoreUnavailable("redis did not answer a moment ago", { cause: this.timedOut });
    }
    try {
      const reply = await command();
      this.failures.succeeded(away);
      this.failures.succeeded(fault);
      return reply;
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      if (message.includes("timed out")) {
        this.restUntilMs = steadyMs() + restAfterTimeoutMs;
        this.timedOut = error;
      }
      const isOurs = error instanceof Error && error.name === "ReplyError" && !awayReplies.test(message);
      this.failures.failed(isOurs ? fault : away, error);
      // The answers do not change without Redis, so callers are served in both cases.
      throw new StoreUnavailable(`redis: ${message}`, { cause: error });
    }
  }
}
