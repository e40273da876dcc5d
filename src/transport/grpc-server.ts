import { constants, type IncomingHttpHeaders, type ServerHttp2Stream } from "node:http2";
import type { DescFile, DescService } from "@bufbuild/protobuf";
import { toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { ReflectionService } from "@grpc/reflection";
import { HealthImplementation, protoPath as healthProtoPath } from "grpc-health-check";
import { file_coupon_v1_error_reason } from "../../gen/coupon/v1/error_reason_pb.js";
import { file_google_rpc_error_details } from "../../gen/google/rpc/error_details_pb.js";
import { Refusal } from "../domain/refusal.js";
import { readBinary } from "./decode.js";
import { encode } from "./encode.js";
import { Failure } from "./error-table.js";
import { setHttp2Options, watchStreams } from "./grpc-http2.js";
import { http2Limits, maxConcurrentStreams } from "./http2-limits.js";
import type { LargeMessages } from "./large-messages.js";
import type { IncomingCall } from "./pipeline.js";
import type { Route } from "./routes.js";

/** A connection on which nothing is heard is asked for a sign of life, and closed when none comes. */
const keepaliveMs = 30_000;
const keepaliveTimeoutMs = 10_000;

/** Native gRPC, with reflection (v1 and v1alpha) and health. */
export class GrpcServer {
  private readonly server: grpc.Server;
  private readonly health: HealthImplementation;
  private readonly names: string[];

  /** What is longer is not read: grpc-js has one limit for all methods. */
  private readonly longestBytes: number;

  constructor(
    routes: readonly Route[],
    private readonly largeMessages: LargeMessages,
  ) {
    this.longestBytes = Math.max(...routes.map(({ maxMessageBytes }) => maxMessageBytes));
    this.server = new grpc.Server({
      "grpc.max_receive_message_length": this.longestBytes,
      "grpc.max_concurrent_streams": maxConcurrentStreams,
      "grpc.keepalive_time_ms": keepaliveMs,
      "grpc.keepalive_timeout_ms": keepaliveTimeoutMs,
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
        Object.fromEntries(ofService.map((route) => [route.method.name, unaryHandler(route)])),
      );
    }
    this.names = ["", ...[...services.keys()].map((service) => service.typeName)];
    new ReflectionService(packageDefinition(definitions, [...services.keys()])).addToServer(this.server);
    this.health = new HealthImplementation(Object.fromEntries(this.names.map((name) => [name, "SERVING"])));
    this.health.addToServer(this.server);
  }

  /** Answers the port that it listens on. */
  listen(host: string, port: number): Promise<number> {
    return new Promise((resolve, reject) => {
      const address = host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
      this.server.bindAsync(address, grpc.ServerCredentials.createInsecure(), (error, bound) => {
        if (error) return reject(error);
        watchStreams(this.server, (stream, headers) => this.bound(stream, headers));
        resolve(bound);
      });
    });
  }

  /** Turns a call away when there is no room for its message. To the client that means that nothing was done. */
  private bound(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
    const compressed = (headers["grpc-encoding"] ?? "identity") !== "identity";
    const message = this.largeMessages.open(compressed, this.longestBytes);
    stream.on("data", (chunk: Buffer) => {
      if (!message.add(chunk.length)) stream.close(constants.NGHTTP2_REFUSED_STREAM);
    });
    stream.once("close", message.close);
  }

  setServing(serving: boolean): void {
    for (const name of this.names) this.health.setStatus(name, serving ? "SERVING" : "NOT_SERVING");
  }

  /** Tells clients to go elsewhere, lets calls under way end, and cuts off what is left after the given time. */
  close(drainMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.server.forceShutdown(), drainMs);
      this.server.tryShutdown(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }
}

function unaryHandler(route: Route): grpc.handleUnaryCall<Buffer, Buffer> {
  const { method, invoke } = route;
  return (call, callback) => {
    void invoke(incomingCall(route, call)).then((answer) => {
      if (!(answer instanceof Failure)) {
        callback(null, encode(method.output, answer as never));
        return;
      }
      const metadata = new grpc.Metadata();
      metadata.set("grpc-status-details-bin", answer.status);
      callback({ code: answer.code as number, details: answer.message, metadata });
    });
  };
}

function incomingCall({ method, maxMessageBytes }: Route, call: grpc.ServerUnaryCall<Buffer, Buffer>): IncomingCall {
  const deadline = call.getDeadline();
  return {
    frontEnd: "grpc",
    header: (name) => call.metadata.get(name)[0]?.toString(),
    deadlineMs: deadline instanceof Date ? deadline.getTime() : deadline,
    decode: () =>
      call.request.length > maxMessageBytes ? new Refusal("MESSAGE_TOO_LARGE") : readBinary(method.input, call.request),
  };
}

/** Bytes go in and out: messages are decoded in the pipeline, so that its errors are the contract's and not grpc-js'. */
function serviceDefinition(service: DescService): grpc.ServiceDefinition {
  const same = (bytes: Buffer) => bytes;
  return Object.fromEntries(
    service.methods.map((method) => [
      method.name,
      {
        path: `/${service.typeName}/${method.name}`,
        requestStream: false,
        responseStream: false,
        requestSerialize: same,
        requestDeserialize: same,
        responseSerialize: same,
        responseDeserialize: same,
      },
    ]),
  );
}

/** What the reflection service reads its files from. */
function packageDefinition(definitions: Record<string, grpc.ServiceDefinition>, services: readonly DescService[]) {
  const files = new Map<string, Buffer>();
  const add = (file: DescFile) => {
    if (files.has(file.proto.name)) return;
    files.set(file.proto.name, Buffer.from(toBinary(FileDescriptorProtoSchema, file.proto)));
    file.dependencies.forEach(add);
  };
  for (const service of services) add(service.file);
  // No service file refers to these two, but clients want to read the details of an error.
  add(file_coupon_v1_error_reason);
  add(file_google_rpc_error_details);
  const fileDescriptorProtos = [...files.values()];
  return {
    ...loadSync(healthProtoPath),
    ...definitions,
    "coupon.v1": { format: "Protocol Buffer 3 DescriptorProto", type: {}, fileDescriptorProtos },
  } as ConstructorParameters<typeof ReflectionService>[0];
}
