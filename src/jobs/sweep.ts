import type { GateKeeper } from "../issuing/gate-keeper.js";
import type { Job } from "./job-loop.js";

/** Settles the reservations of processes that died, and compares what the gate counts with what is stored. */
export function sweep(keeper: Pick<GateKeeper, "sweep">): Job {
  return { name: "sweep", pauseMs: 1_000, run: () => keeper.sweep() };
}
