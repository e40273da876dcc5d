import * as http from "node:http";
import * as http2 from "node:http2";
import * as net from "node:net";
import { promisify } from "node:util";
import { gunzip } from "node:zlib";
import { create, type DescMethodUnary } from "@bufbuild/protobuf";
import {
  Code as ConnectCode,
  ConnectError,
  createConnectRouter,
  createContextKey,
  createContextValues,
  type HandlerContext,
} from "@connectrpc/connect";
import type { UniversalHandler, UniversalServerRequest } from "@connectrpc/connect/protocol";
import {
  compressionGzip,
  universalRequestFromNodeRequest,
  universalResponseToNodeResponse,
} from "@connectrpc/connect-node";
import { Refusal } from "../domain/refusal.js";
import { readBinary, readJson } from "./decode.js";
import { Failure } from "./error-table.js";
import { http2Limits, maxConcurrentStreams } from "./http2-limits.js";
import type { LargeMessage, LargeMessages } from "./large-messages.js";
import type { Ticket } from "./overload/admission.js";
import type { Sheddable } from "./overload/connection-shedder.js";
import type { FrontDoor } from "./overload/front-door.js";
import { grpcDeadlineMs } from "./overload/grpc-timeout.js";
import { refuseRequest } from "./overload/refuse-request.js";
import type { IncomingCall } from "./pipeline.js";
import type { Route } from "./routes.js";

type NodeRequest = http.IncomingMessage | http2.Http2ServerRequest;
type NodeResponse = http.ServerResponse | http2.Http2ServerResponse;

interface Mounted {
  readonly route: Route;
  readonly handler: UniversalHandler;
  readonly maxMessageBytes: number;
}

/** Paths that are not RPCs: `/metrics`, `/healthz`, `/readyz`. Answers false when the path is not one of its own. */
export type PlainPages = (path: string, response: NodeResponse) => boolean;

const headersTimeoutMs = 10_000;
const requestTimeoutMs = 30_000;
const timeoutCheckMs = 1_000;
const envelopeBytes = 5;
/** A longer body is not read to its end: the connection is cut. */
const maxDiscardedBytes = 16 * 1024 * 1024;

/**
 * Reads the message that the pipeline will ask for. connect-node would decode it before any of our code runs, and
 * answer broken bytes with INTERNAL; so it gets an empty message, and the pipeline decodes the real one.
 */
const decodeKey = createContextKey<((method: DescMethodUnary) => unknown | Refusal) | null>(null);

/** How long it took to read the message. */
const readMsKey = createContextKey(0);

/** The call's place among those at work. */
const placeKey = createContextKey<Place | null>(null);

interface Place {
  readonly ticket: Ticket;
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
  private readonly handlers = new Map<string, Mounted>();

  constructor(
    routes: readonly Route[],
    private readonly largeMessages: LargeMessages,
    private readonly pages: PlainPages,
    private readonly frontDoor: FrontDoor,
    private readonly onError: (error: unknown) => void,
  ) {
    // Brotli is left out: it is decompressed before any limit of ours applies.
    for (const route of routes) {
      const { method, maxMessageBytes } = route;
      const router = createConnectRouter({ acceptCompression: [compressionGzip], readMaxBytes: maxMessageBytes });
      router.rpc(method, (request, context) => serve(route, request, context) as never);
      for (const handler of router.handlers) {
        this.handlers.set(handler.requestPath, { route, handler, maxMessageBytes });
      }
    }

    const handle = (request: NodeRequest, response: NodeResponse) => this.handle(request, response);
    this.http1 = http.createServer(
      {
        headersTimeout: headersTimeoutMs,
        requestTimeout: requestTimeoutMs,
        connectionsCheckingInterval: timeoutCheckMs,
      },
      handle,
    );
    // It is handed its connections and never listens itself, but only then does it begin to look at its time limits.
    this.http1.emit("listening");
    this.http2 = http2.createServer({ settings: { maxConcurrentStreams }, ...http2Limits }, handle);
    this.http2.on("session", (session) => {
      this.sessions.add(session);
      const connection = { leave: () => session.close() };
      this.connections.set(session, connection);
      this.frontDoor.opened(connection);
      session.on("close", () => {
        this.sessions.delete(session);
        this.frontDoor.closed(connection);
      });
    });
    this.listener = net.createServer({ noDelay: true }, (socket) => this.accept(socket));
  }

