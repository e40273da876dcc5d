import { connect, createServer, type Socket } from "node:net";
import type { Gate } from "../../src/reservation/port.js";
import { RedisGate } from "../../src/reservation/redis/redis-gate.js";
import { type Database, openDatabase } from "../../src/storage/postgres/database.js";
import type { Replica } from "./service.js";

/** What is lost with it: all, for it dies, or one of its stores. */
export type Part = "all" | "postgres" | "redis";

export interface Mortal extends Pick<Lifeline, "death"> {
  readonly replica: Replica;
  /** After so many messages from now on. */
  dieAfter(messages: number): void;
  /** It is dead by then. */
  bury(): Promise<void>;
}

interface Parts {
  readonly databaseUrl: string;
  readonly redisUrl: string;
  openGate(redisUrl: string): Promise<Gate>;
  start(database: Database, gate: Gate): Replica;
  close(gate: Gate): Promise<void>;
}

/** A replica beside the others, until it dies. */
export async function startMortal(part: Part, { databaseUrl, redisUrl, ...parts }: Parts): Promise<Mortal> {
  const lifeline = new Lifeline();
  const to = async (store: Part, url: string) => (part === "all" || part === store ? await lifeline.to(url) : url);
  const database = openDatabase({ url: await to("postgres", databaseUrl), poolSize: 12 });
  const gate = await parts.openGate(await to("redis", redisUrl));
  if (gate instanceof RedisGate && !(await gate.ready())) throw new Error("no redis");
  await database.reads.run(Number.POSITIVE_INFINITY, ({ sql }) => sql`SELECT 1`);
  const replica = parts.start(database, gate);
  const bury = async () => {
    await lifeline.close();
    await replica.close();
    await parts.close(gate);
    await database.close();
  };
  return { replica, bury, death: lifeline.death, dieAfter: (messages) => lifeline.dieAfter(messages) };
}

/** What a replica sends to its stores comes through here, until it is dead: nothing that it does then reaches anybody. */
class Lifeline {
  private readonly sockets = new Set<Socket>();
  private readonly closers: (() => Promise<unknown>)[] = [];
  private messagesLeft = Number.POSITIVE_INFINITY;
  private tellDeath: () => void = () => {};
  private isDead = false;
  readonly death = new Promise<void>((resolve) => {
    this.tellDeath = resolve;
  });

  /** The address at which a store is reached by this way. */
  async to(storeUrl: string): Promise<string> {
    const url = new URL(storeUrl);
    const { hostname, port } = url;
    const server = createServer((near) => this.join(near, connect(Number(port), hostname)));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    this.closers.push(() => new Promise((resolve) => server.close(resolve)));
    url.hostname = "127.0.0.1";
    url.port = String((server.address() as { port: number }).port);
    return url.href;
  }

  dieAfter(messages: number): void {
    this.messagesLeft = messages;
  }

  die(): void {
    this.isDead = true;
    for (const socket of this.sockets) socket.destroy();
    this.tellDeath();
  }

  async close(): Promise<void> {
    this.die();
    await Promise.all(this.closers.map((close) => close()));
  }

  private join(near: Socket, far: Socket): void {
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      this.sockets.add(socket);
      socket.setNoDelay();
      socket.on("error", () => {});
      socket.on("close", () => {
        this.sockets.delete(socket);
        other.destroy();
      });
      if (this.isDead) socket.destroy();
    }
    far.on("data", (bytes) => near.write(bytes));
    near.on("data", (bytes) => {
      if (this.messagesLeft-- > 0) return void far.write(bytes);
      // Every other one arrives, and its answer does not.
      const isSent = bytes.length % 2 === 0;
      if (isSent) far.end(bytes);
      this.sockets.delete(isSent ? far : near);
      near.destroy();
      this.die();
    });
  }
}
