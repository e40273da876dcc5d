import { serveOneJob } from "../load/worker-side.js";
import { type OfferJob, type OfferResult, offer } from "./offer.js";

serveOneJob<OfferJob, never, OfferResult>(offer);
