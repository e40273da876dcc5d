import { fromBinary } from "@bufbuild/protobuf";
import { IssueCouponResponseSchema } from "../../gen/coupon/v1/issuance_service_pb.js";
import { Channels } from "./channels.js";
import { readFailure } from "./failure.js";
import type { LoadJob, LoadResult, OpenLoop, Saturation } from "./job.js";
import { Latencies } from "./latency.js";
import { readMessages } from "./messages-file.js";
import { runSchedule } from "./schedule.js";
import { Tally } from "./tally.js";

/** Sends request `index`, and says how it ended. */
type Send = (index: number, done: (outcome: string) => void) => void;

export async function runJob(job: LoadJob): Promise<LoadResult> {
  const messages = await readMessages(job.messagesFile);
  if (messages.length === 0) throw new Error(`There is no message in ${job.messagesFile}.`);
  const channels = new Channels(job);
  try {
    await channels.connect();
    const send: Send = (index, done) => {
      channels.send(job.method, messages[index % messages.length]!, job.timeoutMs, (error, response) => {
        done(error ? readFailure(error).reason : outcomeOf(job.method, response));
      });
    };
    return job.mode.kind === "openLoop" ? await openLoop(job.mode, send) : await saturate(job.mode, send);
  } finally {
    channels.close();
  }
}

/** What is in flight is bounded by the rate times the deadline of a call. */
async function openLoop(mode: OpenLoop, send: Send): Promise<LoadResult> {
  const { requests, requestsPerSecond, warmUpRequests } = mode;
  const latencies = new Latencies();
  const tally = new Tally();
  const sent = warmUpRequests + requests;
  let measureFromMs = 0;
  await new Promise<void>((resolve, reject) => {
    let unanswered = sent;
    runSchedule({
      count: sent,
      dueMs: (index) => (index * 1_000) / requestsPerSecond,
      send(index, scheduledAtMs) {
        if (index === warmUpRequests) measureFromMs = scheduledAtMs;
        send(index, (outcome) => {
          if (index >= warmUpRequests) {
            latencies.record(performance.now() - scheduledAtMs);
            tally.add(outcome);
          }
          unanswered -= 1;
          if (unanswered === 0) resolve();
        });
      },
    }).catch(reject);
  });
  const seconds = (performance.now() - measureFromMs) / 1_000;
  return result(requests, sent, seconds, latencies, tally);
}

async function saturate({ callers, warmUpMs, measuredMs }: Saturation, send: Send): Promise<LoadResult> {
  const latencies = new Latencies();
  const tally = new Tally();
  const measureFromMs = performance.now() + warmUpMs;
  const measureUntilMs = measureFromMs + measuredMs;
  let sent = 0;
  let calls = 0;
  const caller = () =>
    new Promise<void>((resolve) => {
      const next = () => {
        const sentAtMs = performance.now();
        if (sentAtMs >= measureUntilMs) {
          resolve();
          return;
        }
        send(sent++, (outcome) => {
          const endedAtMs = performance.now();
          // What ends in the window counts: at both edges as many calls are cut off as are let in.
          if (endedAtMs >= measureFromMs && endedAtMs < measureUntilMs) {
            calls += 1;
            latencies.record(endedAtMs - sentAtMs);
            tally.add(outcome);
          }
          next();
        });
      };
      next();
    });
  await Promise.all(Array.from({ length: callers }, caller));
  return result(calls, sent, measuredMs / 1_000, latencies, tally);
}

function result(calls: number, sent: number, seconds: number, latencies: Latencies, tally: Tally): LoadResult {
  return { calls, sent, callsPerSecond: calls / seconds, outcomes: tally.toRecord(), ...latencies.summary() };
}

/** Only the answer of IssueCoupon can be a success of two kinds. */
function outcomeOf(method: string, response: Buffer | undefined): string {
  if (!method.endsWith("/IssueCoupon") || !response) return "OK";
  return fromBinary(IssueCouponResponseSchema, response).replayed ? "REPLAYED" : "OK";
}
