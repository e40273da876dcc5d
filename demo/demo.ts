import { Api } from "../bench/support/api.js";
import { grouped, rounded, UsageError } from "../bench/support/numbers.js";
import type { Replica } from "../bench/support/replica.js";
import { type EmbeddedEvent, type EmbeddedServers, startEmbedded } from "../embedded/embedded.js";
import { type Audit, runAudit } from "./audit.js";
import { type DemoOptions, parseOptions, usage } from "./options.js";
import { makePlan } from "./plan.js";
import { restoreElsewhere } from "./restore.js";
import { Replicas } from "./rolling-restart.js";
import { createEvent, runSale, type Sale } from "./sale.js";
import { Screen } from "./screen.js";
import { checksOf, drawVerdict } from "./verdict.js";

/** Sells out in the middle of the rehearsal. */
const rehearsalQuantity = 1_000;

/** Of the requests that have been answered when the first replica is restarted. */
const restartFromShare = 0.05;

const exitFailed = 1;
const exitUsage = 2;
const exitInterrupted = 130;

async function main(): Promise<number> {
  const options = parseOptions(process.argv.slice(2));
  if (!options) {
    console.log(usage);
    return 0;
  }
  const interrupted = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => interrupted.abort(new Error("Interrupted.")));
  }
  const cleanups: (() => Promise<void>)[] = [];
  try {
    return await runDemo(options, interrupted.signal, cleanups);
  } catch (error) {
    if (!interrupted.signal.aborted) throw error;
    console.error("Interrupted: cleaning up.");
    return exitInterrupted;
  } finally {
    for (const cleanup of cleanups.reverse()) await cleanup();
  }
}

/** What must be undone later goes to `cleanups`, in the order of doing. */
async function runDemo(options: DemoOptions, signal: AbortSignal, cleanups: (() => Promise<void>)[]): Promise<number> {
  const screen = new Screen(options);
  const name = `${grouped(options.quantity)} free rides`;
  screen.say(`\n${screen.paint.bold(name)}: first come, first served.\n`);

  const stores = await startEmbedded({ onEvent: (event) => screen.say(`  ${describe(event)}`) });
  cleanups.push(() => stores.stop());
  signal.throwIfAborted();
  const databaseUrl = stores.databaseUrl;
  if (databaseUrl === undefined) throw new Error("There is no Postgres to run on.");
  // Without Redis the reservations live in the memory of the one process that may then serve.
  const count = stores.redisUrl === undefined ? 1 : options.replicas;
  const starting = Replicas.start({ databaseUrl, redisUrl: stores.redisUrl }, count);
  cleanups.push(async () => (await starting.catch(() => undefined))?.stop());
  const replicas = await starting;
  signal.throwIfAborted();
  introduce(screen, stores, replicas.list);
  if (options.restart && count === 1) throw new UsageError("--restart needs a second replica, and so Redis.");

  const targets = replicas.list.map(({ target }) => target);
  const api = new Api(targets);
  const couponId = await createEvent(api, name, options.quantity);
  const rehearsalCouponId = await createEvent(api, "Rehearsal", rehearsalQuantity);
  api.close();
  screen.say("A short rehearsal with another coupon, since everything has just been started. Then");
  screen.say(
    `${grouped(options.requests)} requests arrive at ${grouped(options.requestsPerSecond)}/s, whatever the answers take (seed ${options.seed}):\n`,
  );
  const over = new AbortController();
  let restarting: Promise<number> | undefined;
  const onProgress = (share: number) => {
    if (!options.restart || share < restartFromShare || restarting) return;
    restarting = replicas.restartInTurn((text) => screen.say(text), AbortSignal.any([signal, over.signal]));
    // Whatever went wrong is heard when the sale is over.
    restarting.catch(() => {});
  };
  const sale = await runSale(targets, { couponId, rehearsalCouponId }, options, screen, signal, onProgress);
  over.abort();
  const restarted = await restarting;
  if (options.restart) screen.say(`  ${restarted ?? 0} of ${count} replicas were replaced while the sale went on.`);
  screen.say();

  const audit = await auditSale(sale, options, databaseUrl, replicas.list);
  const judge = (found: Audit) => {
    const checks = checksOf(options.quantity, sale.crowd, found);
    screen.say(drawVerdict(options.quantity, sale.crowd, checks, screen.paint));
    return checks.every((check) => check.passed);
  };
  let passed = judge(audit);
  if (options.restore) {
    screen.say(
      "A backup of Postgres, and nothing of Redis, is restored elsewhere. The same audit, of a service that runs on that:\n",
    );
    const restored = await restoreElsewhere(stores, cleanups);
    const { databaseUrl: restoredUrl, redisUrl } = restored;
    if (restoredUrl === undefined) throw new Error("There is no restored Postgres.");
    const onRestored = await Replicas.start({ databaseUrl: restoredUrl, redisUrl }, 1);
    cleanups.push(() => onRestored.stop());
    signal.throwIfAborted();
    passed = judge(await auditSale(sale, options, restoredUrl, onRestored.list)) && passed;
  }
  for (const [index, replica] of replicas.list.entries()) {
    const ended = replica.ended();
    if (ended !== undefined) screen.say(`Replica ${index + 1} had ended (${ended}); the rest had to take over.`);
    if (!passed && replica.tail().length > 0) screen.say(`Replica ${index + 1} wrote:\n${replica.tail().join("\n")}`);
  }
  if (options.json) console.log(JSON.stringify(summary({ ...options, replicas: count }, sale, audit, passed)));
  return passed ? 0 : exitFailed;
}

