import type { Http2Session } from "node:http2";
import type { DescService } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { steadyMs } from "../../platform/clock.js";
import { ClientPace } from "../client-pace.js";
import { Code, Failure } from "../error-table.js";
import { http2Limits, maxBacklog, newConnectionStreams } from "../http2-limits.js";
import type { ArrivalDeadlines } from "../messages/arrival-deadlines.js";
import { encodeAnswer } from "../messages/encode-answer.js";
import type { LargeMessages } from "../messages/large-messages.js";
import type { Permit } from "../overload/admission.js";
import type { ArrivingStream } from "../overload/arriving-stream.js";
import { ArrivingStreams } from "../overload/arriving-streams.js";
import { grpcDeadlineMs } from "../overload/grpc-timeout.js";
import { Listener } from "../overload/listener.js";
import type { LoadShedder } from "../overload/load-shedder.js";
import type { IncomingCall } from "../pipeline.js";
import type { Route } from "../routes.js";
import type { Standard } from "../standard/standard-method.js";
import { certificateOf } from "../tls/client-certificate.js";
import type { Tls } from "../tls/tls.js";
import { serviceDefinition } from "./definitions.js";
import { http2ServersOf, setHttp2Options } from "./grpc-http2.js";
import { boundOther, type GrpcMessage, GrpcMessages } from "./grpc-messages.js";
import { sendAll, signalOf } from "./grpc-streams.js";
import { Keepalive } from "./keepalive.js";
import { addStandardMethods } from "./standard-handlers.js";
import { endUntold } from "./untold.js";
import { speaksGrpc, WrongPort } from "./wrong-port.js";

/**
 * The header under which grpc-js hands on which stream a call has come by: it gives handlers the headers of a stream and
 * not the stream. What a client sends under this name is replaced.
 */
const arrivalHeader = "coupon-arrival";

/** It writes headers that it cannot read to standard error, as they came: a key, say, with a letter in it that is none of ASCII. */
grpc.setLogVerbosity(grpc.logVerbosity.NONE);

/** A stream that was let in, until its handler is called or it is closed. */
interface Arrival {
  readonly arriving: ArrivingStream;
  readonly permit: Permit;
  readonly deadlineMs: number;
  readonly message: GrpcMessage;
}

/** Native gRPC, with its own services: health, and reflection unless it is off. */
export class GrpcServer {
  private readonly server: grpc.Server;
  private readonly routes: ReadonlyMap<string, Route>;
  private readonly pace = new ClientPace();
  private readonly keepalive = new Keepalive();
  private readonly listeners: Listener[] = [];
  private readonly sessions = new Set<Http2Session>();
  /** Each lets go of its call when it leaves: V8 keeps old copies of the table behind a busy Map, see `ArrivalDeadlines.end`. */
  private readonly arrivals = new Map<string, { call: Arrival | undefined }>();
  private arrivalCount = 0;
  private readonly streams: ArrivingStreams;
  private readonly messages: GrpcMessages;
  private readonly wrongPort: WrongPort;

  constructor(
    routes: readonly Route[],
    largeMessages: LargeMessages,
    deadlines: ArrivalDeadlines,
    private readonly loadShedder: LoadShedder,
    /** Hears why a caller could not be told how its call went. */
    private readonly onError: (error: unknown) => void,
    { tls, standard }: { readonly tls?: Tls | undefined; readonly standard?: Standard } = {},
  ) {
    this.streams = new ArrivingStreams(loadShedder, deadlines, {
      routeOf: (path) => this.routes.get(path),
      deadlineOf: (headers) => grpcDeadlineMs(headers["grpc-timeout"] as string | undefined, steadyMs()),
      begin: (...call) => this.begin(...call),
      // Health and reflection are always answered.
      other: (arriving) => {
        const { stream, headers } = arriving;
        if (!speaksGrpc(stream, headers)) return arriving.abandon();
        boundOther(stream, headers);
        arriving.serve();
      },
    });
    this.messages = new GrpcMessages(largeMessages);
    this.wrongPort = new WrongPort(deadlines, tls);
    // What is longer is not read: grpc-js has one limit for all methods.
    const longestBytes = Math.max(...routes.map(({ maxMessageBytes }) => maxMessageBytes));
    this.routes = new Map(routes.map((route) => [pathOf(route), route]));
    this.server = new grpc.Server({
      "grpc.max_receive_message_length": longestBytes,
      "grpc.max_concurrent_streams": newConnectionStreams,
      // Nobody can ask for what it counts with every call.
      "grpc.enable_channelz": 0,
    });
    setHttp2Options(this.server, http2Limits);
    const services = new Map<DescService, Route[]>();
    for (const route of routes) {
      services.set(route.method.parent, [...(services.get(route.method.parent) ?? []), route]);
    }
    for (const [service, ofService] of services) {
      this.server.addService(
        serviceDefinition(service),
        Object.fromEntries(
          ofService.map((route) => [
            route.method.name,
            route.method.methodKind === "unary" ? this.unaryHandler(route) : this.streamHandler(route),
          ]),
        ),
      );
    }
    if (standard) addStandardMethods(this.server, standard);
  }

  /** Answers the port that it listens on. */
  listen(host: string, port: number): Promise<number> {
    return new Promise((resolve, reject) => {
      const address = host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
      this.server.bindAsync(address, grpc.ServerCredentials.createInsecure(), (error, bound) => {
        if (error) return reject(error);
        for (const http2Server of http2ServersOf(this.server)) {
          this.streams.watch(http2Server);
          this.wrongPort.watch(http2Server);
          http2Server.on("session", (session) => {
            this.keepalive.add(session);
            this.sessions.add(session);
            session.once("close", () => this.sessions.delete(session));
          });
          const listener = new Listener(http2Server, maxBacklog, (failure) => this.loadShedder.cannotListen(failure));
          this.listeners.push(listener);
          this.loadShedder.limitConnections((most) => listener.limit(most));
        }
        void Promise.all(this.listeners.map(({ ready }) => ready)).then(() => resolve(bound));
      });
    });
  }

