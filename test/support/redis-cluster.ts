import { randomBytes } from "node:crypto";
import { Cluster } from "ioredis";
import { freePort } from "../../embedded/free-port.js";
import {
  adminPassword,
  dataServerLines,
  fieldsOf,
  type RedisCommand,
  RedisProcesses,
  serviceUserInfo,
} from "./redis-processes.js";
import { until } from "./until.js";

const slotCount = 16_384;
const masterCount = 3;
/** A master that does not answer for so long is replaced. Processes that get no CPU for a moment must not seem dead. */
const nodeTimeoutMs = 2_000;

export interface ClusterNode {
  readonly name: string;
  readonly id: string;
  readonly port: number;
  readonly busPort: number;
}

/** A Redis Cluster of three masters, each with a replica. */
export class RedisCluster {
  private constructor(
    private readonly processes: RedisProcesses,
    readonly nodes: readonly ClusterNode[],
  ) {}

  /** As the service is told it: not all nodes, and a user who may do what it needs and no more. */
  get url(): string {
    const hosts = this.nodes.slice(0, masterCount).map(({ port }) => `127.0.0.1:${port}`);
    return `redis+cluster://${serviceUserInfo}@${hosts.join(",")}`;
  }

  static async start(): Promise<RedisCluster> {
    const processes = await RedisProcesses.open();
    const nodes: ClusterNode[] = [];
    for (let n = 0; n < 2 * masterCount; n++) {
      const name = n < masterCount ? `master-${n + 1}` : `replica-${n + 1 - masterCount}`;
      nodes.push({ name, id: randomBytes(20).toString("hex"), port: await freePort(), busPort: await freePort() });
    }
    const cluster = new RedisCluster(processes, nodes);
    try {
      await Promise.all(nodes.map((node) => cluster.write(node)));
      await Promise.all(nodes.map((node) => cluster.startNode(node)));
      await cluster.untilWhole();
    } catch (error) {
      await cluster.close();
      throw error;
    }
    return cluster;
  }

  /** A connection that may do everything. */
  connect(): Cluster {
    const hosts = this.nodes.map(({ port }) => ({ host: "127.0.0.1", port }));
    return new Cluster(hosts, { redisOptions: { password: adminPassword } });
  }

  async masterOf(key: string): Promise<ClusterNode> {
    const slot = Number(await this.ask("CLUSTER", "KEYSLOT", key));
    const ranges = (await this.ask("CLUSTER", "SLOTS")) as [number, number, [string, number]][];
    const range = ranges.find(([first, last]) => slot >= first && slot <= last);
    const node = this.nodes.find(({ port }) => port === range?.[2][1]);
    if (!node) throw new Error(`nobody has slot ${slot}`);
    return node;
  }

  async replicaOf({ id }: ClusterNode): Promise<ClusterNode> {
    const lines = String(await this.ask("CLUSTER", "NODES")).split("\n");
    const line = lines.find((one) => one.split(" ")[3] === id && !/\bfail\b/.test(one));
    const node = this.nodes.find((one) => line?.startsWith(one.id));
    if (!node) throw new Error("it has no replica");
    return node;
  }

  kill({ name }: ClusterNode): Promise<void> {
    return this.processes.kill(name);
  }

  signal({ name }: ClusterNode, signal: NodeJS.Signals): void {
    this.processes.signal(name, signal);
  }

  startNode({ name, port }: ClusterNode): Promise<void> {
    return this.processes.start(name, port, adminPassword);
  }

  /** Resolves when another node has taken the place of this one. */
  async untilReplaced(dead: ClusterNode, key: string): Promise<void> {
    await until(`${dead.name} is replaced`, async () => (await this.masterOf(key)) !== dead);
  }

  /** Resolves when all slots are served, by masters that each have a replica with a copy. */
  async untilWhole(): Promise<void> {
    for (const node of this.nodes) {
      await until(`${node.name} sees the cluster whole`, async () => {
        const info = fieldsOf(await this.askNode(node, "CLUSTER", "INFO"));
        if (info.get("cluster_state") !== "ok" || info.get("cluster_known_nodes") !== "6")
          throw new Error(`${[...info]}`);
        const replication = fieldsOf(await this.askNode(node, "INFO", "replication"));
        const isLinked =
          replication.get("role") === "master"
            ? replication.get("connected_slaves") === "1"
            : replication.get("master_link_status") === "up";
        if (!isLinked) throw new Error(`${[...replication]}`);
        return true;
      });
    }
  }

  askNode({ port }: ClusterNode, ...command: RedisCommand): Promise<unknown> {
    return this.processes.ask(port, adminPassword, ...command);
  }

  close(): Promise<void> {
    return this.processes.close();
  }

  private async ask(...command: RedisCommand): Promise<unknown> {
    const node = this.nodes.find(({ name }) => this.processes.isRunning(name));
    if (!node) throw new Error("no node runs");
    return await this.askNode(node, ...command);
  }

  private async write(node: ClusterNode): Promise<void> {
    await this.processes.write(`${node.name}.conf`, [
      ...dataServerLines(node.port),
      ...["cluster-enabled yes", `cluster-port ${node.busPort}`, `cluster-config-file ${node.name}.nodes`],
      ...[`cluster-node-timeout ${nodeTimeoutMs}`, "cluster-replica-validity-factor 0"],
    ]);
    // As if they had met before: who has which slots, and who is whose replica.
    const lines = this.nodes.map((one, n) => {
      const address = `${one.id} 127.0.0.1:${one.port}@${one.busPort}`;
      const myself = one === node ? "myself," : "";
      const rank = n % masterCount;
      const [first, last] = [rank, rank + 1].map((share) => Math.floor((share * slotCount) / masterCount));
      return n < masterCount
        ? `${address} ${myself}master - 0 0 ${n + 1} connected ${first}-${(last as number) - 1}`
        : `${address} ${myself}slave ${this.nodes[rank]?.id} 0 0 ${rank + 1} connected`;
    });
    await this.processes.write(`${node.name}.nodes`, [...lines, `vars currentEpoch ${masterCount} lastVoteEpoch 0`]);
  }
}
