import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import { startEmbedded } from "../embedded/embedded.js";
import { type Callers, callers } from "./callers.js";
import type { Generator } from "./generator.js";
import { ghz, ghzIsOnPath } from "./ghz.js";
import { weapons } from "./hostile/weapons/index.js";
import { writeMessages } from "./load/messages-file.js";
import { type BenchOptions, parseOptions, usage } from "./options.js";
import { own } from "./own.js";
import { authRatios, drawTable, type RoundEntry, resultsOf } from "./report.js";
import type { Row, RowContext } from "./row.js";
import { rows as allRows, ownBenches } from "./rows/index.js";
import { issue } from "./rows/issue.js";
import { Api } from "./support/api.js";
import { busyShare, describeMachine } from "./support/machine.js";
import { grouped, UsageError } from "./support/numbers.js";
import { type Replica, startBareServer, startFrontEnd, startReplica } from "./support/replica.js";

const warmUpSeconds = 3;
/** Between two runs, so that the first one's last writes do not count against the second. */
const pauseMs = 500;
/** No message is sent twice, so enough must be made: at first this many, then by what the warm-up needed. */
const warmUpCallsPerSecond = 40_000;
const callsHeadroom = 3;
/** However slow a cold warm-up was. */
const leastCallsPerSecond = 12_000;
/** Room for what a generator sends around the measured time. */
const spareSeconds = 2;

/** A machine that is busier than this before the start gets a warning. */
const maxBusyShare = 0.15;

const exitFailed = 1;
const exitUsage = 2;
const exitInterrupted = 130;

type Say = (text: string) => void;

async function main(): Promise<number> {
  const options = parseOptions(
    process.argv.slice(2),
    [...allRows, ...ownBenches].map(({ name }) => name),
    weapons.map(({ name }) => name),
    Object.keys(callers),
  );
  if (!options) {
    console.log(usage);
    return 0;
  }
  const interrupted = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => interrupted.abort(new Error("Interrupted.")));
  }
  const say: Say = options.json ? console.error : console.log;
  const { signal } = interrupted;
  const cleanups: (() => Promise<unknown>)[] = [];
  const cleanUp = async () => {
    for (let cleanup = cleanups.pop(); cleanup; cleanup = cleanups.pop()) await cleanup();
  };
  try {
    const results: Record<string, unknown> = {};
    const rows = allRows.filter(({ name }) => options.rows?.includes(name) ?? true);
    if (rows.length > 0) Object.assign(results, await runRows(rows, options, say, signal, cleanups));
    for (const bench of ownBenches.filter(({ name, isPartOfAll }) => options.rows?.includes(name) ?? isPartOfAll)) {
      await cleanUp();
      results[bench.name] = await bench.run({ options, say, signal, cleanups });
    }
    if (options.json) console.log(JSON.stringify(results));
    return 0;
  } catch (error) {
    if (!signal.aborted) throw error;
    console.error("Interrupted: cleaning up.");
    return exitInterrupted;
  } finally {
    await cleanUp();
  }
}

/** A replica of its own for each way to prove who calls, all on the same stores. */
interface Service extends Pick<Callers, "headers"> {
  readonly auth: string;
  readonly replica: Replica;
  readonly api: Api;
}

function entriesWith(auth: string, entries: readonly RoundEntry[]): readonly RoundEntry[] {
  return entries.filter((entry) => entry.auth === auth);
}

