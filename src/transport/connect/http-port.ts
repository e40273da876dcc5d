import * as http from "node:http";
import * as http2 from "node:http2";
import * as net from "node:net";
import { http2Limits, maxBacklog, maxConnections, newConnectionStreams } from "../http2-limits.js";
import type { ArrivalDeadlines } from "../messages/arrival-deadlines.js";
import { cutOffAfterGoodbye } from "../overload/last-goodbye.js";
import { sniff } from "../sniff.js";
import type { SecurePort } from "../tls/secure-port.js";
import type { Tls } from "../tls/tls.js";
import { Http1Connections } from "./http1-connections.js";
import type { NodeRequest, NodeResponse } from "./node-request.js";

export const headersTimeoutMs = 10_000;
/** Longer than a message has to arrive, so that a late one is told so. For what is not read to its end. */
const requestTimeoutMs = 12_000;
const timeoutCheckMs = 1_000;
/** A connection on which nothing moves is closed; over HTTP/2 only when it has no call, or its client gives no sign of life. */
const defaultIdleMs = 60_000;
/** For that sign of life. */
const pongMs = 10_000;

/** HTTP/1.1 and HTTP/2 on one port: with TLS the two sides agree on one, and without it is seen from the first bytes. */
export class HttpPort {
  readonly http2: http2.Http2Server;
  private readonly http1: http.Server;
  private readonly http1Connections = new Http1Connections();
  private readonly listener: net.Server;
  private readonly secure: SecurePort | undefined;
  private readonly sockets = new Set<net.Socket>();
  private readonly sessions = new Set<http2.ServerHttp2Session>();

  constructor(
    handle: (request: NodeRequest, response: NodeResponse) => void,
    private readonly deadlines: ArrivalDeadlines,
    tls: Tls | undefined,
    private readonly idleMs = defaultIdleMs,
  ) {
    this.http1 = http.createServer(
      {
        headersTimeout: headersTimeoutMs,
        requestTimeout: requestTimeoutMs,
        connectionsCheckingInterval: timeoutCheckMs,
        // Longer than a balancer keeps an idle connection, or it would send a call into one that is just being closed.
        keepAliveTimeout: idleMs,
      },
      (request, response) => {
        this.http1Connections.begin(request.socket, response);
        handle(request, response);
      },
    );
    this.http1.setTimeout(idleMs);
    // It is handed its connections and never listens itself, but only then does it begin to look at its time limits.
    this.http1.emit("listening");
    this.http2 = http2.createServer(
      { settings: { maxConcurrentStreams: newConnectionStreams }, ...http2Limits },
      handle,
    );
    this.http2.on("session", (session) => {
      this.sessions.add(session);
      session.on("close", () => this.sessions.delete(session));
      session.on("error", () => session.destroy());
      this.endWhenIdle(session);
    });
    this.secure = tls?.open((socket, isHttp2) => {
      if (!isHttp2) this.http1Connections.add(socket);
      (isHttp2 ? this.http2 : this.http1).emit("connection", socket);
    });
    this.listener = net.createServer({ noDelay: true }, (socket) => this.accept(socket));
    this.listener.maxConnections = maxConnections;
  }

  /** Answers the port that it listens on. */
  listen(host: string, port: number): Promise<number> {
    return new Promise((resolve, reject) => {
      this.listener.once("error", reject);
      this.listener.listen({ port, host, backlog: maxBacklog }, () =>
        resolve((this.listener.address() as net.AddressInfo).port),
      );
    });
  }

  /**
   * Takes no new connections, ends idle ones with GOAWAY, tells those of HTTP/1.1 with their next answer, and cuts off what is left
   * after the given time.
   */
  async close(drainMs: number): Promise<void> {
    const closed = new Promise<void>((resolve) => this.listener.close(() => resolve()));
    this.secure?.close();
    for (const session of this.sessions) session.close();
    this.http1Connections.end();
    const timer = setTimeout(() => {
      for (const socket of this.sockets) socket.destroy();
    }, drainMs);
    await closed;
    clearTimeout(timer);
    this.http1Connections.stop();
    this.http1.close();
  }

  /** Who watches something waits, perhaps for hours, and so does who has a long deadline. */
  private endWhenIdle(session: http2.ServerHttp2Session): void {
    let calls = 0;
    let cut: NodeJS.Timeout | undefined;
    session.on("close", () => clearTimeout(cut));
    session.on("stream", (stream) => {
      calls += 1;
      stream.once("close", () => {
        calls -= 1;
      });
    });
    session.on("timeout", () => {
      if (calls === 0 || session.closed) {
        session.destroy();
        return;
      }
      clearTimeout(cut);
      cut = setTimeout(() => session.destroy(), pongMs);
      session.ping(() => clearTimeout(cut));
      session.setTimeout(this.idleMs);
    });
    session.setTimeout(this.idleMs);
  }

  private accept(socket: net.Socket): void {
    this.sockets.add(socket);
    socket.on("close", () => this.sockets.delete(socket));
    socket.on("error", () => socket.destroy());
    cutOffAfterGoodbye(socket);
    if (this.secure) {
      this.secure.accept(socket);
      return;
    }
    this.http1Connections.add(socket);
    sniff(socket, this.deadlines, (isHttp2) => {
      if (isHttp2) this.http1Connections.remove(socket);
      (isHttp2 ? this.http2 : this.http1).emit("connection", socket);
      if (!isHttp2) process.nextTick(() => socket.resume());
    });
  }
}
