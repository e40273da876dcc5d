import { setTimeout as pause } from "node:timers/promises";
import type { EmbeddedEvent, ServerName } from "./protocol.js";
import type { ServerProcess } from "./server-process.js";

const restartPauseMs = 1_000;
const restartWindowMs = 60_000;
const maxRestartsPerWindow = 10;

/**
 * Starts a server again each time it dies, until the signal is aborted. A start that fails counts as a restart, so a
 * server that cannot run is tried ten times a minute and no more.
 */
export async function keepRunning(
  name: ServerName,
  first: ServerProcess,
  restart: () => Promise<ServerProcess>,
  report: (event: EmbeddedEvent) => void,
  signal: AbortSignal,
): Promise<void> {
  const starts: number[] = [];
  const aborted = new Promise<string>((resolve) => {
    signal.addEventListener("abort", () => resolve("stopped"), { once: true });
  });
  let reason = await Promise.race([first.ended, aborted]);
  while (!signal.aborted) {
    const oldest = starts.length < maxRestartsPerWindow ? undefined : starts.shift();
    const waitMs = oldest === undefined ? 0 : oldest + restartWindowMs - Date.now();
    await pause(Math.max(restartPauseMs, waitMs), undefined, { signal }).catch(() => {});
    if (signal.aborted) {
      return;
    }
    starts.push(Date.now());
    try {
      const server = await restart();
      report({ type: "restarted", server: name, pid: server.pid, reason });
      reason = await Promise.race([server.ended, aborted]);
    } catch (error) {
      reason = (error as Error).message;
      if (!signal.aborted) {
        report({ type: "restart-failed", server: name, reason });
      }
    }
  }
}
