import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { DescMethodUnary } from "@bufbuild/protobuf";
import postgres from "postgres";
import { startEmbedded } from "../../embedded/embedded.js";
import { callTimeoutMs, connections } from "../generator.js";
import type { LoadJob, LoadResult } from "../load/job.js";
import { writeMessages } from "../load/messages-file.js";
import { runInProcess } from "../load/run-in-process.js";
import type { OwnBench, OwnBenchContext } from "../own-bench.js";
import { Api, pathOf } from "../support/api.js";
import { busyShare, describeMachine } from "../support/machine.js";
import { pinTo } from "../support/pin.js";
import { type Replica, startReplica } from "../support/replica.js";
import { isAlive, isCalm } from "./alive.js";
import { type BystanderJob, type BystanderResult, type BystanderStart, BystanderWorld } from "./bystander.js";
import { drawTable, missesOf, type Outcome, outcomeOf, progressLine } from "./report.js";
import { sampleFileVariable, samplesIn } from "./samples.js";
import type { Fired, Prepared, Stage, Weapon, WeaponJob } from "./weapon.js";
import { weapons } from "./weapons/index.js";

const serviceCore = "0";
const callersCore = "1";

const callsPerSecond = 150;
const warmUpMs = 500;
const quietMs = 2_000;
/** Between the last quiet call and the weapon, for the answer to come. */
const gapMs = 200;
const defaultSeconds = 4;
/** A service that has just started compiles its hot code first. */
const firstWarmUpMs = 3_000;
/** Streams that a weapon left behind need not be waited for. */
const drainMs = 500;
/** What a stall at the very end of a phase needs to be written down. */
const settleMs = 300;
/** Of accepted calls, to compare the rate of others with. */
const referenceMs = 2_000;
const referenceWarmUpMs = 500;
/** A service that has grown by more starts anew, so that the next weapon's growth can be seen. */
const maxKeptGrowthMb = 200;

/** What clients that mean harm do to the others, one weapon after the other. */
export const hostile: OwnBench = {
  name: "hostile",
  isPartOfAll: false,
  async run(context) {
    const chosen = weapons.filter(({ name }) => context.options.weapons?.includes(name) ?? true);
    const range = await Range.open(context);
    const outcomes: Outcome[] = [];
    for (const [index, weapon] of chosen.entries()) {
      const outcome = await range.fire(weapon);
      outcomes.push(outcome);
      context.say(progressLine(outcome, index + 1, chosen.length));
    }
    const missing = outcomes.filter((outcome) => missesOf(outcome).length > 0);
    const verdicts = missing.map((outcome) => `  ${outcome.weapon}: ${missesOf(outcome).join("; ")}`);
    const verdict =
      missing.length === 0 ? "No weapon misses a bound." : `These miss their bounds:\n${verdicts.join("\n")}`;
    context.say(`\n${drawTable(outcomes)}\n\n${verdict}\n`);
    return outcomes;
  },
};

/** The servers, and everything that is the same for all weapons. */
class Range {
  #replica: Replica | undefined;
  #api: Api | undefined;
  #world: BystanderWorld | undefined;

  private constructor(
    private readonly context: OwnBenchContext,
    private readonly folder: string,
    private readonly stores: { readonly databaseUrl: string; readonly redisUrl: string },
    private readonly sql: postgres.Sql,
  ) {}

  static async open(context: OwnBenchContext): Promise<Range> {
    const { say, cleanups } = context;
    const busy = await busyShare();
    say(`${describeMachine()}; other programs use ${Math.round(busy * 100)}% of it now.`);
    const pinned = await pinTo(serviceCore);
    say(
      pinned
        ? `The service, Postgres and Redis run on core ${serviceCore}, who calls them on core ${callersCore}.\n`
        : "Callers, service, Postgres and Redis share all cores (there is no taskset): weapons look worse than they are.\n",
    );
    const embedded = await startEmbedded({
      onEvent: (event) => say("text" in event ? event.text : JSON.stringify(event)),
    });
    cleanups.push(() => embedded.stop());
    const folder = await mkdtemp(join(tmpdir(), "coupon-hostile-"));
    cleanups.push(() => rm(folder, { recursive: true, force: true }));
    const sql = postgres(embedded.databaseUrl!, { max: 1, onnotice: () => {} });
    cleanups.push(() => sql.end());
    const stores = { databaseUrl: embedded.databaseUrl!, redisUrl: embedded.redisUrl! };
    const range = new Range(context, folder, stores, sql);
    cleanups.push(() => range.close());
    await range.start();
    return range;
  }

