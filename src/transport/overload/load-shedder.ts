import { performance } from "node:perf_hooks";
import type { CallKind } from "../../domain/caller-limits.js";
import { type Failure, failureBeforeCall } from "../error-table.js";
import { Admission, type Permit } from "./admission.js";
import { ConnectionShedder, type Sheddable } from "./connection-shedder.js";
import type { TurnWatch } from "./read-turns.js";
import { ShedLog } from "./shed-log.js";

const checkPauseMs = 100;
/** With less than this share of the limit at work many more may be. */
const headroomShare = 0.4;

export interface OverloadMetrics {
  /** A call for which there was no permit. */
  shedCall(rpc: string, kind: CallKind): void;
  /** A call that was refused for another reason. */
  refusedCall(rpc: string, reason: string): void;
  shedConnections(count: number): void;
  /** Asked when metrics are collected. */
  watchOverload(state: () => OverloadState): void;
}

export interface OverloadState {
  readonly limit: number;
  readonly atWork: number;
  readonly waiting: number;
  readonly maxConnections: number;
}

export interface LoadShedderOptions {
  /** Calls at work at most, whatever the limit finds. */
  readonly maxAtWork: number;
  readonly maxConnections: number;
  /** Whether Postgres answers. While it does not, calls are refused at once. */
  readonly isServing: () => boolean;
  readonly metrics: OverloadMetrics;
  readonly log: { warn(details: object, message: string): void };
}

/** A call before anything is made of it. */
export interface ArrivingCall {
  readonly rpc: string;
  readonly kind: CallKind;
  /** In ms since 1970; Infinity: the caller did not say. */
  readonly deadlineMs: number;
  admit(permit: Permit): void;
  /** It was refused: what to say. */
  refuse(failure: Failure): void;
}

/**
 * Where both front ends ask before they make a call of what arrives. What is refused here has cost little: no message
 * was read, nothing was decoded, no line was logged.
 */
export class LoadShedder implements TurnWatch {
  private readonly admission: Admission;
  private readonly shedder: ConnectionShedder;
  private readonly shedLog: ShedLog;
  private readonly timer: NodeJS.Timeout;
  private readonly limiters: ((most: number) => void)[] = [];
  private loop = performance.eventLoopUtilization();

  constructor(private readonly options: LoadShedderOptions) {
    const { maxAtWork, maxConnections, metrics, log } = options;
    this.admission = new Admission({
      maxAtWork,
      onEnd: () => this.shedder.served(),
      isFlooded: () => this.shedder.hasJustShed,
    });
    this.shedLog = new ShedLog((rpc, count) => log.warn({ rpc, count, status: "OVERLOADED" }, "calls turned away"));
    this.shedder = new ConnectionShedder({
      maxConnections,
      setMaxConnections: (most) => {
        for (const set of this.limiters) set(most);
      },
      busyShare: () => this.busyShare(),
      hasHeadroom: () => this.admission.waiting === 0 && this.admission.atWork < this.admission.most * headroomShare,
      isCrowded: () => this.admission.isCrowded,
      atTurnsEnd: setImmediate,
      onShed: (count) => {
        metrics.shedConnections(count);
        this.shedLog.add("connections", count);
      },
    });
    this.timer = setInterval(() => setImmediate(() => this.shedder.check()), checkPauseMs);
    this.timer.unref();
    metrics.watchOverload(() => ({
      limit: this.admission.most,
      atWork: this.admission.atWork,
      waiting: this.admission.waiting,
      maxConnections: this.shedder.most,
    }));
  }

  /** Told at once, and from then on, how many connections are to be taken at most. */
  limitConnections(set: (most: number) => void): void {
    this.limiters.push(set);
    set(this.shedder.most);
  }

  /** The port is taken by somebody else at the moment it is to be listened on again. */
  cannotListen(error: Error): void {
    this.options.log.warn({ err: error }, "cannot listen again yet; no new connection is taken");
  }

  opened(connection: Sheddable): void {
    this.shedder.opened(connection);
  }

  closed(connection: Sheddable): void {
    this.shedder.closed(connection);
  }

  turnBegan(): void {
    this.shedder.turnBegan();
  }

  turnWasFull(): void {
    this.shedder.turnWasFull();
  }

  /** `connection`: by which it has come; null: one of HTTP/1.1, which has one call at a time and is not asked to go. */
  admitOrShed(connection: Sheddable | null, call: ArrivingCall): void {
    this.shedder.arrived(connection);
    if (!this.options.isServing()) {
      this.options.metrics.refusedCall(call.rpc, "STORE_UNAVAILABLE");
      call.refuse(failureBeforeCall("STORE_UNAVAILABLE"));
      return;
    }
    const permit = this.admission.enter(call.kind, connection);
    if (permit) {
      call.admit(permit);
      return;
    }
    this.admission.wait(
      { kind: call.kind, owner: connection, deadlineMs: call.deadlineMs },
      (admitted) => call.admit(admitted),
      () => this.shed(call),
    );
  }

  close(): void {
    clearInterval(this.timer);
    this.admission.close();
    this.shedLog.flush();
  }

  private shed(call: ArrivingCall): void {
    this.shedder.callShed();
    this.options.metrics.shedCall(call.rpc, call.kind);
    this.shedLog.add(call.rpc);
    call.refuse(failureBeforeCall("OVERLOADED"));
  }

  private busyShare(): number {
    const loop = performance.eventLoopUtilization();
    const { utilization } = performance.eventLoopUtilization(loop, this.loop);
    this.loop = loop;
    return utilization;
  }
}