  private begin(arriving: ArrivingStream, _route: Route, permit: Permit, deadlineMs: number): void {
    const { stream, headers } = arriving;
    if (!speaksGrpc(stream, headers)) {
      permit.end(false);
      arriving.abandon();
      return;
    }
    const arrival = { arriving, permit, deadlineMs, message: this.messages.open(arriving) };
    const id = String(this.arrivalCount++);
    this.arrivals.set(id, { call: arrival });
    arriving.onClose = () => {
      arrival.message.close();
      // Closed before its message was whole: nobody else gives its permit back.
      if (this.leave(id)) permit.end(false);
    };
    headers[arrivalHeader] = id;
    // The pipeline keeps to the deadline; grpc-js would set a timer of its own for it.
    delete headers["grpc-timeout"];
    arriving.serve();
  }

  /** Tells clients to go elsewhere, lets calls under way end, and cuts off what is left after the given time. */
  close(drainMs: number): Promise<void> {
    this.keepalive.close();
    this.pace.close();
    this.wrongPort.close();
    for (const listener of this.listeners) listener.leave();
    return new Promise((resolve) => {
      // grpc-js knows its connections only while it counts for channelz.
      const timer = setTimeout(() => {
        for (const session of this.sessions) session.destroy();
      }, drainMs);
      this.server.tryShutdown(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  private unaryHandler(route: Route): grpc.handleUnaryCall<Buffer, Buffer> {
    const { method, invoke } = route;
    return (call, callback) => {
      const arrival = this.arrivalOf(call.metadata);
      if (!arrival) return;
      const incoming = incomingCall(route, call, arrival);
      const send = (answer: never) => arrival.message.hold(route, encodeAnswer(method.output, answer));
      invoke(incoming, send)
        .then((answer) => {
          const named = namedBy(incoming);
          if (answer instanceof Failure) return callback(failed(answer, named));
          call.sendMetadata(named);
          callback(null, answer);
        })
        .catch((error: unknown) => this.cannotTell(error, arrival));
    };
  }

  private streamHandler({ method, invoke, ...route }: Route): grpc.handleServerStreamingCall<Buffer, Buffer> {
    return (call) => {
      const arrival = this.arrivalOf(call.metadata);
      if (!arrival) return;
      const signal = signalOf(call);
      const incoming = { ...incomingCall({ ...route, method, invoke }, call, arrival), signal };
      const send = (messages: AsyncIterable<never>) => {
        call.sendMetadata(namedBy(incoming));
        return sendAll(call, messages, (one) => encodeAnswer(method.output, one), this.pace, signal);
      };
      invoke(incoming, send)
        .then((answer) => {
          if (!(answer instanceof Failure)) return call.end();
          call.emit("error", failed(answer, namedBy(incoming)));
          // What is thrown as the stream ends comes as an error of the stream's.
          call.once("error", (error) => this.cannotTell(error, arrival));
          // Whoever does not take what it was sent does not hear why, either.
          if (call.writableLength > 0) arrival.arriving.abandon();
        })
        .catch((error: unknown) => this.cannotTell(error, arrival));
    };
  }

  private cannotTell(error: unknown, { arriving }: Arrival): void {
    this.onError(error);
    endUntold(arriving);
  }

  /** undefined: it has left before. */
  private leave(id: string): Arrival | undefined {
    const arrival = this.arrivals.get(id);
    const call = arrival?.call;
    this.arrivals.delete(id);
    if (arrival) arrival.call = undefined;
    return call;
  }

  /** undefined: there is nobody to answer, or it was answered. */
  private arrivalOf(metadata: grpc.Metadata): Arrival | undefined {
    const id = metadata.get(arrivalHeader)[0] as string;
    const arrival = this.leave(id);
    // Its stream was closed at this very moment.
    if (!arrival) return undefined;
    arrival.arriving.arrived();
    if (!arrival.arriving.isAnswered) return arrival;
    // Its message took so long that this was said already.
    arrival.permit.end(false);
    return undefined;
  }
}

function namedBy({ requestId }: IncomingCall): grpc.Metadata {
  const metadata = new grpc.Metadata();
  metadata.set(requestIdHeader, requestId as string);
  return metadata;
}

function failed(failure: Failure, metadata: grpc.Metadata): Partial<grpc.StatusObject> {
  metadata.set(detailsTrailer, failure.status);
  if (failure.code === Code.unavailable && failure.retryAfterMs !== undefined) {
    metadata.set(pushbackTrailer, String(failure.retryAfterMs));
  }
  return { code: failure.code as number, details: failure.message, metadata };
}

/** By which a call is found in the log; the caller's own, if it has sent one. */
const requestIdHeader = "x-request-id";
const detailsTrailer = "grpc-status-details-bin";
/** When a client's own retry policy may send the call again, in ms. */
const pushbackTrailer = "grpc-retry-pushback-ms";

function incomingCall(
  route: Route,
  call: Pick<grpc.ServerUnaryCall<Buffer, Buffer>, "metadata" | "request">,
  { arriving, permit, deadlineMs, message }: Arrival,
): IncomingCall {
  return {
    frontEnd: "grpc",
    header: (name) => call.metadata.get(name)[0]?.toString(),
    certificate: () => certificateOf(arriving.stream.session),
    deadlineMs,
    permit,
    decode: () => message.read(route, call.request),
  };
}

function pathOf({ method }: Route): string {
  return `/${method.parent.typeName}/${method.name}`;
}
