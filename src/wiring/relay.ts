import { hostname } from "node:os";
import type { Config } from "../config.js";
import { EventReader } from "../following/event-reader.js";
import { EventRelay } from "../jobs/event-relay.js";
import type { JobLoop } from "../jobs/job-loop.js";
import type { FailureLog } from "../platform/failure-log.js";
import type { Logger } from "../platform/logger.js";
import type { Metrics } from "../platform/metrics.js";
import { kafkaSettings } from "../platform/relay/kafka-settings.js";
import { RelayMetrics } from "../platform/relay/relay-metrics.js";
import { cloudEvent } from "../services/event/cloud-event.js";
import { loopsOf } from "./jobs.js";
import type { Stores } from "./stores.js";

/** What publishes events to Kafka, if it is asked for; Kafka's library is not loaded otherwise. */
export async function openRelay(
  config: Config,
  stores: Stores,
  log: Logger,
  failures: FailureLog,
  metrics: Metrics,
): Promise<JobLoop[]> {
  const { KAFKA_TOPIC: topic, KAFKA_SOURCE: source, KAFKA_FORMAT: format } = config;
  const settings = kafkaSettings({ ...config, KAFKA_PASSWORD: config.KAFKA_PASSWORD?.reveal() });
  if (!settings) return [];
  const { KafkaPublisher } = await import("../publishing/kafka-publisher.js");
  const relay = new EventRelay({
    ...{ reader: new EventReader(stores.events), store: stores.relay, publisher: new KafkaPublisher(settings) },
    encode: (event) => cloudEvent(event, source, format),
    ...{ name: `kafka ${topic}`, holder: `${hostname()} ${process.pid}`, from: config.KAFKA_FROM },
    ...{ log, metrics: new RelayMetrics(metrics.registry) },
  });
  return loopsOf([relay], failures, metrics);
}
