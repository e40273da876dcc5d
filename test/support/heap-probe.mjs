import { getHeapSpaceStatistics } from "node:v8";

// Loaded into a process with `--import`: tells its parent how many bytes its old generation has, when it is asked.
process.on("message", () => {
  const old = getHeapSpaceStatistics().find(({ space_name: name }) => name === "old_space");
  process.send?.(old?.space_used_size ?? 0);
});
process.channel?.unref();