function describe(event: EmbeddedEvent): string {
  switch (event.type) {
    case "progress":
      return event.text;
    case "restarted":
      return `${event.server} ended (${event.reason}) and is back with pid ${event.pid}.`;
    case "restart-failed":
      return `${event.server} ended and did not come back yet: ${event.reason}`;
    case "lost":
      return event.reason;
  }
}

function introduce(screen: Screen, stores: EmbeddedServers, replicas: readonly Replica[]): void {
  const { dim } = screen.paint;
  const withPid = (text: string, pid: number | undefined) =>
    pid === undefined ? text : `${text}  ${dim(`pid ${pid}`)}`;
  screen.say(`  Postgres   ${withPid(withoutPassword(stores.databaseUrl!), stores.postgresPid)}`);
  if (stores.redisUrl === undefined) {
    screen.say("  Redis      none: one replica keeps the reservations in its memory");
    screen.say(`             ${dim(stores.redisUnavailable ?? "")}`);
  } else {
    screen.say(`  Redis      ${withPid(withoutPassword(stores.redisUrl), stores.redisPid)}`);
  }
  for (const [index, { target, httpPort, pid }] of replicas.entries()) {
    screen.say(`  replica ${index + 1}  ${withPid(`gRPC ${target}  HTTP 127.0.0.1:${httpPort}`, pid)}`);
  }
  const blows: string[] = [];
  if (stores.redisUrl !== undefined && stores.redisPid !== undefined) {
    // With the password, which this Redis alone has and which ends with it. Its command line need not be on PATH.
    if (stores.redisCli !== undefined) blows.push(`${stores.redisCli} flushall`);
    blows.push(`kill -9 ${stores.redisPid}`);
  }
  if (replicas.length > 1) blows.push(`kill -9 ${replicas[0]!.pid}`);
  if (blows.length > 0) {
    screen.say(`\n  ${dim("Try to break it while it runs, from another terminal; the outcome must stay the same:")}`);
    for (const blow of blows) screen.say(`    ${blow}`);
  }
  screen.say();
}

async function auditSale(sale: Sale, options: DemoOptions, databaseUrl: string, replicas: readonly Replica[]) {
  const plan = makePlan(options);
  const winners = new Set(sale.acknowledgements.map(({ user }) => user));
  const losers: number[] = [];
  for (let user = 0; user < plan.count; user += 1) {
    if (plan.userOf[user] === user && !winners.has(user) && !sale.unclearUsers.has(user)) losers.push(user);
  }
  const targets = replicas.filter((replica) => replica.ended() === undefined).map(({ target }) => target);
  const { couponId, acknowledgements } = sale;
  const { firstSoldOutAtMs } = sale.crowd;
  return runAudit({ databaseUrl, targets, couponId, seed: options.seed, acknowledgements, firstSoldOutAtMs, losers });
}

function summary(options: DemoOptions, { couponId, crowd }: Sale, audit: Audit, passed: boolean) {
  const { acknowledgements: _, unclearUsers: __, durationS, ...counts } = crowd;
  return { passed, ...counts, durationS: rounded(durationS, 3), ...audit, ...options, couponId };
}

function withoutPassword(url: string): string {
  const parsed = new URL(url);
  parsed.password = "";
  return parsed.href;
}

process.exitCode = await main().catch((error: unknown) => {
  console.error(error instanceof UsageError ? error.message : error);
  return error instanceof UsageError ? exitUsage : exitFailed;
});
