import { setTimeout as sleep } from "node:timers/promises";
import { fromBinary } from "@bufbuild/protobuf";
import { Channels } from "../bench/load/channels.js";
import { Latencies, type LatencySummary } from "../bench/load/latency.js";
import { callPersistently } from "../bench/load/persistent-call.js";
import { runSchedule } from "../bench/load/schedule.js";
import { encode, pathOf } from "../bench/support/api.js";
import {
  IssuanceService,
  IssueCouponRequestSchema,
  IssueCouponResponseSchema,
} from "../gen/coupon/v1/issuance_service_pb.js";
import { type Acknowledgement, type Counts, type Ending, Ledger } from "./ledger.js";
import { makePlan, type PlanOptions, userIdOf } from "./plan.js";

const connectionsPerTarget = 2;
const reportEveryMs = 200;
/** Who wants a free ride comes again when told to, for a minute and more: a busy machine serves fewer than arrive. */
const patience = { attemptTimeoutMs: 5_000, maxAttempts: 25 };

/** Code that has just been started is slow until it is compiled, on both sides: so the crowd rehearses a little. */
const rehearsal = { requests: 2_000, requestsPerSecond: 800 };

export interface CrowdJob {
  readonly targets: readonly string[];
  readonly couponId: string;
  /** What the rehearsal asks for; nothing of it is counted. */
  readonly rehearsalCouponId: string;
  readonly plan: PlanOptions;
}

export interface CrowdReport extends Counts, LatencySummary {
  readonly offered: number;
  readonly completed: number;
  /** Attempts beyond the first, after failures that may pass. */
  readonly retries: number;
  readonly contradictions: number;
  readonly errorsByReason: Readonly<Record<string, number>>;
  /** In ms since 1970; null: nobody was told so. */
  readonly firstSoldOutAtMs: number | null;
  /** Since the first request was due, up to the last answer. */
  readonly durationS: number;
  /** Those since the report before. */
  readonly acknowledgements: readonly Acknowledgement[];
  /** Users of whose requests one ended without a clear answer, since the report before. */
  readonly unclearUsers: readonly number[];
}

/** Sends the whole plan, open loop, and reports on the way. The last report is the result. */
export async function runCrowd(job: CrowdJob, report: (progress: CrowdReport) => void): Promise<CrowdReport> {
  const channels = new Channels({ targets: job.targets, connectionsPerTarget });
  await channels.connect();
  const { seed } = job.plan;
  await offer(channels, job.rehearsalCouponId, { seed, ...rehearsal }, () => {});
  const result = await offer(channels, job.couponId, job.plan, report);
  channels.close();
  return result;
}

async function offer(
  channels: Channels,
  couponId: string,
  planOptions: PlanOptions,
  report: (progress: CrowdReport) => void,
): Promise<CrowdReport> {
  const plan = makePlan(planOptions);
  const nameOf = (user: number) => userIdOf(planOptions.seed, user);
  const ledger = new Ledger(plan, nameOf);
  const latencies = new Latencies();
  const method = pathOf(IssuanceService.method.issueCoupon);
  const startedAtMs = performance.now();
  let offered = 0;
  let completed = 0;
  let retries = 0;
  let lastAnswerAtMs = startedAtMs;

  const ask = async (request: number, scheduledAtMs: number): Promise<void> => {
    offered += 1;
    const message = encode(IssueCouponRequestSchema, {
      target: { case: "couponId", value: couponId },
      userId: nameOf(plan.userOf[request]!),
      requestId: `${couponId.slice(-12)}-${plan.intentOf[request]}`,
    });
    const owed = ledger.owed(request);
    const answer = await callPersistently(channels, method, message, patience);
    lastAnswerAtMs = performance.now();
    latencies.record(lastAnswerAtMs - scheduledAtMs);
    retries += answer.attempts - 1;
    completed += 1;
    ledger.note(request, endingOf(answer.response, answer.failure?.reason), owed);
  };
  const state = (): CrowdReport => ({
    offered,
    completed,
    ...ledger.counts,
    retries,
    contradictions: ledger.contradictions,
    errorsByReason: ledger.errorsByReason,
    firstSoldOutAtMs: ledger.firstSoldOutAtMs,
    durationS: ((completed === plan.count ? lastAnswerAtMs : performance.now()) - startedAtMs) / 1_000,
    ...latencies.summary(),
    acknowledgements: ledger.takeAcknowledgements(),
    unclearUsers: ledger.takeUnclear(),
  });

  const underWay = new Set<Promise<void>>();
  const schedule = runSchedule({
    count: plan.count,
    dueMs: plan.dueMs,
    send(request, scheduledAtMs) {
      const asking = ask(request, scheduledAtMs).finally(() => underWay.delete(asking));
      underWay.add(asking);
    },
  });
  const done = schedule.then(() => Promise.all(underWay)).then(() => true);
  while (!(await Promise.race([done, sleep(reportEveryMs, false)]))) report(state());
  ledger.close();
  return state();
}

function endingOf(response: Buffer | undefined, refusal: string | undefined): Ending {
  if (!response) return { refusal: refusal ?? "NO_ANSWER" };
  const { userCoupon } = fromBinary(IssueCouponResponseSchema, response);
  return userCoupon ? { userCouponId: userCoupon.id, userId: userCoupon.userId } : { refusal: "EMPTY_ANSWER" };
}
