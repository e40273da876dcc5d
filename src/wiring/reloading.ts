import { WrongSetting } from "../config.js";
import type { Job } from "../jobs/job-loop.js";
import type { Logger } from "../platform/logger.js";
import { type NamedFile, WatchedFiles } from "../platform/watched-files.js";

/** A file that was exchanged is in use about this soon. */
const pauseMs = 5_000;

/** Reads the files now, and gives the job that reads them again. What is no good now refuses the start; later the old ones stay. */
export function reloading(
  name: string,
  log: Logger,
  files: readonly NamedFile[],
  use: (texts: readonly string[]) => void,
): Job {
  let isStart = true;
  const watched = begin(
    () =>
      new WatchedFiles(files, (texts) => {
        use(texts);
        if (!isStart) log.info({ files: files.map(({ setting }) => setting) }, "files were read anew");
        isStart = false;
      }),
  );
  return { name, pauseMs, run: () => watched.check() };
}

function begin(watch: () => WatchedFiles): WatchedFiles {
  try {
    return watch();
  } catch (error) {
    throw new WrongSetting([(error as Error).message]);
  }
}
