import * as http from "node:http";
import * as http2 from "node:http2";
import * as net from "node:net";
import { create } from "@bufbuild/protobuf";
import {
  Code as ConnectCode,
  ConnectError,
  createConnectRouter,
  createContextKey,
  createContextValues,
  type HandlerContext,
} from "@connectrpc/connect";
import type { UniversalServerRequest } from "@connectrpc/connect/protocol";
import {
  compressionGzip,
  universalRequestFromNodeRequest,
  universalResponseToNodeResponse,
} from "@connectrpc/connect-node";
import { Failure } from "../error-table.js";
import { http2Limits, maxBacklog, maxConcurrentStreams, maxConnections } from "../http2-limits.js";
import type { ArrivalDeadlines } from "../messages/arrival-deadlines.js";
import type { LargeMessages } from "../messages/large-messages.js";
import { closeAnswered, OpenStreams } from "../open-streams.js";
import type { Permit } from "../overload/admission.js";
import type { Sheddable } from "../overload/connection-shedder.js";
import type { FrontDoor } from "../overload/front-door.js";
import { grpcDeadlineMs } from "../overload/grpc-timeout.js";
import { ReadTurns } from "../overload/read-turns.js";
import { refuseRequest } from "../overload/refuse-request.js";
import type { IncomingCall } from "../pipeline.js";
import type { Route } from "../routes.js";
import { answerKey, keepLarge, withKept } from "./connect-answer.js";
import { type Arriving, decodeKey, type Mounted, takeMessage } from "./connect-message.js";
import { sniff } from "./sniff.js";

type NodeRequest = http.IncomingMessage | http2.Http2ServerRequest;
type NodeResponse = http.ServerResponse | http2.Http2ServerResponse;

/** Paths that are not RPCs: `/metrics`, `/healthz`, `/readyz`. Answers false when the path is not one of its own. */
export type PlainPages = (path: string, response: NodeResponse) => boolean;

const headersTimeoutMs = 10_000;
/** Longer than a message has to arrive, so that a late one is told so. For what is not read to its end. */
const requestTimeoutMs = 12_000;
const timeoutCheckMs = 1_000;
/** A connection on which nothing moves is closed. Calls are over by then, for they have 30 s at most. */
const idleMs = 60_000;

/** How long it took to read the message. */
const readMsKey = createContextKey(0);

/** The call's place among those at work. */
const placeKey = createContextKey<Place | null>(null);

interface Place {
  readonly permit: Permit;
  /** The pipeline has it, and gives it back. */
  isHandedOn: boolean;
}

/** The Connect, gRPC-Web and JSON protocols over HTTP/1.1 and HTTP/2 (also gRPC over HTTP/2), all on one port. */
export class ConnectServer {
  private readonly listener: net.Server;
  private readonly http1: http.Server;
  private readonly http2: http2.Http2Server;
  private readonly sockets = new Set<net.Socket>();
  private readonly sessions = new Set<http2.ServerHttp2Session>();
  private readonly connections = new WeakMap<http2.Http2Session, Sheddable>();
  private readonly handlers = new Map<string, Mounted & { readonly route: Route }>();
  private readonly streams = new OpenStreams();
  private readonly turns: ReadTurns;

