import type { LoadJob, LoadResult } from "./job.js";
import { runJob } from "./run-job.js";
import { serveOneJob } from "./worker-side.js";

serveOneJob<LoadJob, never, LoadResult>(runJob);
