import * as http2 from "node:http2";
import * as net from "node:net";

/** As gRPC's connection backoff, but shorter: the load lasts seconds, not minutes. */
const firstBackoffMs = 100;
const maxBackoffMs = 1_000;
const backoffFactor = 1.6;
const jitterShare = 0.2;
const connectTimeoutMs = 10_000;

/** What one call came to: its gRPC status and details; null: there was no answer, for the reason given. */
export interface Ending {
  readonly status: string | null;
  readonly details: string | undefined;
  readonly why: "ANSWERED" | "NO_CONNECTION" | "RESET" | "TIMED_OUT";
}

type Done = (ending: Ending) => void;

interface Waiting {
  readonly message: Buffer;
  readonly dueAtMs: number;
  readonly done: Done;
}

const noConnection: Ending = { status: null, details: undefined, why: "NO_CONNECTION" };
const reset: Ending = { status: null, details: undefined, why: "RESET" };
const timedOut: Ending = { status: null, details: undefined, why: "TIMED_OUT" };

/**
 * One client with one HTTP/2 connection, which does with it what gRPC's own libraries do: after GOAWAY it connects anew
 * for the next call; while connecting fails it waits, longer each time, and calls fail meanwhile. Those libraries take
 * several times as long over a call, and at five times its peak the load would be more work than the service.
 */
export class Connection {
  private session: http2.ClientHttp2Session | undefined;
  private state: "idle" | "connecting" | "ready" | "failed" = "idle";
  private backoffMs = firstBackoffMs;
  private retryTimer: NodeJS.Timeout | undefined;
  private waiting: Waiting[] = [];
  private readonly headers: http2.OutgoingHttpHeaders;
  /** Calls under way, in the order in which their time runs out. */
  private readonly open = new Set<{ readonly endsAtMs: number; readonly giveUp: () => void }>();

  constructor(
    private readonly target: string,
    path: string,
    private readonly timeoutMs: number,
  ) {
    this.headers = {
      ":method": "POST",
      ":path": path,
      "content-type": "application/grpc",
      te: "trailers",
      "grpc-timeout": `${timeoutMs}m`,
    };
  }

  /** Resolves when it is connected; rejects when that fails. */
  ready(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.connect((connected) => (connected ? resolve() : reject(new Error(`cannot connect to ${this.target}`))));
    });
  }

  send(message: Buffer, done: Done): void {
    const now = performance.now();
    if (this.state === "ready") this.start(message, now + this.timeoutMs, done);
    else if (this.state === "failed") done(noConnection);
    else {
      this.waiting.push({ message, dueAtMs: now + this.timeoutMs, done });
      if (this.state === "idle") this.connect(() => {});
    }
  }

  /** Gives up what has waited for too long. */
  expire(now: number): void {
    for (const call of this.open) {
      if (call.endsAtMs > now) break;
      this.open.delete(call);
      call.giveUp();
    }
    while (this.waiting[0] && this.waiting[0].dueAtMs <= now) this.waiting.shift()?.done(timedOut);
  }

  close(): void {
    clearTimeout(this.retryTimer);
    this.session?.destroy();
  }

  private start(message: Buffer, endsAtMs: number, done: Done): void {
    let status: string | null = null;
    let details: string | undefined;
    let gaveUp = false;
    const stream = (this.session as http2.ClientHttp2Session).request(this.headers);
    const call = {
      endsAtMs,
      giveUp: () => {
        gaveUp = true;
        stream.close(http2.constants.NGHTTP2_CANCEL);
      },
    };
    this.open.add(call);
    const read = (headers: http2.IncomingHttpHeaders) => {
      const given = headers["grpc-status"];
      if (given === undefined) return;
      status = String(given);
      details = headers["grpc-status-details-bin"] as string | undefined;
    };
    stream.on("response", read);
    stream.on("trailers", read);
    stream.on("error", () => {});
    stream.once("close", () => {
      this.open.delete(call);
      if (gaveUp) done(timedOut);
      else done(status === null ? reset : { status, details, why: "ANSWERED" });
    });
    stream.resume();
    const head = Buffer.allocUnsafe(5);
    head[0] = 0;
    head.writeUInt32BE(message.length, 1);
    stream.end(Buffer.concat([head, message]));
  }

  private connect(told: (connected: boolean) => void): void {
    const wasFailed = this.state === "failed";
    if (!wasFailed) this.state = "connecting";
    const [host, port] = this.target.split(":") as [string, string];
    const session = http2.connect(`http://${this.target}`, {
      createConnection: () => net.connect({ host, port: Number(port), noDelay: true }),
    });
    this.session = session;
    const timer = setTimeout(() => session.destroy(), connectTimeoutMs);
    let connected = false;
    session.on("error", () => {});
    session.once("remoteSettings", () => {
      clearTimeout(timer);
      connected = true;
      this.state = "ready";
      this.backoffMs = firstBackoffMs;
      told(true);
      for (const { message, dueAtMs, done } of this.waiting.splice(0)) this.start(message, dueAtMs, done);
    });
    session.once("goaway", () => this.leave(session));
    session.once("close", () => {
      clearTimeout(timer);
      if (connected) {
        this.leave(session);
        return;
      }
      told(false);
      if (this.session === session) this.fail();
    });
  }

  /** Calls under way go on; the next one needs a new connection. */
  private leave(session: http2.ClientHttp2Session): void {
    if (this.session === session && this.state === "ready") this.state = "idle";
  }

  private fail(): void {
    this.state = "failed";
    for (const { done } of this.waiting.splice(0)) done(noConnection);
    const jitter = 1 + (Math.random() * 2 - 1) * jitterShare;
    this.retryTimer = setTimeout(() => this.connect(() => {}), this.backoffMs * jitter);
    this.backoffMs = Math.min(this.backoffMs * backoffFactor, maxBackoffMs);
  }
}
