import { Channels } from "../load/channels.js";
import { readFailure } from "../load/failure.js";
import { Latencies } from "../load/latency.js";
import { runSchedule } from "../load/schedule.js";
import { Tally } from "../load/tally.js";
import { serveOneJob } from "../load/worker-side.js";
import type { BystanderJob, BystanderPhase, BystanderResult, BystanderStart } from "./bystander.js";
import { outcomeOf } from "./outcomes.js";

const connections = 2;
const healthEveryMs = 200;
const healthMethod = "/grpc.health.v1.Health/Check";
/** A HealthCheckResponse with status SERVING. */
const serving = Buffer.from([0x08, 0x01]);

serveOneJob<BystanderJob, BystanderStart, BystanderResult>(async (job, report) => {
  const { calls, perSecond, warmUpCalls, quietCalls, gapCalls, timeoutMs, target } = job;
  const channels = new Channels({ targets: [target], connectionsPerTarget: connections });
  const health = new Channels({ targets: [target], connectionsPerTarget: 1 });
  await Promise.all([channels.connect(), health.connect()]);
  const quiet = new Phase();
  const during = new Phase();
  const quietEnd = warmUpCalls + quietCalls;
  const phaseOf = (index: number) => {
    if (index >= quietEnd + gapCalls) return during;
    return index >= warmUpCalls && index < quietEnd ? quiet : undefined;
  };
  report({ startedAtMs: Date.now() });

  let notServing = 0;
  const look = setInterval(() => {
    health.send(healthMethod, Buffer.alloc(0), timeoutMs, (error, response) => {
      if (!error && !response!.equals(serving)) notServing += 1;
    });
  }, healthEveryMs);
  const answers: Promise<void>[] = [];
  await runSchedule({
    count: calls.length,
    dueMs: (index) => (index * 1_000) / perSecond,
    send: (index, scheduledAtMs) => {
      const { method, message } = calls[index]!;
      const bytes = Buffer.from(message.buffer, message.byteOffset, message.byteLength);
      const answered = new Promise<void>((resolve) => {
        channels.send(method, bytes, timeoutMs, (error) => {
          const outcome = outcomeOf(error ? readFailure(error) : undefined);
          phaseOf(index)?.add(outcome, performance.now() - scheduledAtMs);
          resolve();
        });
      });
      answers.push(answered);
    },
  });
  await Promise.all(answers);
  clearInterval(look);
  channels.close();
  health.close();
  return { quiet: quiet.result(), during: during.result(), notServing };
});

class Phase {
  readonly #latencies = new Latencies();
  readonly #tally = new Tally();

  add(outcome: string, latencyMs: number): void {
    this.#latencies.record(latencyMs);
    this.#tally.add(outcome);
  }

  result(): BystanderPhase {
    return { ...this.#latencies.summary(), outcomes: this.#tally.toRecord() };
  }
}
