import type * as http from "node:http";
import type { Socket } from "node:net";
import { steadyMs } from "../../platform/clock.js";

/** What a client had sent before it could know that its connection ends has come by then. */
const graceMs = 1_000;
const tickMs = 50;

interface Connection {
  underWay: number;
  /** The latest of those under way: with pipelining there are several, and it is the last that is answered. */
  latest?: http.ServerResponse;
  idleSinceMs: number;
}

/**
 * The connections of HTTP/1.1, and how they end. There is no GOAWAY: a client learns by an answer that it was the last one on its
 * connection. One that is closed without that may be closed under a request that is on its way, which nobody can then tell
 * from one that was served.
 */
export class Http1Connections {
  private readonly all = new Map<Socket, Connection>();
  private ticking: NodeJS.Timeout | undefined;

  /** Also one of which it is not known yet what it speaks. */
  add(socket: Socket): void {
    this.all.set(socket, { underWay: 0, idleSinceMs: steadyMs() });
    socket.once("close", () => this.all.delete(socket));
  }

  /** It speaks something else. */
  remove(socket: Socket): void {
    this.all.delete(socket);
  }

  begin(socket: Socket, response: http.ServerResponse): void {
    const connection = this.all.get(socket);
    if (!connection) return;
    connection.underWay += 1;
    connection.latest = response;
    if (this.ticking) response.shouldKeepAlive = false;
    response.once("close", () => {
      connection.underWay -= 1;
      connection.idleSinceMs = steadyMs();
      if (connection.latest === response) delete connection.latest;
    });
  }

  /** From now on every answer is the last one on its connection, and those that stay idle are closed. */
  end(): void {
    const nowMs = steadyMs();
    for (const connection of this.all.values()) {
      connection.idleSinceMs = nowMs;
      // Without effect on an answer that has begun: its connection is closed when it has been idle.
      if (connection.latest) connection.latest.shouldKeepAlive = false;
    }
    // After what has come meanwhile was read: a process that was held up for a second would close those that have sent something.
    this.ticking = setInterval(() => setImmediate(() => this.closeIdle()), tickMs);
  }

  /** When all of them have gone. */
  stop(): void {
    clearInterval(this.ticking);
  }

  private closeIdle(): void {
    const idleBeforeMs = steadyMs() - graceMs;
    for (const [socket, { underWay, idleSinceMs }] of this.all) {
      if (underWay === 0 && idleSinceMs <= idleBeforeMs) socket.destroy();
    }
  }
}
