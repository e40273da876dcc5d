import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import { startEmbedded } from "../../embedded/embedded.js";
import { writeMessages } from "../load/messages-file.js";
import { runInProcess } from "../load/run-in-process.js";
import type { OwnBench } from "../own-bench.js";
import { createCoupon, issueMethod, issueRequests } from "../rows/coupons.js";
import { Api } from "../support/api.js";
import { grouped, rounded } from "../support/numbers.js";
import { allCores, pinTo } from "../support/pin.js";
import { type Replica, startReplica } from "../support/replica.js";
import { type OfferJob, type OfferResult, windowMs } from "./offer.js";

const serviceCore = "0";
const loadCore = "1";
const callers = 128;
const fewConnections = 20;
const manyConnections = 400;
const timeoutMs = 3_000;
const warmUpMs = 4_000;
const peakMs = 8_000;
const offeredMs = 12_000;
/** After the largest overload: an ordinary load, for so long, to see when it is served again. */
const afterwards = { share: 0.5, durationMs: 4_000 };
/** A second afterwards is normal when so much of what was offered in it ended well. */
const normalShare = 0.95;
/** Between two loads, so that what the first has left behind does not count against the second. */
const pauseMs = 2_000;
/** More messages than a closed loop can send in a second. */
const maxClosedRps = 30_000;
const quantity = 1_000_000_000n;
const rssSampleMs = 50;
const kilobyte = 1_024;

interface Run {
  readonly name: string;
  readonly offeredRps: number;
  readonly okRps: number;
  readonly result: OfferResult;
  readonly maxRssMb: number;
}

/**
 * What is left of the peak when more is offered than can be served: the peak by a closed loop, then an open loop of once,
 * twice and five times as much. Service, Postgres and Redis have one core and the generator another.
 */
export const overload: OwnBench = {
  name: "overload",
  isPartOfAll: true,
  async run({ say, signal, cleanups }) {
    const onCleanup = (cleanup: () => Promise<unknown>) => cleanups.push(cleanup);
    const pinned = await pinTo(serviceCore);
    onCleanup(() => pinTo(allCores));
    say(pinned ? "Service and stores on core 0, load on core 1." : "No taskset: load and service share all cores.");
    const folder = await mkdtemp(join(tmpdir(), "coupon-bench-"));
    onCleanup(() => rm(folder, { recursive: true, force: true }));
    const stores = await startEmbedded();
    onCleanup(() => stores.stop());
    const databaseUrl = stores.databaseUrl as string;
    const replica = await startReplica({ databaseUrl, redisUrl: stores.redisUrl });
    onCleanup(() => replica.stop());
    const sql = postgres(databaseUrl, { max: 1, onnotice: () => {} });
    onCleanup(() => sql.end());
    const api = new Api([replica.target]);
    onCleanup(async () => api.close());

    const run = async (name: string, connections: number, mode: OfferJob["mode"]): Promise<Run> => {
      const couponId = await createCoupon(api, quantity);
      const messagesFile = join(folder, "offered");
      await writeMessages(messagesFile, issueRequests(couponId, messageCount(mode)));
      const job: OfferJob = { target: replica.target, method: issueMethod, messagesFile, connections, timeoutMs, mode };
      const watch = watchRss(replica);
      const result = await runOffer(job, signal, pinned).finally(watch.stop);
      const maxRssMb = watch.most();
      await expectRows(sql, couponId, result);
      const seconds = mode.durationMs / 1_000;
      const okRps = (result.outcomes.OK ?? 0) / seconds;
      const offeredRps = mode.kind === "open" ? mode.requestsPerSecond : okRps;
      say(`${name.padEnd(24)} ${grouped(okRps).padStart(6)} OK/s  ${describe(result)}`);
      await sleep(pauseMs);
      return { name, offeredRps, okRps, result, maxRssMb };
    };

    await run("warm-up", fewConnections, { kind: "closed", callers, durationMs: warmUpMs });
    const peak = await run("peak, closed loop", fewConnections, { kind: "closed", callers, durationMs: peakMs });
    const open = (factor: number, connections: number) =>
      run(`${factor}x, ${connections} connections`, connections, {
        kind: "open",
        requestsPerSecond: peak.okRps * factor,
        durationMs: offeredMs,
        ...(factor === 5 && {
          afterwards: { requestsPerSecond: peak.okRps * afterwards.share, durationMs: afterwards.durationMs },
        }),
      });
    const runs = [peak, await open(1, fewConnections), await open(2, fewConnections), await open(5, fewConnections)];
    const many = await open(5, manyConnections);
    const [, once, twice, fiveTimes] = runs as [Run, Run, Run, Run];
    const all = [...runs, many];
    const goodput = (one: Run) => rounded(one.okRps / peak.okRps, 3);
    const json = {
      peakRps: rounded(peak.okRps, 0),
      goodput1: goodput(once),
      goodput2: goodput(twice),
      goodput5: goodput(fiveTimes),
      goodput5Many: goodput(many),
      okP99Ms5: Math.max(fiveTimes.result.ok.p99Ms, many.result.ok.p99Ms),
      refusedP99Ms5: Math.max(fiveTimes.result.refused.p99Ms, many.result.refused.p99Ms),
      rssGrowth: rounded(Math.max(...all.map(({ maxRssMb }) => maxRssMb)) / peak.maxRssMb, 2),
      falselyAway: all.reduce((sum, { result }) => sum + (result.outcomes.STORE_UNAVAILABLE ?? 0), 0),
      backToNormalS: Math.max(
        ...[fiveTimes, many].map(({ result }) => backToNormalS(result, peak.okRps * afterwards.share)),
      ),
      pinned,
      runs: all.map(({ name, offeredRps, okRps, result, maxRssMb }) => {
        const { okPerWindow: _, ...rest } = result;
        return { name, offeredRps: rounded(offeredRps, 0), okRps: rounded(okRps, 0), maxRssMb, ...rest };
      }),
    };
    say(`\n${drawTable(all, json)}\n`);
    return json;
  },
};

