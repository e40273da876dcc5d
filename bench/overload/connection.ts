import * as net from "node:net";
import * as tls from "node:tls";
import {
  ack,
  callFrames,
  cancel,
  dataBytes,
  endStream,
  Frame,
  FrameReader,
  frame,
  headerBlock,
  maxConcurrentStreamsSetting,
  opening,
  readHeaders,
} from "./http2-frames.js";

/** As gRPC's connection backoff, but shorter: the load lasts seconds, not minutes. */
const firstBackoffMs = 100;
const maxBackoffMs = 1_000;
const backoffFactor = 1.6;
const jitterShare = 0.2;
const connectTimeoutMs = 10_000;
const firstWindow = 65_535;

/** What one call came to: its gRPC status and details; null: there was no answer, for the reason given. */
export interface Ending {
  readonly status: string | null;
  readonly details: string | undefined;
  readonly why: "ANSWERED" | "NO_CONNECTION" | "RESET" | "TIMED_OUT";
}

type Done = (ending: Ending) => void;

interface Call {
  readonly message: Buffer;
  readonly endsAtMs: number;
  readonly done: Done;
  ending: Ending | null;
}

const noConnection: Ending = { status: null, details: undefined, why: "NO_CONNECTION" };
const wasReset: Ending = { status: null, details: undefined, why: "RESET" };
const timedOut: Ending = { status: null, details: undefined, why: "TIMED_OUT" };

/**
 * One client with one HTTP/2 connection, which does with it what gRPC's own libraries do: after GOAWAY it connects anew
 * for the next call; while connecting fails it waits, longer each time, and calls fail meanwhile. Calls beyond the server's
 * limit of streams wait in the client. Those libraries take so long over a call that at five times its peak the load would
 * be more work than the service; this takes a tenth of it.
 */
export class Connection {
  private link: Link | undefined;
  private state: "idle" | "connecting" | "ready" | "failed" = "idle";
  private backoffMs = firstBackoffMs;
  private retryTimer: NodeJS.Timeout | undefined;
  private waiting: Call[] = [];
  private readonly block: Buffer;

  constructor(
    private readonly target: string,
    path: string,
    private readonly timeoutMs: number,
    /** The authority of the server's certificate; without one there is no TLS. */
    private readonly ca?: string,
  ) {
    this.block = headerBlock({
      ":method": "POST",
      ":scheme": ca ? "https" : "http",
      ":authority": target,
      ":path": path,
      "content-type": "application/grpc",
      te: "trailers",
      "grpc-timeout": `${timeoutMs}m`,
    });
  }

  /** Resolves when it is connected; rejects when that fails. */
  ready(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.connect((connected) => (connected ? resolve() : reject(new Error(`cannot connect to ${this.target}`))));
    });
  }

  send(message: Buffer, done: Done): void {
    if (this.state === "failed") {
      done(noConnection);
      return;
    }
    const call = { message, endsAtMs: performance.now() + this.timeoutMs, done, ending: null };
    if (this.state === "ready") this.link?.call(call);
    else {
      this.waiting.push(call);
      if (this.state === "idle") this.connect(() => {});
    }
  }

  /** Gives up what has waited for too long. */
  expire(now: number): void {
    while (this.waiting[0] && this.waiting[0].endsAtMs <= now) this.waiting.shift()?.done(timedOut);
    for (const link of this.links) link.expire(now);
  }

  close(): void {
    clearTimeout(this.retryTimer);
    for (const link of this.links) link.close();
  }

  /** That of now, and those on which calls are still under way. */
  private readonly links = new Set<Link>();

  private connect(told: (connected: boolean) => void): void {
    if (this.state !== "failed") this.state = "connecting";
    const link: Link = new Link(this.target, this.ca, this.block, {
      ready: () => {
        this.state = "ready";
        this.backoffMs = firstBackoffMs;
        told(true);
        for (const call of this.waiting.splice(0)) link.call(call);
      },
      goingAway: (unsent) => {
        if (this.link === link && this.state === "ready") this.state = "idle";
        for (const { done } of unsent) done(noConnection);
      },
      closed: (wasReady) => {
        this.links.delete(link);
        if (wasReady) {
          if (this.link === link && this.state === "ready") this.state = "idle";
          return;
        }
        told(false);
        this.fail();
      },
    });
    this.link = link;
    this.links.add(link);
  }

  private fail(): void {
    this.state = "failed";
    for (const { done } of this.waiting.splice(0)) done(noConnection);
    const jitter = 1 + (Math.random() * 2 - 1) * jitterShare;
    this.retryTimer = setTimeout(() => this.connect(() => {}), this.backoffMs * jitter);
    this.backoffMs = Math.min(this.backoffMs * backoffFactor, maxBackoffMs);
  }
}

interface LinkEvents {
  ready(): void;
  /** The server takes no more calls on it; those that it will not look at. */
  goingAway(unsent: readonly Call[]): void;
  closed(wasReady: boolean): void;
}

