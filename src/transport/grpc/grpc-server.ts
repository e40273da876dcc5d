import {
  constants,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import type { DescService } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { ReflectionService } from "@grpc/reflection";
import { Code, Failure } from "../error-table.js";
import { http2Limits, maxBacklog, maxConcurrentStreams } from "../http2-limits.js";
import type { ArrivalDeadlines } from "../messages/arrival-deadlines.js";
import { encodeAnswer } from "../messages/encode-answer.js";
import type { LargeMessages } from "../messages/large-messages.js";
import { OpenStreams } from "../open-streams.js";
import type { Permit } from "../overload/admission.js";
import type { Sheddable } from "../overload/connection-shedder.js";
import { Door } from "../overload/door.js";
import type { FrontDoor } from "../overload/front-door.js";
import { grpcDeadlineMs } from "../overload/grpc-timeout.js";
import { ReadTurns } from "../overload/read-turns.js";
import type { IncomingCall } from "../pipeline.js";
import type { Route } from "../routes.js";
import { packageDefinition, serviceDefinition } from "./definitions.js";
import { type Http2Watch, type Serve, setHttp2Options, watchHttp2 } from "./grpc-http2.js";
import { boundOther, type GrpcMessage, GrpcMessages } from "./grpc-messages.js";
import { Health } from "./health.js";
import { Keepalive } from "./keepalive.js";

/**
 * The header under which grpc-js hands on which stream a call has come by: it gives handlers the headers of a stream and
 * not the stream. What a client sends under this name is replaced.
 */
const arrivalHeader = "coupon-arrival";

/** A stream that was let in, until its handler is called or it is closed. */
interface Arrival {
  readonly permit: Permit;
  readonly deadlineMs: number;
  readonly message: GrpcMessage;
}

/** Native gRPC, with reflection (v1 and v1alpha) and health. */
export class GrpcServer {
  private readonly server: grpc.Server;
  private readonly health: Health;
  private readonly routes: ReadonlyMap<string, Route>;
  private readonly keepalive = new Keepalive();
  private readonly doors: Door[] = [];
  private readonly connections = new WeakMap<ServerHttp2Session, Sheddable>();
  private readonly arrivals = new Map<string, Arrival>();
  private arrivalCount = 0;
  private readonly streams = new OpenStreams();
  private readonly turns: ReadTurns;
  private readonly messages: GrpcMessages;

  constructor(
    routes: readonly Route[],
    largeMessages: LargeMessages,
    deadlines: ArrivalDeadlines,
    private readonly frontDoor: FrontDoor,
  ) {
    this.turns = new ReadTurns();
    this.messages = new GrpcMessages(largeMessages, deadlines);
    // What is longer is not read: grpc-js has one limit for all methods.
    const longestBytes = Math.max(...routes.map(({ maxMessageBytes }) => maxMessageBytes));
    this.routes = new Map(routes.map((route) => [pathOf(route), route]));
    this.server = new grpc.Server({
      "grpc.max_receive_message_length": longestBytes,
      "grpc.max_concurrent_streams": maxConcurrentStreams,
    });
    setHttp2Options(this.server, http2Limits);
    const services = new Map<DescService, Route[]>();
    for (const route of routes) {
      services.set(route.method.parent, [...(services.get(route.method.parent) ?? []), route]);
    }
    const definitions: Record<string, grpc.ServiceDefinition> = {};
    for (const [service, ofService] of services) {
      const definition = serviceDefinition(service);
      definitions[service.typeName] = definition;
      this.server.addService(
        definition,
        Object.fromEntries(ofService.map((route) => [route.method.name, this.unaryHandler(route)])),
      );
    }
    new ReflectionService(packageDefinition(definitions, [...services.keys()])).addToServer(this.server);
    this.health = new Health(["", ...[...services.keys()].map((service) => service.typeName)]);
    this.health.addTo(this.server);
  }

  /** Answers the port that it listens on. */
  listen(host: string, port: number): Promise<number> {
    return new Promise((resolve, reject) => {
      const address = host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
      this.server.bindAsync(address, grpc.ServerCredentials.createInsecure(), (error, bound) => {
        if (error) return reject(error);
        for (const http2Server of watchHttp2(this.server, this.watch)) {
          const door = new Door(http2Server, maxBacklog, (failure) => this.frontDoor.cannotListen(failure));
          this.doors.push(door);
          this.frontDoor.limitConnections((most) => door.limit(most));
        }
        void Promise.all(this.doors.map(({ ready }) => ready)).then(() => resolve(bound));
      });
    });
  }

  private readonly watch: Http2Watch = {
    session: (session) => {
      this.keepalive.add(session);
      this.turns.opened(session);
      const connection = { leave: () => session.close() };
      this.connections.set(session, connection);
      this.frontDoor.opened(connection);
      session.once("close", () => this.frontDoor.closed(connection));
    },
    stream: (stream, headers, serve) => this.take(stream, headers, serve),
  };

  /** Health and reflection are always answered; calls of ours ask for room first. */
  private take(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, serve: Serve): void {
    // Until grpc-js listens to it, and if it never does, nobody else would hear that it has failed.
    stream.on("error", () => {});
    this.turns.arrived(stream);
    // It was reset in the same breath.
    if (stream.closed || stream.destroyed) return;
    if (!this.streams.add(stream)) {
      stream.close(constants.NGHTTP2_REFUSED_STREAM);
      return;
    }
    const route = this.routes.get(headers[":path"] as string);
    const connection = stream.session && this.connections.get(stream.session as ServerHttp2Session);
    if (!route || !connection) {
      boundOther(stream, headers);
      serve(stream, headers);
      return;
    }
    const deadlineMs = grpcDeadlineMs(headers["grpc-timeout"] as string | undefined, Date.now());
    this.frontDoor.knock(connection, {
      rpc: route.method.name,
      kind: route.kind,
      deadlineMs: () => deadlineMs,
      admit: (permit) => this.begin(stream, headers, serve, permit, deadlineMs),
      refuse: (failure) => refuse(stream, failure),
    });
  }

  private begin(
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    serve: Serve,
    permit: Permit,
    deadlineMs: number,
  ): void {
    if (stream.destroyed || stream.closed) {
      permit.end(false);
      return;
    }
    const arrival = { permit, deadlineMs, message: this.messages.open(stream, headers) };
    const id = String(this.arrivalCount++);
    this.arrivals.set(id, arrival);
    // Closed before its message was whole: nobody else gives its place back.
    stream.once("close", () => {
      if (this.arrivals.delete(id)) arrival.permit.end(false);
    });
    headers[arrivalHeader] = id;
    // The pipeline keeps to the deadline; grpc-js would set a timer of its own for it.
    delete headers["grpc-timeout"];
    serve(stream, headers);
  }

  setServing(serving: boolean): void {
    this.health.setServing(serving);
  }

  /** Tells clients to go elsewhere, lets calls under way end, and cuts off what is left after the given time. */
  close(drainMs: number): Promise<void> {
    this.keepalive.close();
    this.health.close();
    for (const door of this.doors) door.leave();
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.server.forceShutdown(), drainMs);
      this.server.tryShutdown(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  private unaryHandler(route: Route): grpc.handleUnaryCall<Buffer, Buffer> {
    const { method, invoke } = route;
    const send = (answer: never) => encodeAnswer(method.output, answer);
    return (call, callback) => {
      const id = call.metadata.get(arrivalHeader)[0] as string;
      const arrival = this.arrivals.get(id);
      // Its stream was closed at this very moment: there is nobody to answer.
      if (!arrival) return;
      this.arrivals.delete(id);
      void invoke(incomingCall(route, call, arrival), send).then((answer) => {
        if (answer instanceof Failure) callback(failed(answer));
        else callback(null, answer);
      });
    };
  }
}

function failed(failure: Failure): Partial<grpc.StatusObject> {
  const metadata = new grpc.Metadata();
  metadata.set(detailsTrailer, failure.status);
  if (failure.code === Code.unavailable && failure.retryAfterMs !== undefined) {
    metadata.set(pushbackTrailer, String(failure.retryAfterMs));
  }
  return { code: failure.code as number, details: failure.message, metadata };
}

const detailsTrailer = "grpc-status-details-bin";
/** When a client's own retry policy may send the call again, in ms. */
const pushbackTrailer = "grpc-retry-pushback-ms";

const refusalHeaders = new WeakMap<Failure, OutgoingHttpHeaders>();

/** Answers a stream of which no call was made: one frame of headers, and the client's data is not waited for. */
function refuse(stream: ServerHttp2Stream, failure: Failure): void {
  if (stream.destroyed || stream.closed) return;
  let headers = refusalHeaders.get(failure);
  if (!headers) {
    headers = {
      ":status": 200,
      "content-type": "application/grpc+proto",
      "grpc-status": failure.code,
      "grpc-message": encodeURI(failure.message),
      [detailsTrailer]: failure.status.toString("base64"),
      [pushbackTrailer]: failure.retryAfterMs,
    };
    refusalHeaders.set(failure, headers);
  }
  stream.respond(headers, { endStream: true });
  stream.resume();
}

function incomingCall(
  route: Route,
  call: grpc.ServerUnaryCall<Buffer, Buffer>,
  { permit, deadlineMs, message }: Arrival,
): IncomingCall {
  return {
    frontEnd: "grpc",
    header: (name) => call.metadata.get(name)[0]?.toString(),
    deadlineMs,
    permit,
    decode: () => message.read(route, call.request),
  };
}

function pathOf({ method }: Route): string {
  return `/${method.parent.typeName}/${method.name}`;
}
