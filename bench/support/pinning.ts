import { execFile } from "node:child_process";
import { availableParallelism } from "node:os";
import { promisify } from "node:util";

/**
 * Keeps a process, and what it starts from then on, on the given cores ("0", "0-1"). Answers false where the system has
 * no `taskset` (util-linux) or only one core: then load and service share what there is.
 */
export async function pin(pid: number, cores: string): Promise<boolean> {
  if (availableParallelism() < 2) return false;
  return await promisify(execFile)("taskset", ["-acp", cores, String(pid)]).then(
    () => true,
    () => false,
  );
}

/** All cores of this machine, as `pin` takes them. */
export const allCores = `0-${availableParallelism() - 1}`;
