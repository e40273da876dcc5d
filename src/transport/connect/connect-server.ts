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
import { steadyMs } from "../../platform/clock.js";
import { Code, Failure } from "../error-table.js";
import { http2Limits, maxBacklog, maxConnections, newConnectionStreams } from "../http2-limits.js";
import type { ArrivalDeadlines } from "../messages/arrival-deadlines.js";
import type { LargeMessages } from "../messages/large-messages.js";
import type { Permit } from "../overload/admission.js";
import type { ArrivingStream } from "../overload/arriving-stream.js";
import { ArrivingStreams } from "../overload/arriving-streams.js";
import type { LoadShedder } from "../overload/load-shedder.js";
import { refuseRequest } from "../overload/refuse.js";
import type { IncomingCall } from "../pipeline.js";
import type { Route } from "../routes.js";
import { sniff } from "../sniff.js";
import { withAdvice } from "./advice.js";
import { answerKey, keepLarge, withKept } from "./connect-answer.js";
import { type Arriving, decodeKey, type Mounted, takeMessage } from "./connect-message.js";
import {
  ArrivingRequest,
  answerPlain,
  deadlineOf,
  isGone,
  type NodeRequest,
  type NodeResponse,
  pathOf,
} from "./node-request.js";

/** Paths that are not RPCs: `/metrics`, `/healthz`, `/readyz`. Answers false when the path is not one of its own. */
export type PlainPages = (path: string, response: NodeResponse) => boolean;

const headersTimeoutMs = 10_000;
/** Longer than a message has to arrive, so that a late one is told so. For what is not read to its end. */
const requestTimeoutMs = 12_000;
const timeoutCheckMs = 1_000;
/** A connection on which nothing moves is closed. Calls are over by then, for they have 30 s at most. */
const idleMs = 60_000;

const notFound = "There is nothing here: RPCs are POST /coupon.v1.CatalogService/CreateCoupon and the like.\n";

/** How long it took to read the message. */
const readMsKey = createContextKey(0);

/** The call, admitted. */
const admittedKey = createContextKey<Admitted | null>(null);

interface Admitted {
  readonly permit: Permit;
  /** The pipeline has it, and gives it back. */
  isHandedOn: boolean;
  readonly arriving: Pick<ArrivingStream, "abandon" | "arrived" | "onLate">;
}

// Node loads its fetch, 45 ms of work, when the first of these names is used: not while a call waits.
void globalThis.Headers;

/** The Connect, gRPC-Web and JSON protocols over HTTP/1.1 and HTTP/2 (also gRPC over HTTP/2), all on one port. */
export class ConnectServer {
  private readonly listener: net.Server;
  private readonly http1: http.Server;
  private readonly http2: http2.Http2Server;
  private readonly sockets = new Set<net.Socket>();
  private readonly sessions = new Set<http2.ServerHttp2Session>();
  private readonly handlers = new Map<string, Mounted & { readonly route: Route }>();
  /** Of the streams that were let in. */
  private readonly admitted = new WeakMap<http2.ServerHttp2Stream, Admitted>();

  constructor(
    routes: readonly Route[],
    private readonly largeMessages: LargeMessages,
    private readonly deadlines: ArrivalDeadlines,
    private readonly pages: PlainPages,
    private readonly loadShedder: LoadShedder,
    private readonly onError: (error: unknown) => void,
  ) {
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
    this.http2 = http2.createServer(
      { settings: { maxConcurrentStreams: newConnectionStreams }, ...http2Limits },
      handle,
    );
    this.http2.on("session", (session) => {
      this.sessions.add(session);
      session.on("close", () => this.sessions.delete(session));
      session.on("error", () => session.destroy());
      session.setTimeout(idleMs, () => session.destroy());
    });
    const streams = new ArrivingStreams(loadShedder, deadlines, {
      routeOf: (path) => this.mountedAt(path)?.route,
      deadlineOf,
      begin: (arriving, _route, permit) => {
        this.admitted.set(arriving.stream, { permit, isHandedOn: false, arriving });
        arriving.serve();
      },
      other: (arriving) => arriving.serve(),
    });
    streams.watch(this.http2);
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

  private mountedAt(url: string) {
    return this.handlers.get(pathOf(url));
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
      const url = request.url ?? "";
      const mounted = this.mountedAt(url);
      const admitted = "stream" in request ? this.admitted.get(request.stream) : undefined;
      if (mounted && admitted) this.begin(mounted, request, response, admitted, fail);
      else if (mounted && !("stream" in request))
        this.admitOrShed(mounted, request, response as http.ServerResponse, fail);
      else if (!this.pages(pathOf(url), response)) answerPlain(response, 404, notFound);
    } catch (error) {
      fail(error);
    }
  }

