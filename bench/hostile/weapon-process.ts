import { setPriority } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { Tally } from "../load/tally.js";
import { serveOneJob } from "../load/worker-side.js";
import type { Fired, WeaponJob } from "./weapon.js";
import { weapons } from "./weapons/index.js";

/** The bystander shares a core with the weapon, and must not wait for it there. */
const niceness = 10;
/** Longer than any weapon's own time limits: this is for a weapon that hangs. */
const limitMs = 90_000;

serveOneJob<WeaponJob, never, Fired>(async (job) => {
  setPriority(niceness);
  const weapon = weapons.find(({ name }) => name === job.weapon)!;
  const tally = new Tally();
  const notes: string[] = [];
  const misses: string[] = [];
  let beganAtMs = job.fireAtMs;
  const fired = weapon.fire({
    ...job,
    tally,
    async begin() {
      const earlyMs = job.fireAtMs - Date.now();
      if (earlyMs < 0) notes.push(`began ${-earlyMs} ms late`);
      await sleep(Math.max(0, earlyMs));
      beganAtMs = Date.now();
    },
    note: (text) => notes.push(text),
    miss: (text) => misses.push(text),
  });
  const hung = sleep(limitMs, true, { ref: false });
  if ((await Promise.race([fired, hung])) === true) misses.push(`the weapon did not end within ${limitMs / 1_000} s`);
  return { outcomes: tally.toRecord(), seconds: (Date.now() - beganAtMs) / 1_000, notes, misses };
});
