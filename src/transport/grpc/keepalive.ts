import type { ServerHttp2Session } from "node:http2";
import { steadyMs } from "../../platform/clock.js";

/** A connection on which nothing is heard is asked for a sign of life, and closed when none comes. */
const pingPauseMs = 30_000;
const answerMs = 10_000;

/**
 * Pings HTTP/2 connections. Not those that were told to go: a ping that cannot be sent any more would cut off the calls
 * that are still under way on them.
 */
export class Keepalive {
  private readonly sessions = new Map<ServerHttp2Session, { askedAtMs: number | null }>();
  private readonly timer: NodeJS.Timeout;

  constructor() {
    this.timer = setInterval(() => this.check(steadyMs()), answerMs);
    this.timer.unref();
  }

  add(session: ServerHttp2Session): void {
    const state = { askedAtMs: null };
    this.sessions.set(session, state);
    session.once("close", () => this.sessions.delete(session));
  }

  close(): void {
    clearInterval(this.timer);
  }

  private rounds = 0;

  private check(nowMs: number): void {
    this.rounds += 1;
    const isTimeToAsk = this.rounds % (pingPauseMs / answerMs) === 0;
    for (const [session, state] of this.sessions) {
      if (session.closed || session.destroyed) continue;
      if (state.askedAtMs !== null) {
        if (nowMs - state.askedAtMs >= answerMs) session.destroy();
      } else if (isTimeToAsk) {
        const sent = session.ping((error) => {
          if (!error) state.askedAtMs = null;
        });
        if (sent) state.askedAtMs = nowMs;
      }
    }
  }
}
