import { setTimeout as sleep } from "node:timers/promises";
import { Channels } from "../load/channels.js";
import { readFailure } from "../load/failure.js";
import { runSchedule } from "../load/schedule.js";
import { outcomeOf } from "./outcomes.js";
import type { Field } from "./weapon.js";

/** How long a weapon waits for an answer. Longer than the worst stall that was ever measured. */
export const weaponTimeoutMs = 30_000;

/** Sends one call and says how it ended; undefined: there is nothing left to send. */
export type Shoot = () => Promise<string> | undefined;

/** So many callers, each of which sends its next call when the last is answered, but no sooner than after a pause. */
export async function closedLoop(field: Field, callers: number, shoot: Shoot, pauseMs = 0): Promise<void> {
  const caller = async () => {
    while (Date.now() < field.untilMs) {
      const sentAtMs = Date.now();
      const shot = shoot();
      if (!shot) return;
      field.tally.add(await shot);
      if (pauseMs > 0) await sleep(Math.max(0, pauseMs - (Date.now() - sentAtMs)));
    }
  };
  await Promise.all(Array.from({ length: callers }, caller));
}

/** So many calls a second, whatever becomes of them. */
export async function openLoop(field: Field, perSecond: number, shoot: Shoot): Promise<void> {
  const shots: Promise<void>[] = [];
  await runSchedule({
    count: Math.floor(((field.untilMs - Date.now()) / 1_000) * perSecond),
    dueMs: (index) => (index * 1_000) / perSecond,
    send: () => {
      const shot = shoot();
      if (shot) shots.push(shot.then((outcome) => field.tally.add(outcome)));
    },
  });
  await Promise.all(shots);
}

/** Calls over native gRPC, as an honest client library makes them. */
export class Calls {
  readonly #channels: Channels;

  private constructor(channels: Channels) {
    this.#channels = channels;
  }

  static async over(connections: number, { grpcPort }: Field): Promise<Calls> {
    const channels = new Channels({ targets: [`127.0.0.1:${grpcPort}`], connectionsPerTarget: connections });
    await channels.connect();
    return new Calls(channels);
  }

  send(method: string, message: Uint8Array): Promise<string> {
    return new Promise((resolve) => {
      const bytes = Buffer.from(message.buffer, message.byteOffset, message.byteLength);
      this.#channels.send(method, bytes, weaponTimeoutMs, (error) => {
        resolve(outcomeOf(error ? readFailure(error) : undefined));
      });
    });
  }

  close(): void {
    this.#channels.close();
  }
}
