import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { type CallerKey, defaultOverlapMs, type FreshKey } from "../domain/caller-key.js";
import { type OwnLimits, readOwnLimits } from "../domain/caller-limits.js";
import { isScope, type Scope, scopes } from "../domain/principal.js";
import { Refusal } from "../domain/refusal.js";
import { steadyMs } from "../platform/clock.js";
import { newId } from "../platform/new-id.js";
import type { AdminCall } from "../storage/ports/audit.js";
import type { CallerStore } from "../storage/ports/callers.js";
import type { KeyStore } from "../storage/ports/keys.js";

export interface KeysCommandParts {
  readonly freshKey: () => FreshKey;
  /** Lends the store to one piece of work. */
  readonly withKeys: <T>(work: (store: KeyStore) => Promise<T>) => Promise<T>;
  readonly withCallers: <T>(work: (store: CallerStore) => Promise<T>) => Promise<T>;
  /** Standard output: keys and lists, and nothing else. */
  readonly out: (text: string) => void;
  /** Standard error: what is said to people. */
  readonly say: (text: string) => void;
}

const patienceMs = 30_000;
const pageSize = 1_000;
const maxExpiryMs = 100 * 365 * 86_400_000;
const maxOverlapMs = 90 * 86_400_000;
/** Exit codes: what was asked for cannot be done, and cannot be understood. */
const refusedCode = 1;
const usageCode = 2;

/** `keys create|list|rotate|expire|revoke|limits`. Answers the exit code. */
export async function runKeysCommand(args: readonly string[], parts: KeysCommandParts): Promise<number> {
  try {
    await keysProgram(parts).parseAsync([...args], { from: "user" });
    return 0;
  } catch (error) {
    // It has been said already.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : usageCode;
    if (!(error instanceof Refused)) throw error;
    parts.say(`coupon-service: ${error.message}\n`);
    return refusedCode;
  }
}

/** What was asked for is not done. */
class Refused extends Error {}

function keysProgram({ freshKey, withKeys, withCallers, out, say }: KeysCommandParts): Command {
  const program = new Command("keys")
    .description("Keys by which callers prove who they are, in the database that DATABASE_URL names.")
    .exitOverride()
    .configureOutput({ writeOut: out, writeErr: say });
  const expires = () =>
    new Option("--expires <when>", "from when on it does not hold: in 90d (or 12h, 30m), or 2035-01-31T00:00:00Z");
  const tell = (key: CallerKey, text: string) => {
    out(`${text}\n`);
    say(`${described(key)}\nThis is the only time that the key is shown.\n`);
  };

  program
    .command("create")
    .description("creates a key of a caller, and prints it")
    .requiredOption("--caller <name>", "whose key it is: 1 to 64 letters, digits and . _ -", callerOf)
    .requiredOption("--scopes <list>", `what it allows, with commas between: ${scopes.join(", ")}`, scopesOf)
    .addOption(expires().argParser(timeOf))
    .action(async ({ caller, scopes, expires }: { caller: string; scopes: Scope[]; expires?: Date }) => {
      const { id, hash, text } = freshKey();
      const key = { id, hash, caller, scopes, expiresAt: expires ?? null };
      tell(accepted(await withKeys((store) => store.create(key, null, callOf("CreateKey")))).key, text);
    });

  program
    .command("list")
    .description("lists keys, the newest first, one JSON object a line")
    .option("--caller <name>", "only those of one caller", callerOf)
    .action(async ({ caller = "" }: { caller?: string }) => {
      await withKeys(async (store) => {
        let before: string | null = null;
        do {
          const page = await store.list(caller, { size: pageSize, before }, deadline());
          for (const key of page.rows) out(`${described(key)}\n`);
          before = page.next;
        } while (before !== null);
      });
    });

  program
    .command("rotate")
    .description("creates a key of the same caller with the same scopes, prints it, and lets the old one expire")
    .argument("<id>", "of the old key", idOf)
    .option("--overlap <time>", "for how long the old one still holds: 24h, 30m, 0m; at most 90d", overlapOf)
    .addOption(expires().argParser(timeOf))
    .action(async (id: string, { overlap, expires }: { overlap?: number; expires?: Date }) => {
      const { text, ...fresh } = freshKey();
      const next = { ...fresh, overlapMs: overlap ?? defaultOverlapMs, expiresAt: expires ?? null };
      const made = accepted(await withKeys((store) => store.rotate(id, next, null, callOf("RotateKey"))));
      tell(made.key, text);
      say(`${described(made.replaced)}\n`);
    });

  program
    .command("expire")
    .description("has a key expire earlier than it would")
    .argument("<id>", "of the key", idOf)
    .addOption(expires().argParser(timeOf).makeOptionMandatory())
    .action(async (id: string, { expires }: { expires: Date }) => {
      say(`${described(accepted(await withKeys((store) => store.expire(id, expires, null, callOf("ExpireKey")))))}\n`);
    });

  program
    .command("revoke")
    .description("ends a key for ever, within 5 seconds on every replica")
    .argument("<id>", "of the key", idOf)
    .action(async (id: string) => {
      say(`${described(accepted(await withKeys((store) => store.revoke(id, null, callOf("RevokeKey")))))}\n`);
    });

  program
    .command("limits")
    .description("prints how much a caller may ask for of its own, after setting it where that is said")
    .argument("<caller>", "who was named when its keys were made", callerOf)
    .addOption(
      new Option("--set <list>", "issue=500/100,use=200/50: calls a second at all replicas / at once at each")
        .argParser(limitsOf)
        .conflicts("clear"),
    )
    .option("--clear", "as for all callers from now on")
    .action(async (caller: string, { set, clear }: { set?: OwnLimits; clear?: true }) => {
      const call = callOf("SetCallerLimits");
      const held = await withCallers((store) =>
        set || clear ? store.setLimits(caller, set ?? null, null, call) : store.getLimits(caller, call.deadlineMs),
      );
      out(`${JSON.stringify({ caller, ...accepted(held) })}\n`);
    });

  return program;
}