  async fire(weapon: Weapon): Promise<Outcome> {
    this.context.signal.throwIfAborted();
    const seconds = weapon.seconds ?? defaultSeconds;
    const prepared = await this.prepare(weapon, callsIn(seconds));
    const replica = this.#replica!;
    const watch = this.watch(prepared.bystander ?? this.#world!.ordinary(callsIn(seconds)));
    const startedAtMs = await watch.started;
    const fireAtMs = startedAtMs + warmUpMs + quietMs + gapMs;
    const job: WeaponJob = {
      ...{
        weapon: weapon.name,
        grpcPort: replica.grpcPort,
        httpPort: replica.httpPort,
        redisUrl: this.stores.redisUrl,
      },
      ...{ ammunition: prepared.ammunition ?? [], fireAtMs, untilMs: fireAtMs + seconds * 1_000 },
    };
    const firing = this.inProcess<WeaponJob, never, Fired>("./weapon-process.js", job);
    const [bystander, fired] = await Promise.all([watch.result, firing]);
    const alive = await isAlive(replica);
    await sleep(settleMs);
    const samples = await samplesIn(this.sampleFile, startedAtMs + warmUpMs, Date.now());
    const before = samples.filter(({ atMs }) => atMs < fireAtMs);
    const during = samples.filter(({ atMs }) => atMs >= fireAtMs);
    const { referencePerSecond } = prepared;
    const outcome = outcomeOf({ weapon, bystander, fired, before, during, alive, referencePerSecond });
    const ended = replica.ended();
    if (ended || !alive || outcome.rssGrowthMb > maxKeptGrowthMb || !(await isCalm(replica))) {
      if (ended) this.context.say(`The service ended (${ended}). It wrote:\n${replica.tail().join("\n")}`);
      await this.close();
      await this.start();
    }
    return outcome;
  }

  async close(): Promise<void> {
    this.#api?.close();
    const replica = this.#replica;
    this.#replica = undefined;
    await replica?.stop();
  }

  private async start(): Promise<void> {
    await pinTo(serviceCore);
    await rm(this.sampleFile, { force: true });
    const probe = new URL("./stall-probe.js", import.meta.url).href;
    const replica = await startReplica(this.stores, {
      nodeOptions: ["--import", probe],
      settings: { [sampleFileVariable]: this.sampleFile, DRAIN_MS: `${drainMs}` },
    });
    await pinTo(callersCore);
    this.#replica = replica;
    this.#api = new Api([replica.target]);
    this.#world ??= await BystanderWorld.create(this.#api);
    const calls = this.#world.ordinary(Math.ceil((firstWarmUpMs / 1_000) * callsPerSecond * 2));
    await this.watch(calls, callsPerSecond * 2).result;
    await isCalm(replica);
  }

  private get sampleFile(): string {
    return join(this.folder, "samples");
  }

  private async prepare(weapon: Weapon, bystanderCalls: number): Promise<Prepared> {
    const stage: Stage = {
      ...{ api: this.#api!, sql: this.sql, bystander: this.#world!, bystanderCalls },
      rateOf: (method, messages, callers) => this.rateOf(method, messages, callers),
    };
    return (await weapon.prepare?.(stage)) ?? {};
  }

  /** Calls as a bystander does; `started` says since when. */
  private watch(calls: BystanderJob["calls"], perSecond = callsPerSecond) {
    const job: BystanderJob = {
      ...{ target: this.#replica!.target, calls, perSecond, timeoutMs: callTimeoutMs },
      warmUpCalls: (warmUpMs / 1_000) * perSecond,
      quietCalls: (quietMs / 1_000) * perSecond,
      gapCalls: (gapMs / 1_000) * perSecond,
    };
    let start = (_startedAtMs: number) => {};
    const first = new Promise<number>((resolve) => {
      start = resolve;
    });
    const result = this.inProcess<BystanderJob, BystanderStart, BystanderResult>(
      "./bystander-process.js",
      job,
      ({ startedAtMs }) => start(startedAtMs),
    );
    // A process that fails says nothing.
    return { started: Promise.race([first, result.then(() => first)]), result };
  }

  private async rateOf(method: DescMethodUnary, messages: Iterable<Uint8Array>, callers: number): Promise<number> {
    const messagesFile = join(this.folder, "messages");
    const count = await writeMessages(messagesFile, messages);
    const result = await this.inProcess<LoadJob, never, LoadResult>("../load/load-process.js", {
      ...{ targets: [this.#replica!.target], connectionsPerTarget: connections, method: pathOf(method), messagesFile },
      timeoutMs: callTimeoutMs,
      mode: { kind: "saturation", callers, warmUpMs: referenceWarmUpMs, measuredMs: referenceMs },
    });
    if (result.sent > count) throw new Error(`${method.name} ran out of different messages.`);
    if (result.outcomes.OK !== result.calls) throw new Error(`${method.name}: ${JSON.stringify(result.outcomes)}`);
    return result.callsPerSecond;
  }

  private inProcess<Job, Progress, Result>(
    entry: string,
    job: Job,
    onProgress: (progress: Progress) => void = () => {},
  ): Promise<Result> {
    return runInProcess(new URL(entry, import.meta.url), job, { signal: this.context.signal, onProgress });
  }
}

/** What a bystander calls in all phases. */
function callsIn(seconds: number): number {
  return Math.ceil(((warmUpMs + quietMs + gapMs) / 1_000 + seconds) * callsPerSecond);
}
