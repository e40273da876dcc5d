import { Redis } from "ioredis";
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

const masterName = "coupons";
export const sentinelPassword = "watch: all";
const dataCount = 3;
const sentinelCount = 3;
const quorum = 2;
/** A master that does not answer for so long is replaced. Processes that get no CPU for a moment must not seem dead. */
const downAfterMs = 2_000;
/** When the Sentinels could not agree, they try again after twice this. */
const failoverTimeoutMs = 3_000;

interface Server {
  readonly name: string;
  readonly port: number;
}

/** A master with two replicas, and three Sentinels that watch them. */
export class RedisSentinels {
  private constructor(
    private readonly processes: RedisProcesses,
    private readonly servers: readonly Server[],
    private readonly sentinels: readonly Server[],
  ) {}

  /** Without the Sentinels' own password, which is a setting of its own. */
  get url(): string {
    return `redis+sentinel://${serviceUserInfo}@${this.sentinels.map(({ port }) => `127.0.0.1:${port}`)}/${masterName}`;
  }

  static async start(): Promise<RedisSentinels> {
    const processes = await RedisProcesses.open();
    const named = async (name: string) => ({ name, port: await freePort() });
    const servers = await Promise.all(Array.from({ length: dataCount }, (_, n) => named(`server-${n + 1}`)));
    const sentinels = await Promise.all(Array.from({ length: sentinelCount }, (_, n) => named(`sentinel-${n + 1}`)));
    const set = new RedisSentinels(processes, servers, sentinels);
    try {
      const [first] = servers as [Server];
      await Promise.all(servers.map((server) => set.startServer(server, server === first ? undefined : first)));
      // Sentinels ask a master for its replicas when they begin, and then not for ten seconds.
      await until("the replicas have a copy", () => set.areOnline(first));
      await Promise.all(sentinels.map((sentinel) => set.startSentinel(sentinel, first)));
      await set.untilWhole();
    } catch (error) {
      await set.close();
      throw error;
    }
    return set;
  }

  /** A connection to the master that may do everything. */
  connect(): Redis {
    return new Redis({
      ...{ sentinels: this.sentinels.map(({ port }) => ({ host: "127.0.0.1", port })), name: masterName },
      ...{ password: adminPassword, sentinelPassword },
    });
  }

  /** As the Sentinels have it. */
  async master(): Promise<Server> {
    const [, port] = (await this.askSentinels("SENTINEL", "GET-MASTER-ADDR-BY-NAME", masterName)) as [string, string];
    const server = this.servers.find((one) => one.port === Number(port));
    if (!server) throw new Error(`no server has the port ${port}`);
    return server;
  }

  kill({ name }: Server): Promise<void> {
    return this.processes.kill(name);
  }

  signal({ name }: Server, signal: NodeJS.Signals): void {
    this.processes.signal(name, signal);
  }

  async untilReplaced(dead: Server): Promise<void> {
    await until(`${dead.name} is replaced`, async () => (await this.master()) !== dead);
  }

  /** Starts it anew, as the replica of whoever is master now. */
  async startAgain(server: Server): Promise<void> {
    await this.startServer(server, await this.master());
  }

  /** Resolves when the Sentinels know the master, its two replicas and each other. */
  async untilWhole(): Promise<void> {
    await until("the set is whole", async () => {
      const [row] = (await this.askSentinels("SENTINEL", "MASTERS")) as string[][];
      const fields = new Map(row?.flatMap((name, n) => (n % 2 ? [] : [[name, row[n + 1]] as const])));
      const counts = ["flags", "num-slaves", "num-other-sentinels"].map((name) => fields.get(name));
      if (counts.join(" ") !== `master ${dataCount - 1} ${sentinelCount - 1}`) throw new Error(counts.join(" "));
      return await this.areOnline(await this.master());
    });
  }

  close(): Promise<void> {
    return this.processes.close();
  }

  private async areOnline(master: Server): Promise<boolean> {
    const info = fieldsOf(await this.processes.ask(master.port, adminPassword, "INFO", "replication"));
    const online = [...info].filter(([name, value]) => /^slave\d/.test(name) && value.includes("state=online"));
    if (online.length !== dataCount - 1) throw new Error(`${[...info]}`);
    return true;
  }

  private async askSentinels(...command: RedisCommand): Promise<unknown> {
    const [{ port }] = this.sentinels as [Server];
    return await this.processes.ask(port, sentinelPassword, ...command);
  }

  private async startServer({ name, port }: Server, master: Server | undefined): Promise<void> {
    const replicaOf = master ? [`replicaof 127.0.0.1 ${master.port}`] : [];
    await this.processes.write(`${name}.conf`, [...dataServerLines(port), ...replicaOf]);
    await this.processes.start(name, port, adminPassword);
  }

  private async startSentinel({ name, port }: Server, master: Server): Promise<void> {
    await this.processes.write(`${name}.conf`, [
      ...["bind 127.0.0.1", `port ${port}`, `requirepass "${sentinelPassword}"`],
      `sentinel monitor ${masterName} 127.0.0.1 ${master.port} ${quorum}`,
      `sentinel auth-pass ${masterName} ${adminPassword}`,
      `sentinel sentinel-pass "${sentinelPassword}"`,
      `sentinel down-after-milliseconds ${masterName} ${downAfterMs}`,
      `sentinel failover-timeout ${masterName} ${failoverTimeoutMs}`,
    ]);
    await this.processes.start(name, port, sentinelPassword, ["--sentinel"]);
  }
}