/** What must be undone later goes to `cleanups`, in the order of doing. Answers what the JSON has of the rows. */
async function runRows(
  rows: readonly Row[],
  options: BenchOptions,
  say: Say,
  signal: AbortSignal,
  cleanups: (() => Promise<unknown>)[],
) {
  const generator = await chooseGenerator(options.generator);
  say(`${describeMachine()}; load by ${generator.name}.`);
  say("Client, service, Postgres and Redis share this machine: only ratios within one run compare well.");
  if (generator === own)
    say("This generator tires before the service's no-op does, which flatters the ratios: ghz does not.");
  const busy = await busyShare();
  if (busy > maxBusyShare) say(`Other programs use ${grouped(busy * 100)}% of it now: the numbers will be poor.`);
  say("");

  const stores = await startEmbedded({ onEvent: (event) => say("text" in event ? event.text : JSON.stringify(event)) });
  cleanups.push(() => stores.stop());
  const databaseUrl = stores.databaseUrl!;
  const frontEnd = await startFrontEnd();
  cleanups.push(() => frontEnd.stop());
  const bareServer = await startBareServer();
  cleanups.push(() => bareServer.stop());
  const folder = await mkdtemp(join(tmpdir(), "coupon-bench-"));
  cleanups.push(() => rm(folder, { recursive: true, force: true }));
  const sql = postgres(databaseUrl, { max: 1, onnotice: () => {} });
  cleanups.push(() => sql.end());
  const services: Service[] = [];
  for (const auth of options.auth) {
    const { settings, headers } = await (callers[auth] as (typeof callers)[string])({ folder, databaseUrl });
    const replica = await startReplica({ databaseUrl, redisUrl: stores.redisUrl }, { settings });
    cleanups.push(() => replica.stop());
    const api = new Api([replica.target], headers);
    cleanups.push(async () => api.close());
    services.push({ auth, replica, headers, api });
  }

  const measure = async (service: Service, row: Row, seconds: number, maxCallsPerSecond: number) => {
    signal.throwIfAborted();
    const context: RowContext = {
      api: service.api,
      frontEndTarget: frontEnd.target,
      bareTarget: bareServer.target,
      sql,
      maxCalls: Math.ceil(maxCallsPerSecond * (seconds + spareSeconds)),
    };
    const run = await row.prepare(context);
    const messagesFile = join(folder, "messages");
    const messages = await writeMessages(messagesFile, run.messages);
    const { method } = run;
    const { requestsPerSecond } = row;
    const { replica, headers } = service;
    const load = { target: run.target ?? replica.target, method, messagesFile, seconds, headers, requestsPerSecond };
    const measured = await generator.run(load, signal);
    if (messages > 1 && measured.sent > messages) throw new Error(`The ${row.name} row ran out of different messages.`);
    await run.verify(measured);
    await sleep(pauseMs);
    return measured;
  };
  try {
    say(`warm-up: ${rows.map(({ name }) => name).join(", ")}`);
    const maxCallsPerSecond = new Map<Row, number>();
    for (const row of rows) {
      for (const service of services) {
        const warmUp = await measure(service, row, warmUpSeconds, row.requestsPerSecond ?? warmUpCallsPerSecond);
        const needed = Math.max(leastCallsPerSecond, warmUp.callsPerSecond * callsHeadroom);
        maxCallsPerSecond.set(row, row.requestsPerSecond ?? Math.max(needed, maxCallsPerSecond.get(row) ?? 0));
      }
    }
    const entries: RoundEntry[] = [];
    // Of several services each goes first in half of the rounds.
    const rounds = services.length > 1 ? options.rounds + (options.rounds % 2) : options.rounds;
    for (let round = 1; round <= rounds; round += 1) {
      const inTurn = round % 2 === 0 ? services.toReversed() : services;
      for (const row of rows) {
        for (const service of inTurn) {
          const measured = await measure(service, row, options.seconds, maxCallsPerSecond.get(row)!);
          entries.push({ round, row: row.name, auth: service.auth, ...measured });
          const what = services.length > 1 ? `${row.name}, ${service.auth}` : row.name;
          say(`round ${round}: ${what.padEnd(10)} ${grouped(measured.callsPerSecond).padStart(7)}/s`);
        }
      }
    }
    say(`\nMedians of ${rounds} rounds of ${options.seconds} s:\n`);
    for (const { auth } of services) {
      if (services.length > 1) say(`AUTH=${auth}`);
      say(`${drawTable(rows, entriesWith(auth, entries))}\n`);
    }
    const authRatio = authRatios(issue, entries);
    for (const [auth, ratio] of Object.entries(authRatio))
      say(`Of issuing with AUTH=off is left with ${auth}: ${ratio}`);
    const first = entriesWith(options.auth[0] as string, entries);
    return { ...resultsOf(rows, first, generator.name), ...(services.length > 1 && { authRatio }), rounds: entries };
  } catch (error) {
    const tail = services.flatMap(({ replica }) => replica.tail());
    if (!signal.aborted && tail.length > 0) console.error(`The service wrote:\n${tail.join("\n")}`);
    throw error;
  }
}

async function chooseGenerator(wanted: "own" | "ghz" | undefined): Promise<Generator> {
  if (wanted === "own") return own;
  if (await ghzIsOnPath()) return ghz;
  if (wanted === "ghz") throw new UsageError("--generator ghz needs ghz on PATH (https://ghz.sh).");
  return own;
}

process.exitCode = await main().catch((error: unknown) => {
  console.error(error instanceof UsageError ? error.message : error);
  return error instanceof UsageError ? exitUsage : exitFailed;
});
