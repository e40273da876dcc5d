import { connect, createServer, type Server, type Socket } from "node:net";

/** Stands between a replica and Redis and can lose replies, as a network does: commands arrive, answers do not. */
export class ReplyProxy {
  private readonly sockets = new Set<Socket>();
  private losing = false;
  lostBytes = 0;

  private constructor(
    private readonly server: Server,
    readonly url: string,
  ) {}

  static async start(redisUrl: string): Promise<ReplyProxy> {
    const target = new URL(redisUrl);
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const url = new URL(redisUrl);
    url.port = String((server.address() as { port: number }).port);
    const proxy = new ReplyProxy(server, url.href);
    server.on("connection", (client) => proxy.join(client, connect(Number(target.port), target.hostname)));
    return proxy;
  }

  loseReplies(): void {
    this.losing = true;
  }

  /** New connections work again. Those that missed a reply are cut: TCP never goes on after a gap. */
  restore(): void {
    this.losing = false;
    this.cut();
  }

  /** Resets every connection in the middle of whatever it carries. */
  cut(): void {
    for (const socket of this.sockets) socket.destroy();
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise((resolve) => this.server.close(resolve));
  }

  private join(client: Socket, redis: Socket): void {
    const [here, there] = [client, redis];
    for (const [socket, other] of [
      [here, there],
      [there, here],
    ] as const) {
      this.sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => {
        this.sockets.delete(socket);
        other.destroy();
      });
    }
    client.on("data", (bytes) => redis.write(bytes));
    redis.on("data", (bytes) => {
      if (this.losing) this.lostBytes += bytes.length;
      else client.write(bytes);
    });
  }
}
