import { type Metadata, status } from "@grpc/grpc-js";
import { readFailure } from "../load/failure.js";
import { Latencies, type LatencySummary } from "../load/latency.js";
import { readMessages } from "../load/messages-file.js";
import { runSchedule } from "../load/schedule.js";
import { Tally } from "../load/tally.js";
import { Connection, type Ending } from "./connection.js";

/** The windows in which successes are counted, in ms. */
export const windowMs = 100;
const expiryCheckMs = 20;
/** Different refusals whose reason is remembered, so that reading them does not take the generator's time. */
const maxKnownRefusals = 1_000;

export interface OfferJob {
  readonly target: string;
  /** The authority of the target's certificate; without one there is no TLS. */
  readonly ca?: string;
  readonly method: string;
  /** Requests in the format of `load/messages-file.ts`, each sent once. */
  readonly messagesFile: string;
  /** Each a client of its own, which a real one would share with nobody: what one cannot send, no other sends for it. */
  readonly connections: number;
  readonly timeoutMs: number;
  readonly mode: { readonly kind: "closed"; readonly callers: number; readonly durationMs: number } | OpenMode;
}

interface OpenMode extends Arrivals {
  readonly kind: "open";
  /** What comes afterwards, to see how long the service takes to be itself again. Only `okPerWindow` counts it. */
  readonly afterwards?: Arrivals;
}

interface Arrivals {
  readonly requestsPerSecond: number;
  readonly durationMs: number;
}

export interface OfferResult {
  readonly sent: number;
  /** By "OK", the reason of the service's refusal, or what the client's own library called it. */
  readonly outcomes: Readonly<Record<string, number>>;
  /** From the moment a call was due. */
  readonly ok: LatencySummary;
  /** Of all calls that were turned away, by the service or by a client that has no connection. */
  readonly refused: LatencySummary;
  /** Their p99 in ms, of those that were due in each second. */
  readonly refusedP99MsPerSecond: readonly number[];
  /** Calls that ended OK in each window since the start. */
  readonly okPerWindow: readonly number[];
  /** How late calls were sent: the generator's own weakness. */
  readonly late: LatencySummary;
}

export async function offer(job: OfferJob): Promise<OfferResult> {
  const messages = await readMessages(job.messagesFile);
  const connections = await connect(job);
  const ok = new Latencies();
  const refused = new Latencies();
  const refusedPerSecond = Array.from({ length: Math.ceil(job.mode.durationMs / 1_000) }, () => new Latencies());
  const late = new Latencies();
  const tally = new Tally();
  const okPerWindow: number[] = [];
  const startedAtMs = performance.now();
  let sent = 0;

  const send: Send = (dueAtMs, measured, done) => {
    const index = sent++;
    const message = messages[index];
    if (!message) throw new Error(`There are only ${messages.length} messages.`);
    if (measured) late.record(performance.now() - dueAtMs);
    (connections[index % connections.length] as Connection).send(message, (ending) => {
      const endedAtMs = performance.now();
      const outcome = outcomeOf(ending);
      if (measured) tally.add(outcome);
      if (outcome === "OK") {
        if (measured) ok.record(endedAtMs - dueAtMs);
        const window = Math.floor((endedAtMs - startedAtMs) / windowMs);
        okPerWindow[window] = (okPerWindow[window] ?? 0) + 1;
      } else if (outcome !== "TIMED_OUT" && measured) {
        refused.record(endedAtMs - dueAtMs);
        refusedPerSecond[Math.floor((dueAtMs - startedAtMs) / 1_000)]?.record(endedAtMs - dueAtMs);
      }
      done();
    });
  };

  const expiry = setInterval(() => {
    const now = performance.now();
    for (const connection of connections) connection.expire(now);
  }, expiryCheckMs);
  try {
    if (job.mode.kind === "closed") await closedLoop(job.mode, startedAtMs, send);
    else await openLoop(job.mode, send);
  } finally {
    clearInterval(expiry);
    for (const connection of connections) connection.close();
  }
  return {
    sent,
    outcomes: tally.toRecord(),
    ok: ok.summary(),
    refused: refused.summary(),
    refusedP99MsPerSecond: refusedPerSecond.map((one) => one.summary().p99Ms),
    okPerWindow: Array.from(okPerWindow, (count) => count ?? 0),
    late: late.summary(),
  };
}

type Send = (dueAtMs: number, measured: boolean, done: () => void) => void;

async function closedLoop(mode: { callers: number; durationMs: number }, startedAtMs: number, send: Send) {
  const untilMs = startedAtMs + mode.durationMs;
  const caller = () =>
    new Promise<void>((resolve) => {
      const next = () => {
        const now = performance.now();
        if (now >= untilMs) resolve();
        else send(now, true, next);
      };
      next();
    });
  await Promise.all(Array.from({ length: mode.callers }, caller));
}

async function openLoop({ afterwards, ...main }: OpenMode, send: Send) {
  const count = countOf(main);
  const all = count + (afterwards ? countOf(afterwards) : 0);
  const dueMs = (index: number) =>
    index < count || !afterwards
      ? (index * 1_000) / main.requestsPerSecond
      : main.durationMs + ((index - count) * 1_000) / afterwards.requestsPerSecond;
  await new Promise<void>((resolve, reject) => {
    let unanswered = all;
    runSchedule({
      count: all,
      dueMs,
      send: (index, scheduledAtMs) =>
        send(scheduledAtMs, index < count, () => {
          unanswered -= 1;
          if (unanswered === 0) resolve();
        }),
    }).catch(reject);
  });
}

function countOf({ requestsPerSecond, durationMs }: Arrivals): number {
  return Math.round((requestsPerSecond * durationMs) / 1_000);
}

async function connect({ target, ca, connections, method, timeoutMs }: OfferJob): Promise<Connection[]> {
  const all = Array.from({ length: connections }, () => new Connection(target, method, timeoutMs, ca));
  // One after the other: the start is not what is measured.
  for (const connection of all) await connection.ready();
  return all;
}

const knownReasons = new Map<string, string>();

/** "OK", the reason that the service gave, or why there was no answer. */
function outcomeOf({ status: code, details, why }: Ending): string {
  if (code === null) return why;
  if (code === "0") return "OK";
  if (details === undefined) return status[Number(code)] ?? `CODE_${code}`;
  let reason = knownReasons.get(details);
  if (reason === undefined) {
    const metadata = { get: () => [Buffer.from(details, "base64")] } as unknown as Metadata;
    reason = readFailure({ name: "", message: "", code: Number(code), details: "", metadata }).reason;
    if (knownReasons.size < maxKnownRefusals) knownReasons.set(details, reason);
  }
  return reason;
}
