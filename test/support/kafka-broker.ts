import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { Admin, Consumer, MessagesStreamModes, stringDeserializer } from "@platformatic/kafka";
import { freePort } from "../../embedded/free-port.js";
import { packageRoot } from "../../src/platform/package-root.js";
import { until } from "./until.js";

const version = "4.0.0";
const cache = join(packageRoot(), ".cache", `kafka-${version}`);
/** Small and quick to start: it has little to do. */
const javaFlags = ["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData"];
const fetchMs = 300_000;
/** Who may come to the secure address. */
export const kafkaUser = "shop";
export const kafkaPassword = "kafka-secret";

/**
 * The class path of Kafka's broker. It is fetched by Maven when RUN_KAFKA=1 asks for tests with it, and kept in .cache. undefined: nobody
 * has asked, or there is no Java, or it cannot be had.
 */
export function findKafka(): string | undefined {
  if (process.env.RUN_KAFKA !== "1") return undefined;
  try {
    execFileSync("java", ["-version"], { stdio: "ignore" });
    if (!existsSync(cache)) fetchKafka();
    return join(cache, "*");
  } catch (error) {
    process.stderr.write(`Kafka cannot be had, and is not tested: ${(error as Error).message}\n`);
    return undefined;
  }
}

function fetchKafka(): void {
  const folder = `${cache}.${process.pid}`;
  mkdirSync(folder, { recursive: true });
  try {
    const goal = "org.apache.maven.plugins:maven-dependency-plugin:copy-dependencies";
    const pom = `<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
      <groupId>coupon</groupId><artifactId>kafka</artifactId><version>1</version><dependencies><dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>${version}</version>
      </dependency></dependencies></project>`;
    execFileSync("sh", ["-c", "cat > pom.xml"], { cwd: folder, input: pom });
    execFileSync("mvn", ["-q", "-B", goal, "-DincludeScope=runtime", "-DoutputDirectory=jars"], {
      ...{ cwd: folder, timeout: fetchMs, stdio: "ignore" },
    });
    renameSync(join(folder, "jars"), cache);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export interface ConsumedRecord {
  readonly partition: number;
  readonly key: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly value: Buffer;
}

/** One broker of Kafka, which is its own controller. It ends, and its folder with it, when the process of the test does. */
export class KafkaBroker {
  private pid: number | undefined;
  private starts = 0;

  private constructor(
    private readonly keeper: ReturnType<typeof spawn>,
    private readonly folder: string,
    private readonly classPath: string,
    readonly address: string,
    /** By TLS, with a certificate of test/support/tls, and with SASL. */
    readonly secureAddress: string,
  ) {
    createInterface({ input: keeper.stdout as NodeJS.ReadableStream }).on("line", (line) => {
      this.pid = (JSON.parse(line) as { pid?: number }).pid;
    });
  }

  static async start(classPath: string): Promise<KafkaBroker> {
    const folder = await mkdtemp(join(tmpdir(), "coupon-kafka-"));
    const [port, controllerPort, securePort] = [await freePort(), await freePort(), await freePort()];
    const scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
    const plain = `org.apache.kafka.common.security.plain.PlainLoginModule required user_${kafkaUser}="${kafkaPassword}";`;
    const properties = {
      "process.roles": "broker,controller",
      "node.id": 1,
      "controller.quorum.voters": `1@127.0.0.1:${controllerPort}`,
      listeners: `PLAINTEXT://127.0.0.1:${port},SASL_SSL://localhost:${securePort},CONTROLLER://127.0.0.1:${controllerPort}`,
      "controller.listener.names": "CONTROLLER",
      "inter.broker.listener.name": "PLAINTEXT",
      "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT",
      "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
      "listener.name.sasl_ssl.plain.sasl.jaas.config": plain,
      "listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config": scram,
      "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": scram,
      "ssl.keystore.type": "PEM",
      "ssl.keystore.location": join(folder, "server.pem"),
      "log.dirs": join(folder, "data"),
      "offsets.topic.replication.factor": 1,
      "offsets.topic.num.partitions": 1,
      "group.initial.rebalance.delay.ms": 0,
      "auto.create.topics.enable": false,
    };
    const lines = Object.entries(properties).map(([name, value]) => `${name}=${value}`);
    await writeFile(join(folder, "server.properties"), lines.join("\n"), { mode: 0o600 });
    const pems = ["server-key.pem", "server.pem"].map((file) =>
      readFileSync(join(packageRoot(), "test/support/tls", file), "utf8"),
    );
    await writeFile(join(folder, "server.pem"), pems.join("\n"), { mode: 0o600 });
    const users = ["SCRAM-SHA-256", "SCRAM-SHA-512"].flatMap((mechanism) => [
      "-S",
      `${mechanism}=[name=${kafkaUser},password=${kafkaPassword}]`,
    ]);
    const format = ["format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", join(folder, "server.properties"), ...users];
    execFileSync("java", [...javaFlags, "-cp", classPath, "kafka.tools.StorageTool", ...format], { stdio: "ignore" });
    const keeper = spawn(process.execPath, [join(packageRoot(), "test/support/redis-keeper.mjs"), folder], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    const broker = new KafkaBroker(keeper, folder, classPath, `127.0.0.1:${port}`, `localhost:${securePort}`);
    await broker.restart();
    return broker;
  }

  /** Resolves when it answers. */
  async restart(): Promise<void> {
    const args = [...javaFlags, "-cp", this.classPath, "kafka.Kafka", join(this.folder, "server.properties")];
    const id = `broker-${++this.starts}`;
    this.keeper.stdin?.write(`${JSON.stringify({ id, program: "java", args, env: { PATH: process.env.PATH } })}\n`);
    await until("kafka answers", () => this.administer((admin) => admin.listTopics().then(() => true)), 90_000);
  }

  /** kill -9, and waits for the end. */
  async kill(): Promise<void> {
    process.kill(this.pid as number, "SIGKILL");
    await until("kafka has ended", () => this.pid === undefined);
  }

  async createTopic(topic: string, partitions: number): Promise<void> {
    await this.administer((admin) => admin.createTopics({ topics: [topic], partitions, replicas: 1 }));
  }

  /** Reads a topic from its beginning on, until it is closed. */
  async consume(topic: string, onRecord: (record: ConsumedRecord) => void): Promise<{ close(): Promise<void> }> {
    const consumer = new Consumer({
      ...{
        clientId: "test",
        groupId: `test-${topic}`,
        bootstrapBrokers: [this.address],
        retryDelay: 200,
        retries: 300,
      },
      deserializers: { key: stringDeserializer, headerKey: stringDeserializer, headerValue: stringDeserializer },
    });
    const stream = await consumer.consume({
      topics: [topic],
      mode: MessagesStreamModes.EARLIEST,
      autocommit: false,
      maxWaitTime: 200,
    });
    stream.on("data", ({ partition, key, headers, value }) => {
      onRecord({ partition, key: key as string, headers: Object.fromEntries(headers as Map<string, string>), value });
    });
    return {
      close: async () => {
        await stream.close();
        await consumer.close(true);
      },
    };
  }

  async close(): Promise<void> {
    const gone = once(this.keeper, "exit");
    this.keeper.stdin?.end();
    await gone;
  }

  private async administer<T>(work: (admin: Admin) => Promise<T>): Promise<T> {
    const admin = new Admin({ clientId: "test", bootstrapBrokers: [this.address], retries: 0, connectTimeout: 1_000 });
    try {
      return await work(admin);
    } finally {
      await admin.close();
    }
  }
}