/** One TCP connection with HTTP/2 on it. */
class Link {
  private readonly socket: net.Socket;
  private readonly timer: NodeJS.Timeout;
  private isReady = false;
  private isLeaving = false;
  private nextStreamId = 1;
  private window = firstWindow;
  private maxStreams = Number.POSITIVE_INFINITY;
  /** By stream, in the order in which their time runs out. */
  private readonly open = new Map<number, Call>();
  private queued: Call[] = [];

  constructor(
    target: string,
    ca: string | undefined,
    private readonly block: Buffer,
    private readonly events: LinkEvents,
  ) {
    const [host, port] = target.split(":") as [string, string];
    const address = { host, port: Number(port), noDelay: true };
    this.socket = ca ? tls.connect({ ...address, ca, ALPNProtocols: ["h2"] }) : net.connect(address);
    this.timer = setTimeout(() => this.socket.destroy(), connectTimeoutMs);
    this.socket.write(opening());
    const reader = new FrameReader((...parts) => this.take(...parts));
    this.socket.on("data", (chunk) => reader.read(chunk));
    this.socket.on("error", () => {});
    this.socket.once("close", () => {
      clearTimeout(this.timer);
      const calls = [...this.open.values(), ...this.queued];
      this.open.clear();
      this.queued = [];
      this.events.closed(this.isReady);
      for (const { done } of calls) done(wasReset);
    });
  }

  call(call: Call): void {
    const bytes = dataBytes(call.message);
    if (this.open.size >= this.maxStreams || this.window < bytes || this.queued.length > 0) {
      this.queued.push(call);
      this.sendQueued();
      return;
    }
    this.start(call, bytes);
  }

  expire(now: number): void {
    for (const [streamId, call] of this.open) {
      if (call.endsAtMs > now) break;
      this.open.delete(streamId);
      this.write(cancel(streamId));
      call.done(timedOut);
    }
    while (this.queued[0] && this.queued[0].endsAtMs <= now) this.queued.shift()?.done(timedOut);
    this.sendQueued();
  }

  close(): void {
    this.socket.destroy();
  }

  private start(call: Call, bytes: number): void {
    const streamId = this.nextStreamId;
    this.nextStreamId += 2;
    this.window -= bytes;
    this.open.set(streamId, call);
    this.write(callFrames(streamId, this.block, call.message));
  }

  private sendQueued(): void {
    while (this.queued.length > 0 && this.open.size < this.maxStreams && !this.isLeaving) {
      const bytes = dataBytes((this.queued[0] as Call).message);
      if (this.window < bytes) return;
      this.start(this.queued.shift() as Call, bytes);
    }
  }

  /** What is written in one turn of the event loop leaves together. */
  private write(bytes: Buffer): void {
    if (this.socket.writableCorked === 0) {
      this.socket.cork();
      process.nextTick(() => this.socket.uncork());
    }
    this.socket.write(bytes);
  }

  private take(type: number, flags: number, streamId: number, payload: Buffer): void {
    switch (type) {
      case Frame.headers:
        this.takeHeaders(flags, streamId, payload);
        break;
      case Frame.rstStream:
        this.end(streamId, wasReset);
        break;
      case Frame.settings:
        if ((flags & ack) === 0) this.takeSettings(payload);
        break;
      case Frame.ping:
        if ((flags & ack) === 0) this.write(frame(Frame.ping, ack, 0, payload));
        break;
      case Frame.goaway:
        this.takeGoaway(payload.readUInt32BE(0));
        break;
      case Frame.windowUpdate:
        if (streamId === 0) this.window += payload.readUInt32BE(0);
        this.sendQueued();
        break;
      default:
    }
  }

  private takeHeaders(flags: number, streamId: number, block: Buffer): void {
    const call = this.open.get(streamId);
    if (!call || (flags & endStream) === 0) return;
    const headers = readHeaders(block);
    const details = headers.get("grpc-status-details-bin");
    this.end(streamId, { status: headers.get("grpc-status") ?? "2", details, why: "ANSWERED" });
  }

  private takeSettings(payload: Buffer): void {
    for (let at = 0; at + 6 <= payload.length; at += 6) {
      if (payload.readUInt16BE(at) === maxConcurrentStreamsSetting) this.maxStreams = payload.readUInt32BE(at + 2);
    }
    this.write(frame(Frame.settings, ack, 0, Buffer.alloc(0)));
    if (this.isReady) return;
    this.isReady = true;
    clearTimeout(this.timer);
    this.events.ready();
  }

  private takeGoaway(lastStreamId: number): void {
    if (this.isLeaving) return;
    this.isLeaving = true;
    const unsent = this.queued;
    this.queued = [];
    for (const [streamId, call] of this.open) {
      if (streamId <= lastStreamId) continue;
      this.open.delete(streamId);
      unsent.push(call);
    }
    this.events.goingAway(unsent);
    this.closeWhenDone();
  }

  private end(streamId: number, ending: Ending): void {
    const call = this.open.get(streamId);
    if (!call) return;
    this.open.delete(streamId);
    call.done(ending);
    if (this.isLeaving) this.closeWhenDone();
    else this.sendQueued();
  }

  private closeWhenDone(): void {
    if (this.open.size === 0) this.socket.destroy();
  }
}
