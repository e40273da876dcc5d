import { isIP } from "node:net";
import {
  type Connection,
  instancesChannel,
  murmur2,
  ProduceAcks,
  Producer,
  type ProducerOptions,
  stringSerializer,
} from "@platformatic/kafka";
import type { KafkaSettings } from "../platform/relay/kafka-settings.js";
import { within } from "../platform/within.js";
import type { EventRecord, Publisher } from "./port.js";

/** To one broker. */
const connectMs = 3_000;
const closeMs = 1_000;
/** Who leads a partition is asked at least so often; and after each failure. */
const metadataMaxAgeMs = 60_000;

type EventProducer = Producer<string, Buffer, string, string>;

/**
 * Publishes to one topic of Kafka. One request at a time to each broker, with `acks=all`; after a failure the connections are cut and all
 * is begun anew. The library's own attempts are off: it would repeat a part of a batch beside what is published next.
 */
export class KafkaPublisher implements Publisher {
  private open: { readonly producer: EventProducer; readonly connections: Set<Connection> } | undefined;
  /** Which broker of the list is asked first. The library itself goes on to the next one when it cannot connect, not when no answer comes. */
  private first = 0;

  constructor(private readonly settings: KafkaSettings) {}

  async publish(records: readonly EventRecord[], limitMs: number): Promise<void> {
    const { topic, brokers } = this.settings;
    const { first } = this;
    this.open ??= openProducer(
      { ...this.settings, brokers: [...brokers.slice(first), ...brokers.slice(0, first)] },
      limitMs,
    );
    const messages = records.map(({ key, headers, value }) => ({ topic, key, headers, value: Buffer.from(value) }));
    try {
      await within(this.open.producer.send({ messages, acks: ProduceAcks.ALL }), limitMs, () => {
        throw new Error(`no answer within ${limitMs} ms`);
      });
    } catch (error) {
      await this.close();
      this.first = (first + 1) % brokers.length;
      const { message, code } = reasonOf(error);
      const failure = new Error(`kafka: events were not published to the topic ${topic}: ${message}`, { cause: error });
      throw Object.assign(failure, { code });
    }
  }

  async close(): Promise<void> {
    const { open } = this;
    this.open = undefined;
    if (!open) return;
    // A broker that is frozen would not close its end.
    for (const { socket } of open.connections) socket?.destroy();
    await within(Promise.resolve(open.producer.close()), closeMs, () => {}).catch(() => {});
    for (const { socket } of open.connections) socket?.destroy();
  }
}

function openProducer(settings: KafkaSettings, limitMs: number) {
  const { brokers, tls, sasl } = settings;
  const connections = new Set<Connection>();
  const options: ProducerOptions<string, Buffer, string, string> = {
    clientId: "coupon-service",
    bootstrapBrokers: [...brokers],
    // Also what a broker may wait for its followers.
    ...{ timeout: limitMs, connectTimeout: connectMs, retries: 0, metadataMaxAge: metadataMaxAgeMs },
    ...{ maxInflights: 1, idempotent: false, autocreateTopics: false, repeatOnStaleMetadata: false },
    partitioner: ({ key }) => partitionHash(key as string),
    serializers: { key: stringSerializer, headerKey: stringSerializer, headerValue: stringSerializer },
    ...(tls && { tls: { ...tls }, tlsServerName: brokers.every(({ host }) => isIP(host) === 0) }),
    ...(sasl && { sasl }),
  };
  const producer: EventProducer = new Producer(options);
  watchConnections(producer.instanceId, connections);
  return { producer, connections };
}

const watched = new Map<number, Set<Connection>>();
let isWatching = false;

/**
 * Gets to know the connections of a producer. The library tells of them nowhere else. An error on one that has failed before would end the
 * process, for nobody listens to it any more.
 */
function watchConnections(producerId: number, connections: Set<Connection>): void {
  watched.clear();
  watched.set(producerId, connections);
  if (isWatching) return;
  isWatching = true;
  instancesChannel.subscribe((message) => {
    const { type, instance } = message as { type: string; instance: unknown };
    if (type !== "connection") return;
    const connection = instance as Connection;
    connection.on("error", () => {});
    for (const set of watched.values()) {
      set.add(connection);
      connection.once("close", () => set.delete(connection));
    }
  });
}

/** As the clients of Kafka itself choose the partition of a key. The library takes the number's sign for a part of it. */
function partitionHash(key: string): number {
  return murmur2(key) & 0x7fff_ffff;
}

/** The first reason of all: the library wraps errors into errors. `code` tells its kind, in the words of Kafka or of the network. */
function reasonOf(error: unknown): { message: string; code?: string | undefined } {
  let at = error;
  for (let depth = 0; depth < 10; depth++) {
    const [first] = at instanceof AggregateError ? at.errors : [];
    const next = first ?? (at as Error | undefined)?.cause;
    if (!next) break;
    at = next;
  }
  if (!(at instanceof Error)) return { message: String(at) };
  const { message, apiId, code } = at as Error & { apiId?: string; code?: string };
  return { message, code: apiId ?? code };
}