  constructor(
    routes: readonly Route[],
    private readonly largeMessages: LargeMessages,
    private readonly deadlines: ArrivalDeadlines,
    private readonly pages: PlainPages,
    private readonly frontDoor: FrontDoor,
    private readonly onError: (error: unknown) => void,
  ) {
    this.turns = new ReadTurns();
    // Brotli is left out: it is decompressed before any limit of ours applies.
    for (const route of routes) {
      const readMaxBytes = route.maxMessageBytes;
      const router = createConnectRouter({ acceptCompression: [compressionGzip], readMaxBytes });
      router.rpc(route.method, (request, context) => serve(route, request, context) as never);
      for (const handler of router.handlers) this.handlers.set(handler.requestPath, { ...route, route, handler });
    }

    const handle = (request: NodeRequest, response: NodeResponse) => this.handle(request, response);
    this.http1 = http.createServer(
      {
        headersTimeout: headersTimeoutMs,
        requestTimeout: requestTimeoutMs,
        connectionsCheckingInterval: timeoutCheckMs,
        // Longer than a balancer keeps an idle connection, or it would send a call into one that is just being closed.
        keepAliveTimeout: idleMs,
      },
      handle,
    );
    this.http1.setTimeout(idleMs);
    // It is handed its connections and never listens itself, but only then does it begin to look at its time limits.
    this.http1.emit("listening");
    this.http2 = http2.createServer({ settings: { maxConcurrentStreams }, ...http2Limits }, (request, response) => {
      this.turns.arrived(request.stream);
      if (isGone(request, response)) return;
      // To the client that means that nothing was done.
      if (this.streams.add(request.stream)) handle(request, response);
      else request.stream.close(http2.constants.NGHTTP2_REFUSED_STREAM);
    });
    this.http2.on("session", (session) => {
      this.sessions.add(session);
      this.turns.opened(session);
      const connection = { leave: () => session.close() };
      this.connections.set(session, connection);
      this.frontDoor.opened(connection);
      session.on("close", () => {
        this.sessions.delete(session);
        this.frontDoor.closed(connection);
      });
      session.on("error", () => session.destroy());
      session.setTimeout(idleMs, () => session.destroy());
    });
    this.listener = net.createServer({ noDelay: true }, (socket) => this.accept(socket));
    this.listener.maxConnections = maxConnections;
  }

  listen(host: string, port: number): Promise<number> {
    return new Promise((resolve, reject) => {
      this.listener.once("error", reject);
      this.listener.listen({ port, host, backlog: maxBacklog }, () =>
        resolve((this.listener.address() as net.AddressInfo).port),
      );
    });
  }

  /** Takes no new connections, ends idle ones with GOAWAY, and cuts off what is left after the given time. */
  async close(drainMs: number): Promise<void> {
    const closed = new Promise<void>((resolve) => this.listener.close(() => resolve()));
    for (const session of this.sessions) session.close();
    this.http1.closeIdleConnections();
    const timer = setTimeout(() => {
      for (const socket of this.sockets) socket.destroy();
    }, drainMs);
    // Connections that are kept alive become idle one by one, as their calls end.
    const idle = setInterval(() => this.http1.closeIdleConnections(), 50);
    await closed;
    clearTimeout(timer);
    clearInterval(idle);
    this.http1.close();
  }

  private accept(socket: net.Socket): void {
    this.sockets.add(socket);
    socket.on("close", () => this.sockets.delete(socket));
    socket.on("error", () => socket.destroy());
    sniff(socket, this.deadlines, (isHttp2) => {
      (isHttp2 ? this.http2 : this.http1).emit("connection", socket);
      if (!isHttp2) process.nextTick(() => socket.resume());
    });
  }

  /** Every request is answered, or its connection is cut. */
  private handle(request: NodeRequest, response: NodeResponse): void {
    const fail = (error: unknown) => {
      // Nobody is there to be answered, which is all that the error says.
      if (isGone(request, response)) return;
      if (ConnectError.from(error).code !== ConnectCode.Aborted) this.onError(error);
      if (response.headersSent) response.destroy();
      else answerPlain(response, 500, "the answer could not be made\n");
    };
    try {
      const path = (request.url ?? "").split("?", 1)[0] ?? "";
      const mounted = this.handlers.get(path);
      if (mounted) this.knock(mounted, request, response, fail);
      else if (!this.pages(path, response)) answerPlain(response, 404, "");
    } catch (error) {
      fail(error);
    }
  }

  /** Asks for room before anything is made of a call. */
  private knock(
    mounted: Mounted & { readonly route: Route },
    request: NodeRequest,
    response: NodeResponse,
    fail: (error: unknown) => void,
  ): void {
    const session = "stream" in request ? request.stream.session : undefined;
    const connection = (session && this.connections.get(session)) ?? null;
    this.frontDoor.knock(connection, {
      rpc: mounted.route.method.name,
      kind: mounted.route.kind,
      deadlineMs: () => deadlineOf(request),
      admit: (permit) => {
        if (isGone(request, response)) {
          permit.end(false);
          return;
        }
        const place = { permit, isHandedOn: false };
        this.call(mounted, request, response, place)
          .catch(fail)
          .finally(() => {
            if (!place.isHandedOn) permit.end(false);
          });
      },
      refuse: (failure) => refuseRequest(request, response, failure),
    });
  }

