import { type OpenQueue, Queues } from "../batching/queues.js";
import type { Config } from "../config.js";
import type { GateKeeper } from "../issuing/gate-keeper.js";
import { Issuer } from "../issuing/issuer.js";
import { LastUnits } from "../issuing/last-units.js";
import { TypeIssuer } from "../issuing/type-issuer.js";
import type { Clock } from "../platform/clock.js";
import type { FailureLog } from "../platform/failure-log.js";
import type { QuotaDays } from "../platform/quotas/quota-days.js";
import type { BatchMetrics } from "../platform/telemetry/batch-metrics.js";
import type { GateMetrics } from "../platform/telemetry/gate-metrics.js";
import type { Gate } from "../reservation/port.js";
import { openCancels } from "../using/cancels.js";
import { Checkout } from "../using/checkout.js";
import type { Bounds } from "./bounds.js";
import type { Stores } from "./stores.js";

export type Engines = ReturnType<typeof openEngines>;

export interface EngineParts {
  readonly stores: Stores;
  readonly gate: Gate;
  readonly keeper: GateKeeper;
  readonly quotaDays: QuotaDays;
  readonly clock: Clock;
  readonly openQueue: OpenQueue;
  readonly batches: Bounds["batches"];
  readonly reservationMs: Config["RESERVATION_MS"];
  readonly failures: Pick<FailureLog, "failed">;
  readonly metrics?: Pick<GateMetrics, "admitted" | "placeTaken">;
}

/** In which what the engines decide is gathered, to be committed in batches. */
export function openQueues(metrics: BatchMetrics, failures: Pick<FailureLog, "failed">): Queues {
  return new Queues({
    onBatch: (queue, size) => metrics.begun(queue, size),
    onWaited: (queue, ms) => metrics.waited(queue, ms),
    onCommitted: (queue, ms) => metrics.committed(queue, ms),
    onAfterCommitError: (queue, error) => failures.failed(`settle ${queue}`, error),
  });
}

/** What decides who gets a coupon, and what it is worth to an order. */
export function openEngines({ stores, failures, metrics, ...parts }: EngineParts) {
  const onSettleError = (error: unknown) => failures.failed("settle use", error);
  const lastUnits = new LastUnits(stores.issues, stores.targets);
  const issuer = new Issuer({
    ...parts,
    store: stores.issues,
    lastUnits,
    userCoupons: stores.userCoupons,
    onAdmission: metrics && ((...said) => metrics.admitted(...said)),
  });
  return {
    issuer,
    typeIssuer: new TypeIssuer(issuer, stores.targets),
    checkout: new Checkout({
      ...{ ...parts, store: stores.usages, onSettleError },
      onPlace: metrics && ((...said) => metrics.placeTaken(...said)),
    }),
    cancels: openCancels(parts.openQueue, stores.usages, parts.keeper),
  };
}