  listen(host: string, port: number): Promise<number> {
    return new Promise((resolve, reject) => {
      this.listener.once("error", reject);
      this.listener.listen(port, host, () => resolve((this.listener.address() as net.AddressInfo).port));
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

  /** HTTP/2 with prior knowledge begins with a preface that is no HTTP/1.1 request. */
  private accept(socket: net.Socket): void {
    this.sockets.add(socket);
    socket.on("close", () => this.sockets.delete(socket));
    socket.on("error", () => socket.destroy());
    socket.setTimeout(headersTimeoutMs, () => socket.destroy());
    socket.once("data", (first) => {
      socket.pause();
      socket.setTimeout(0);
      socket.unshift(first);
      const isHttp2 = (first as Buffer).subarray(0, 3).toString("latin1") === "PRI";
      (isHttp2 ? this.http2 : this.http1).emit("connection", socket);
      if (!isHttp2) process.nextTick(() => socket.resume());
    });
  }

  /** Holds room for a large message until the call is over. */
  private takeMessage(mounted: Mounted, request: UniversalServerRequest, response: NodeResponse) {
    return takeMessage(mounted, request, (compressed) => {
      const message = this.largeMessages.open(compressed, mounted.maxMessageBytes);
      response.once("close", message.close);
      return message;
    });
  }

  private handle(request: NodeRequest, response: NodeResponse): void {
    const path = (request.url ?? "").split("?", 1)[0] ?? "";
    const mounted = this.handlers.get(path);
    if (!mounted) {
      if (!this.pages(path, response)) response.writeHead(404).end();
      return;
    }
    const session = "stream" in request ? request.stream.session : undefined;
    const connection = (session && this.connections.get(session)) ?? http1Connection;
    this.frontDoor.knock(connection, {
      rpc: mounted.route.method.name,
      kind: mounted.route.kind,
      deadlineMs: () => deadlineOf(request),
      admit: (ticket) => void this.answer(mounted, request, response, { ticket, isHandedOn: false }),
      refuse: (failure) => refuseRequest(request, response, failure),
    });
  }

  private async answer(mounted: Mounted, request: NodeRequest, response: NodeResponse, place: Place): Promise<void> {
    try {
      const universal = universalRequestFromNodeRequest(request, response, undefined, createContextValues());
      const arrivedMs = Date.now();
      const taken = await this.takeMessage(mounted, universal, response);
      // connect-node counts the caller's timeout from here on; the caller counts from when it asked.
      taken.contextValues?.set(readMsKey, Date.now() - arrivedMs).set(placeKey, place);
      const answer = await mounted.handler(taken);
      await universalResponseToNodeResponse(answer, response);
    } catch (error) {
      if (ConnectError.from(error).code !== ConnectCode.Aborted) this.onError(error);
    } finally {
      if (!place.isHandedOn) place.ticket.end(false);
    }
  }
}

/** Connections of HTTP/1.1 have one call at a time each, and are not asked to go. */
const http1Connection: Sheddable = { leave: () => {} };

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
    ticket: place.ticket,
    decode: () => (decode ? decode(method) : request),
  };
  const answer = await invoke(call, (one) => one);
  if (!(answer instanceof Failure)) return answer;
  throw new ConnectError(
    answer.message,
    answer.code as number as ConnectCode,
    undefined,
    answer.details.map(({ desc, value }) => ({ desc, value: create(desc, value as never) })),
  );
}

/** Replaces the message by an empty one and keeps the real one for the pipeline. */
async function takeMessage(
  { handler, maxMessageBytes }: Mounted,
  request: UniversalServerRequest,
  open: (compressed: boolean) => LargeMessage,
): Promise<UniversalServerRequest> {
  const isGet = request.method === "GET";
  const query = new URL(request.url).searchParams;
  const type = isGet ? `application/${query.get("encoding")}` : (request.header.get("content-type") ?? "");
  const known = isGet
    ? type === "application/json" || type === "application/proto"
    : handler.supportedContentType(type);
  if (!known || !handler.allowedMethods.includes(request.method)) return request;
  const enveloped = type.startsWith("application/grpc");
  const json = type.includes("json");

  const encoding =
    (isGet ? query.get("compression") : request.header.get(enveloped ? "grpc-encoding" : "content-encoding")) ||
    "identity";
  const body = isGet
    ? Buffer.from(query.get("message") ?? "", query.get("base64") === "1" ? "base64url" : "utf8")
    : await readBody(
        request.body as AsyncIterable<Uint8Array>,
        maxMessageBytes + envelopeBytes,
        open(encoding !== "identity"),
      );
  const message = body instanceof Refusal ? body : await unpack(body, enveloped, encoding, maxMessageBytes);
  // An encoding that is not ours, or a broken envelope: connect-node knows what to answer.
  if (message === "foreign") return isGet ? request : { ...request, body: once(body as Uint8Array) };

  const decode = (method: DescMethodUnary) => {
    if (message instanceof Refusal) return message;
    return json ? readJson(method.input, message) : readBinary(method.input, message);
  };
  const contextValues = (request.contextValues ?? createContextValues()).set(decodeKey, decode);
  const empty = json ? "{}" : "";
  if (isGet) {
    const url = new URL(request.url);
    url.searchParams.set("message", empty);
    for (const name of ["base64", "compression"]) url.searchParams.delete(name);
    return { ...request, url: url.href, contextValues };
  }
  const header = new Headers(request.header);
  header.delete("content-encoding");
  header.delete("content-length");
  const envelope = enveloped ? Buffer.from([0, 0, 0, 0, empty.length]) : Buffer.alloc(0);
  return { ...request, header, body: once(Buffer.concat([envelope, Buffer.from(empty)])), contextValues };
}

/** The message's bytes, a refusal when they are too many, "foreign" when they are not ours to unpack. */
async function unpack(
  body: Uint8Array,
  enveloped: boolean,
  encoding: string,
  limitBytes: number,
): Promise<Uint8Array | Refusal | "foreign"> {
  let message = body;
  let compressed = encoding !== "identity";
  if (enveloped) {
    const length = body.length >= envelopeBytes ? Buffer.from(body).readUInt32BE(1) : -1;
    if (length !== body.length - envelopeBytes || (body[0] !== 0 && body[0] !== 1)) return "foreign";
    compressed = body[0] === 1;
    message = body.subarray(envelopeBytes);
  }
  if (!compressed) return message.length > limitBytes ? new Refusal("MESSAGE_TOO_LARGE") : message;
  if (encoding !== "gzip") return "foreign";
  try {
    return await promisify(gunzip)(message, { maxOutputLength: limitBytes });
  } catch (error) {
    const tooLarge = (error as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE";
    return tooLarge ? new Refusal("MESSAGE_TOO_LARGE") : "foreign";
  }
}

/** The whole body, or why there is none; then the rest is read, up to a bound, and thrown away. */
async function readBody(
  body: AsyncIterable<Uint8Array>,
  limitBytes: number,
  large: LargeMessage,
): Promise<Uint8Array | Refusal> {
  let chunks: Uint8Array[] = [];
  let bytes = 0;
  let refusal: Refusal | undefined;
  for await (const chunk of body) {
    bytes += chunk.byteLength;
    if (bytes > limitBytes) refusal ??= new Refusal("MESSAGE_TOO_LARGE");
    else if (!large.add(chunk.byteLength)) refusal ??= new Refusal("OVERLOADED");
    if (refusal) chunks = [];
    else chunks.push(chunk);
    if (bytes > maxDiscardedBytes) break;
  }
  return refusal ?? Buffer.concat(chunks);
}

async function* once(bytes: Uint8Array): AsyncIterable<Uint8Array> {
  if (bytes.length > 0) yield bytes;
}
