import { serveOneJob } from "../bench/load/worker-side.js";
import { type CrowdJob, type CrowdReport, runCrowd } from "./crowd.js";

serveOneJob<CrowdJob, CrowdReport, CrowdReport>(runCrowd);
