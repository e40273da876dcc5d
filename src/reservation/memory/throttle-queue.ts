import type { Throttle } from "../../domain/coupon.js";
import type { Admission, AdmissionRequest } from "../port.js";
import { throttleSecondMs, ticketSlack } from "../port.js";

/** As many ends as the fastest throttle looks back on. */
const maxEnded = 1_000;

/** The queue of a throttled coupon. It has a clock of its own, see `admit.lua`. */
export class ThrottleQueue {
  private nextTicket = 0;
  private behindMs = 0;
  /** When reservations ended, the latest last. */
  private readonly ended: number[] = [];

  /** RESERVED, if this is the moment to begin. */
  join(request: AdmissionRequest, throttle: Throttle, pendingCount: number, nowMs: number): Admission {
    const { patienceMs = throttle.maxWaitMs } = request;
    const intervalMs = (1_000 * (1 + ticketSlack)) / throttle.maxPerSecond;
    const clockMs = nowMs - this.behindMs;
    const ticket = request.ticket ?? Math.max(this.nextTicket, clockMs);
    const stopMs = ticket <= clockMs ? this.busyMs(throttle, pendingCount, nowMs, intervalMs) : 0;
    const waitMs = ticket <= clockMs ? stopMs : ticket - clockMs;
    const limitMs = request.ticket === undefined ? Math.min(patienceMs, throttle.maxWaitMs) : patienceMs;
    if (waitMs > 0 && waitMs > limitMs)
      return { outcome: "THROTTLED", waitMs: Math.ceil(waitMs - limitMs), queueMs: Math.ceil(limitMs) };
    if (request.ticket === undefined) this.nextTicket = ticket + intervalMs;
    if (stopMs > 0) this.behindMs = nowMs + stopMs - ticket;
    return waitMs > 0 ? { outcome: "WAIT", waitMs: Math.ceil(waitMs), ticket } : { outcome: "RESERVED", ticket };
  }

  /** Whether nothing in it matters any more, see `admit.lua` and `settle.lua` for the times. */
  isOver(nowMs: number): boolean {
    return this.nextTicket + this.behindMs + 600_000 < nowMs && (this.ended.at(-1) ?? 0) + 60_000 < nowMs;
  }

  end(nowMs: number): void {
    this.ended.push(nowMs);
    if (this.ended.length > maxEnded) this.ended.shift();
  }

  private busyMs(throttle: Throttle, begun: number, nowMs: number, intervalMs: number): number {
    const { maxConcurrent, maxPerSecond } = throttle;
    if (begun >= maxConcurrent || begun >= maxPerSecond) return intervalMs;
    const endedMs = this.ended.at(begun - maxPerSecond);
    return endedMs === undefined ? 0 : Math.max(0, endedMs + throttleSecondMs - nowMs);
  }
}