function accepted<T>(answer: T | Refusal): T {
  if (!(answer instanceof Refusal)) return answer;
  throw new Refused([answer.reason, ...answer.violations.map(({ description }) => description)].join(": "));
}

/** Whoever may run the command on the database is on record as it. */
function callOf(method: string): AdminCall {
  const principal = { id: "command", scopes: new Set(scopes) };
  return { method, principal, requestId: newId(Date.now()), callerRequestId: "", deadlineMs: deadline() };
}

function deadline(): number {
  return steadyMs() + patienceMs;
}

function described({ id, caller, scopes, createdAt, expiresAt, revokedAt, replacedId }: CallerKey): string {
  return JSON.stringify({ id, caller, scopes, createdAt, expiresAt, revokedAt, replacedId });
}

function callerOf(text: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(text)) return text;
  throw new InvalidArgumentError("It must be 1 to 64 letters, digits, and after the first character . _ -");
}

function scopesOf(text: string): Scope[] {
  const names = [...new Set(text.split(",").map((name) => name.trim()))];
  if (names.every(isScope)) return names as Scope[];
  throw new InvalidArgumentError(`There are: ${scopes.join(", ")}`);
}

function idOf(text: string): string {
  if (/^[a-z2-7]{12}$/.test(text)) return text;
  // Whoever pastes the whole key does not read it again here.
  throw new Refused("the id must be the 12 characters between the first and the second _ of a key");
}

function limitsOf(text: string): OwnLimits {
  const limits = readOwnLimits(text);
  if (typeof limits !== "string") return limits;
  throw new InvalidArgumentError(`It ${limits}.`);
}

const units = { d: 86_400_000, h: 3_600_000, m: 60_000 };

function spanMs(text: string): number | undefined {
  const [, count, unit] = /^(\d{1,6})([dhm])$/.exec(text) ?? [];
  return unit === undefined ? undefined : Number(count) * units[unit as keyof typeof units];
}

function timeOf(text: string): Date {
  const ms = spanMs(text);
  const at =
    ms === undefined
      ? Date.parse(/^\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)$/.test(text) ? text : "")
      : Date.now() + ms;
  if (at <= Date.now() + maxExpiryMs) return new Date(at);
  throw new InvalidArgumentError("It must be like 90d, 12h, 30m or 2035-01-31T00:00:00Z, and within 100 years.");
}

function overlapOf(text: string): number {
  const ms = spanMs(text);
  if (ms !== undefined && ms <= maxOverlapMs) return ms;
  throw new InvalidArgumentError("It must be like 24h, 30m or 0m, and at most 90d.");
}