  private async call(mounted: Mounted, request: NodeRequest, response: NodeResponse, place: Place): Promise<void> {
    let universal: UniversalServerRequest;
    try {
      universal = universalRequestFromNodeRequest(request, response, undefined, createContextValues());
    } catch {
      // It makes a URL of the host and the path.
      answerPlain(response, 400, "the host or the path is none\n");
      return;
    }
    const arrivedMs = Date.now();
    const { arriving, arrived } = this.arrive(request, response);
    const taken = await takeMessage(mounted, universal, arriving);
    arrived();
    if (isGone(request, response)) return;
    // connect-node counts the caller's timeout from here on; the caller counts from when it asked.
    taken.contextValues?.set(readMsKey, Date.now() - arrivedMs).set(placeKey, place);
    const answer = await mounted.handler(taken);
    const kept = taken.contextValues?.get(answerKey);
    const whole = kept ? await withKept(answer, kept, universal.header.get("accept-encoding")) : answer;
    await universalResponseToNodeResponse(whole, response);
  }

  /** Holds room for a large message until the call is over, and looks after the time in which it must arrive. */
  private arrive(request: NodeRequest, response: NodeResponse): { arriving: Arriving; arrived: () => void } {
    const held = this.largeMessages.open(("stream" in request && request.stream.session) || request.socket);
    let onLate = () => {};
    const late = new Promise<"late">((resolve) => {
      onLate = () => resolve("late");
    });
    const arrival = this.deadlines.begin(onLate);
    const arrived = () => this.deadlines.end(arrival);
    response.once("close", () => {
      held.close();
      arrived();
    });
    const abandon = () => {
      if ("stream" in request) closeAnswered(request.stream);
      else (response as http.ServerResponse).setHeader("connection", "close");
    };
    return { arriving: { held, late, abandon }, arrived };
  }
}

function answerPlain(response: NodeResponse, status: number, text: string): void {
  try {
    response.writeHead(status, { "content-type": "text/plain" });
    response.end(text);
  } catch {
    response.destroy();
  }
}

/** Whether nobody is there any more to be answered. */
function isGone(request: NodeRequest, response: NodeResponse): boolean {
  return "stream" in request ? request.stream.closed || request.stream.destroyed : response.destroyed;
}

/** In ms since 1970; Infinity: the caller did not say. */
function deadlineOf({ headers }: NodeRequest): number {
  const now = Date.now();
  const timeoutMs = headers["connect-timeout-ms"];
  if (typeof timeoutMs === "string" && /^\d{1,10}$/.test(timeoutMs)) return now + Number(timeoutMs);
  return grpcDeadlineMs(headers["grpc-timeout"] as string | undefined, now);
}

async function serve({ method, invoke }: Route, request: unknown, context: HandlerContext): Promise<unknown> {
  const leftMs = context.timeoutMs();
  const decode = context.values.get(decodeKey);
  const place = context.values.get(placeKey) as Place;
  place.isHandedOn = true;
  const call: IncomingCall = {
    frontEnd: "connect",
    header: (name) => context.requestHeader.get(name) ?? undefined,
    deadlineMs: leftMs === undefined ? Number.POSITIVE_INFINITY : Date.now() + leftMs - context.values.get(readMsKey),
    permit: place.permit,
    decode: () => (decode ? decode(method) : request),
  };
  const answer = await invoke(call, (one) => keepLarge(method, one, context) ?? one);
  if (!(answer instanceof Failure)) return answer;
  throw new ConnectError(
    answer.message,
    answer.code as number as ConnectCode,
    undefined,
    answer.details.map(({ desc, value }) => ({ desc, value: create(desc, value as never) })),
  );
}
