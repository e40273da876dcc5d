/** After this many sends in one turn of the event loop the answers get a turn, however late the schedule is. */
const maxSendsPerTurn = 256;

export interface Schedule {
  readonly count: number;
  /** When request `index` is due, in milliseconds after the start. Must not decrease. */
  dueMs(index: number): number;
  /** `scheduledAtMs` is on the clock of `performance.now()`: latency counts from there, so a late sender hides nothing. */
  send(index: number, scheduledAtMs: number): void;
}

/**
 * Sends every request when it is due, whatever became of the ones before (open loop). Each wake-up looks at the clock
 * and sends all that is due, so timer drift does not add up.
 */
export function runSchedule({ count, dueMs, send }: Schedule): Promise<void> {
  const startedAtMs = performance.now();
  let next = 0;
  return new Promise((resolve, reject) => {
    const turn = () => {
      try {
        for (let sent = 0; next < count; sent += 1, next += 1) {
          const scheduledAtMs = startedAtMs + dueMs(next);
          const waitMs = scheduledAtMs - performance.now();
          if (waitMs > 0) {
            setTimeout(turn, waitMs);
            return;
          }
          if (sent === maxSendsPerTurn) {
            setImmediate(turn);
            return;
          }
          send(next, scheduledAtMs);
        }
        resolve();
      } catch (error) {
        reject(error);
      }
    };
    turn();
  });
}
