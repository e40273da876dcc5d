import { execFile } from "node:child_process";
import { availableParallelism } from "node:os";
import { promisify } from "node:util";

const run = promisify(execFile);

/** Asked for once: it does not count the cores from which this process was kept since. */
const coreCount = availableParallelism();

/** As `pinTo` takes them. */
export const allCores = `0-${coreCount - 1}`;

/**
 * Lets this process, and what it starts from now on, run on these cores only ("0", "0-1"), where util-linux' `taskset` can
 * do that. Answers whether it could. So the service and its stores are kept to one core, and who calls them to another:
 * else an attacker takes from the service what it needs for itself.
 */
export async function pinTo(cores: string): Promise<boolean> {
  if (coreCount < 2) return false;
  try {
    await run("taskset", ["--all-tasks", "--pid", "--cpu-list", cores, `${process.pid}`]);
    return true;
  } catch {
    return false;
  }
}