  /** Asks for a permit before anything is made of a call; over HTTP/2 that is done before there is a request. */
  private admitOrShed(
    mounted: Mounted & { readonly route: Route },
    request: http.IncomingMessage,
    response: http.ServerResponse,
    fail: (error: unknown) => void,
  ): void {
    this.loadShedder.admitOrShed(null, {
      rpc: mounted.route.method.name,
      kind: mounted.route.kind,
      deadlineMs: () => deadlineOf(request.headers),
      admit: (permit) => {
        const arriving = new ArrivingRequest(response, this.deadlines);
        if (response.destroyed) permit.end(false);
        else this.begin(mounted, request, response, { permit, isHandedOn: false, arriving }, fail);
      },
      refuse: (failure) => refuseRequest(request, response, failure),
    });
  }

  private begin(
    mounted: Mounted,
    request: NodeRequest,
    response: NodeResponse,
    admitted: Admitted,
    fail: (error: unknown) => void,
  ): void {
    this.call(mounted, request, response, admitted)
      .catch(fail)
      .finally(() => {
        if (!admitted.isHandedOn) admitted.permit.end(false);
      });
  }

  private async call(
    mounted: Mounted,
    request: NodeRequest,
    response: NodeResponse,
    admitted: Admitted,
  ): Promise<void> {
    let universal: UniversalServerRequest;
    try {
      universal = universalRequestFromNodeRequest(request, response, undefined, createContextValues());
    } catch {
      // It makes a URL of the host and the path.
      answerPlain(response, 400, "the host or the path is none\n");
      return;
    }
    const arrivedMs = steadyMs();
    const taken = await takeMessage(mounted, universal, this.arrive(request, response, admitted));
    admitted.arriving.arrived();
    if (isGone(request, response)) return;
    // connect-node counts the caller's timeout from here on; the caller counts from when it asked.
    taken.contextValues?.set(readMsKey, steadyMs() - arrivedMs).set(admittedKey, admitted);
    const answer = withAdvice(await mounted.handler(taken), mounted.handler, universal.method);
    const kept = taken.contextValues?.get(answerKey);
    const whole = kept ? await withKept(answer, kept, universal.header.get("accept-encoding")) : answer;
    await universalResponseToNodeResponse(whole, response);
  }

  /** Counts the memory of a large message until the call is over, and looks after the time in which it must arrive. */
  private arrive(request: NodeRequest, response: NodeResponse, { arriving }: Admitted): Arriving {
    const large = this.largeMessages.open(("stream" in request && request.stream.session) || request.socket);
    response.once("close", () => large.close());
    const late = new Promise<"late">((resolve) => {
      arriving.onLate = () => resolve("late");
    });
    return { large, late, abandon: () => arriving.abandon() };
  }
}

/** As HTTP wants it of every 401. */
const challenge = { "www-authenticate": "Bearer" };

async function serve({ method, invoke }: Route, request: unknown, context: HandlerContext): Promise<unknown> {
  const leftMs = context.timeoutMs();
  const decode = context.values.get(decodeKey);
  const admitted = context.values.get(admittedKey) as Admitted;
  admitted.isHandedOn = true;
  const call: IncomingCall = {
    frontEnd: "connect",
    header: (name) => context.requestHeader.get(name) ?? undefined,
    deadlineMs: leftMs === undefined ? Number.POSITIVE_INFINITY : steadyMs() + leftMs - context.values.get(readMsKey),
    permit: admitted.permit,
    decode: () => (decode ? decode(method) : request),
  };
  const answer = await invoke(call, (one) => keepLarge(method, one, context) ?? one);
  if (!(answer instanceof Failure)) return answer;
  throw new ConnectError(
    answer.message,
    answer.code as number as ConnectCode,
    answer.code === Code.unauthenticated ? challenge : undefined,
    answer.details.map(({ desc, value }) => ({ desc, value: create(desc, value as never) })),
  );
}