function messageCount(mode: OfferJob["mode"]): number {
  if (mode.kind === "closed") return Math.ceil((maxClosedRps * mode.durationMs) / 1_000);
  const count = (one: { requestsPerSecond: number; durationMs: number }) =>
    Math.ceil((one.requestsPerSecond * one.durationMs) / 1_000) + 1;
  return count(mode) + (mode.afterwards ? count(mode.afterwards) : 0);
}

async function runOffer(job: OfferJob, signal: AbortSignal, pinned: boolean): Promise<OfferResult> {
  const entry = new URL("./offer-process.js", import.meta.url);
  // The process that makes the load gets its core from this one.
  if (pinned) await pinTo(loadCore);
  try {
    return await runInProcess<OfferJob, never, OfferResult>(entry, job, { signal });
  } finally {
    if (pinned) await pinTo(serviceCore);
  }
}

/** Every OK must be a row, or the load measured nothing. */
async function expectRows(sql: postgres.Sql, couponId: string, { outcomes, sent }: OfferResult): Promise<void> {
  const [found] = await sql`SELECT count(*)::int AS rows FROM user_coupons WHERE coupon_id = ${couponId}`;
  const rows: number = found!.rows;
  if (rows >= (outcomes.OK ?? 0) && rows <= sent) return;
  throw new Error(`${outcomes.OK} of ${sent} calls were told OK, but Postgres has ${rows} rows.`);
}

/** The largest resident memory of a replica while it is watched, in MB. Linux only; elsewhere NaN. */
function watchRss({ pid }: Replica) {
  let most = Number.NaN;
  const look = async () => {
    const text = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
    const found = /VmRSS:\s+(\d+) kB/.exec(text);
    if (found) most = Math.max(Number.isNaN(most) ? 0 : most, Number(found[1]) / kilobyte);
  };
  const timer = setInterval(look, rssSampleMs);
  return {
    stop: async () => {
      clearInterval(timer);
      await look();
    },
    most: () => rounded(most, 0),
  };
}

/** From the end of the overload to the first moment after which nearly all of a second's ordinary load is served. */
function backToNormalS({ okPerWindow }: OfferResult, requestsPerSecond: number): number {
  const first = offeredMs / windowMs;
  const perSecond = 1_000 / windowMs;
  const last = first + afterwards.durationMs / windowMs - perSecond;
  for (let window = first; window < last; window += 1) {
    const served = okPerWindow.slice(window, window + perSecond).reduce((sum, count) => sum + count, 0);
    if (served >= requestsPerSecond * normalShare) return rounded(((window - first) * windowMs) / 1_000, 1);
  }
  return afterwards.durationMs / 1_000;
}

function describe({ outcomes, ok, refused, late }: OfferResult): string {
  const others = Object.entries(outcomes).filter(([name]) => name !== "OK");
  return [
    `p50 ${ok.p50Ms.toFixed(0)} p99 ${ok.p99Ms.toFixed(0)} ms`,
    ...others.map(([name, count]) => `${name} ${grouped(count)}`),
    ...(others.length > 0 ? [`(p99 ${refused.p99Ms.toFixed(0)} ms)`] : []),
    `sent late p99 ${late.p99Ms.toFixed(0)} ms`,
  ].join("  ");
}

function drawTable(runs: readonly Run[], json: Record<string, unknown>): string {
  const head = `  ${"".padEnd(24)}  offered/s    OK/s   share   OK p99 ms   refused p99 ms   RSS MB`;
  const [peak] = runs as [Run];
  const lines = runs.map(({ name, offeredRps, okRps, result, maxRssMb }) =>
    [
      `  ${name.padEnd(24)}`,
      grouped(offeredRps).padStart(9),
      grouped(okRps).padStart(6),
      (okRps / peak.okRps).toFixed(2).padStart(6),
      result.ok.p99Ms.toFixed(0).padStart(9),
      result.refused.p99Ms.toFixed(0).padStart(14),
      grouped(maxRssMb).padStart(6),
    ].join("   "),
  );
  const { backToNormalS: back, falselyAway } = json;
  return [
    head,
    ...lines,
    `  back to normal after ${back} s; told that Postgres is away though it was not: ${falselyAway}`,
  ].join("\n");
}
