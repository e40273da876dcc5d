import { connect, createServer, type Socket } from "node:net";

/** What a replica sends to its stores comes through here, until it is dead: nothing that it does then reaches anybody. */
export class Lifeline {
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

  /** After so many messages from now on. */
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
