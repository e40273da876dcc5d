import { execFile } from "node:child_process";
import { promisify } from "node:util";

const run = promisify(execFile);

/**
 * Lets this process, and what it starts from now on, run on one core only, where util-linux' `taskset` can do that.
 * Answers whether it could. So the service and its stores are kept to one core, and who calls them to another: else an
 * attacker takes from the service what it needs for itself.
 */
export async function pinTo(core: number): Promise<boolean> {
  try {
    await run("taskset", ["--all-tasks", "--pid", "--cpu-list", `${core}`, `${process.pid}`]);
    return true;
  } catch {
    return false;
  }
}
