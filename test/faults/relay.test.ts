import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { rootCertificates } from "node:tls";
import { fromBinary } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { freePort } from "../../embedded/free-port.js";
import { EventKind, EventSchema } from "../../gen/coupon/v1/event_pb.js";
import { packageRoot } from "../../src/platform/package-root.js";
import { type SaslMechanism, saslMechanisms } from "../../src/platform/relay/kafka-settings.js";
import { KafkaPublisher } from "../../src/publishing/kafka-publisher.js";
import { createSample, issue } from "../e2e/samples.js";
import { type ConsumedRecord, findKafka, KafkaBroker, kafkaPassword, kafkaUser } from "../support/kafka-broker.js";
import { type Replica, type ReplicaProcess, startReplica } from "../support/replica.js";
import { backing, oneReplica } from "../support/service.js";
import { until } from "../support/until.js";

const scale = Number(process.env.FAULT_SCALE ?? 0.1);
const classPath = findKafka();
const couponCount = 5;
const writers = 4;
/** What happens one after the other: a replica is killed, the broker is killed. */
const rounds = Math.max(1, Math.round(5 * scale));

/** `series`: as /metrics has it, with its labels. */
async function metric({ httpPort }: Replica, series: string): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${httpPort}/metrics`)).text();
  const line = text.split("\n").find((one) => one.startsWith(`${series} `));
  return Number(line?.slice(series.length + 1));
}

test("while Kafka is away the service does its work, says so once, and stops in order", async () => {
  const { replica, sql } = await oneReplica(onTestFinished, {
    KAFKA_BROKERS: `127.0.0.1:${await freePort()}`,
    LOG_LEVEL: "error",
  });
  const coupon = await createSample(replica.client, { quantity: 100n });
  const failed = 'coupon_job_runs_total{job="relay events",outcome="FAILED"}';
  await until("it has failed again", async () => (await metric(replica, failed)) >= 3);
  await issue(replica.client, coupon.id, randomUUID());
  await until("it is seen to be behind", async () => (await metric(replica, "coupon_relay_lag_seconds")) > 0);
  const lines = replica
    .log()
    .split("\n")
    .filter((line) => line.includes('"work":"relay events"'));
  expect(lines).toHaveLength(1);
  expect(lines[0]).toContain("coupon.events");
  await replica.stop();
  expect(await sql`SELECT held_until FROM relay_state`).toEqual([{ held_until: null }]);
});

describe.skipIf(!classPath)("with a real Kafka (RUN_KAFKA=1, with Java and Maven)", () => {
  let broker: KafkaBroker;
  beforeAll(async () => {
    broker = await KafkaBroker.start(classPath as string);
  });
  afterAll(() => broker.close());

  test("by TLS and with each mechanism records come to the topic, and with a wrong password none does", async () => {
    await broker.createTopic("secured", 1);
    const [host = "", port] = broker.secureAddress.split(":");
    const ca = readFileSync(join(packageRoot(), "test/support/tls/ca.pem"), "utf8");
    const publish = async (mechanism: SaslMechanism, username: string, password: string, tls = { ca }) => {
      const sasl = { mechanism, username, password };
      const publisher = new KafkaPublisher({ brokers: [{ host, port: Number(port) }], topic: "secured", tls, sasl });
      try {
        await publisher.publish([{ key: mechanism, headers: {}, value: Buffer.from(username) }], 10_000);
      } finally {
        await publisher.close();
      }
    };
    for (const mechanism of saslMechanisms) {
      await expect(publish(mechanism, kafkaUser, "wrong")).rejects.toThrow(/SASL|authentication/i);
      await publish(mechanism, kafkaUser, kafkaPassword);
    }
    const strange = { ca: rootCertificates[0] as string };
    await expect(publish("PLAIN", kafkaUser, kafkaPassword, strange)).rejects.toThrow(/certificate/);
    const keys: string[] = [];
    const consumer = await broker.consume("secured", ({ key }) => keys.push(key));
    await until("all are there", () => keys.length >= saslMechanisms.length);
    await consumer.close();
    expect(keys).toEqual(saslMechanisms);
  });

  test("what Kafka refuses is told by its own word, so that one trouble is told apart from the next", async () => {
    await broker.createTopic("told", 1);
    const [host = "", port] = broker.address.split(":");
    const publish = async (topic: string, bytes: number, to = Number(port)) => {
      const brokers = [{ host, port: to }];
      const publisher = new KafkaPublisher({ brokers, topic, tls: undefined, sasl: undefined });
      try {
        await publisher.publish([{ key: "k", headers: {}, value: Buffer.alloc(bytes) }], 10_000);
      } finally {
        await publisher.close();
      }
    };
    await expect(publish("told", 1, await freePort())).rejects.toMatchObject({ code: "ECONNREFUSED" });
    await expect(publish("missing", 1)).rejects.toMatchObject({ code: "UNKNOWN_TOPIC_OR_PARTITION" });
    await expect(publish("told", 2 * 2 ** 20)).rejects.toMatchObject({ code: "MESSAGE_TOO_LARGE" });
  });

  test("replicas and the broker are killed while events are written: none is missed, and each coupon's come in order", async () => {
    const topic = "coupon.events";
    await broker.createTopic(topic, 3);
    const { stores, sql } = await backing(onTestFinished);
    const settings = { KAFKA_BROKERS: broker.address };
    const replicas: ReplicaProcess[] = await Promise.all([
      startReplica(stores, settings),
      startReplica(stores, settings),
    ]);
    onTestFinished(async () => void (await Promise.all(replicas.map((replica) => replica.stop()))));
    const { client } = replicas[0] as ReplicaProcess;
    const coupons = await Promise.all(
      Array.from({ length: couponCount }, () => createSample(client, { quantity: 1_000_000n })),
    );

    let isWriting = true;
    const writing = Promise.all(
      Array.from({ length: writers }, async (_, writer) => {
        for (let n = writer; isWriting; n++) {
          const to = replicas[n % replicas.length] as ReplicaProcess;
          // One that was killed does not answer.
          await issue(to.client, coupons[n % couponCount]?.id as string, randomUUID()).catch(() => {});
        }
      }),
    );
    /** Numbers of events that the relay has dealt with. */
    const placeMoves = async () => {
      const at = async () => Number((await sql`SELECT place_seq FROM relay_state`)[0]?.place_seq ?? 0);
      const before = await at();
      await until("the place moves", async () => (await at()) > before, 60_000);
    };
    for (let round = 0; round < rounds; round++) {
      await placeMoves();
      const holder = (await until("one holds the lease", async () => {
        const holds = await Promise.all(replicas.map((replica) => metric(replica, "coupon_relay_holder")));
        return replicas.find((_, n) => holds[n] === 1);
      })) as ReplicaProcess;
      await holder.kill();
      await placeMoves();
      replicas[replicas.indexOf(holder)] = await startReplica(stores, settings);
      await broker.kill();
      await until("it is missed", async () =>
        (await Promise.all(replicas.map((replica) => metric(replica, "coupon_relay_holder")))).every(
          (holds) => holds === 0,
        ),
      );
      await broker.restart();
    }
    await placeMoves();
    isWriting = false;
    await writing;

    const stored = (await sql`SELECT seq || '-' || xid AS id, coupon_id FROM events ORDER BY seq`) as unknown as {
      id: string;
      coupon_id: string;
    }[];
    const seen = new Map<string, ConsumedRecord>();
    const last = stored.at(-1)?.id as string;
    const consumer = await broker.consume(topic, (record) => {
      const { ce_id: id } = record.headers;
      if (!seen.has(id as string)) seen.set(id as string, record);
    });
    await until("the last event is there", () => seen.has(last), 60_000);
    await until("all events are there", () => seen.size >= stored.length, 20_000).catch(() => {});
    await consumer.close();

    const missing = stored.filter(({ id }) => !seen.has(id));
    expect(missing).toEqual([]);
    const byCoupon = (all: readonly { id: string; coupon_id: string }[]) =>
      coupons.map(({ id }) => all.filter(({ coupon_id }) => coupon_id === id).map((event) => event.id));
    expect(byCoupon([...seen].map(([id, { key }]) => ({ id, coupon_id: key })))).toEqual(byCoupon(stored));

    const { headers, key, value } = seen.get(last) as ConsumedRecord;
    const event = fromBinary(EventSchema, value);
    expect(event).toMatchObject({ id: last, couponId: key, kind: EventKind.USER_COUPON_ISSUED });
    expect(headers).toMatchObject({
      ...{ ce_specversion: "1.0", ce_source: "/coupon-service", ce_type: "coupon.v1.USER_COUPON_ISSUED" },
      ...{ ce_subject: `user-coupons/${event.userCouponId}`, "content-type": "application/protobuf" },
    });
    await Promise.all(
      replicas.map((replica) =>
        until("nothing is left", async () => (await metric(replica, "coupon_relay_lag_events")) === 0),
      ),
    );
  });
});
