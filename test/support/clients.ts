import { setTimeout as pause } from "node:timers/promises";
import {
  create,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { anyUnpack, durationMs } from "@bufbuild/protobuf/wkt";
import * as grpc from "@grpc/grpc-js";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  PreconditionFailureSchema,
  RetryInfoSchema,
} from "../../gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../../gen/google/rpc/status_pb.js";

/** A busy machine may take long; only what hangs takes so long. */
const defaultTimeoutMs = 25_000;
/** A stream lasts for as long as all the calls that it is to tell of. */
const streamTimeoutMs = 120_000;

/** What a refused call said, read as a client would. */
export class CallError extends Error {
  constructor(
    readonly code: number,
    message: string,
    readonly reason: string | undefined,
    readonly fields: readonly string[],
    readonly retryDelayMs: number | undefined,
    /** Of PreconditionFailure: "subject TYPE", as in "coupons[1] LOCKED". */
    readonly preconditions: readonly string[],
  ) {
    super(`${reason ?? "no ErrorInfo"} (code ${code}): ${message}`);
  }
}

export interface CallOptions {
  readonly timeoutMs?: number;
  readonly headers?: Readonly<Record<string, string>>;
}

/** A native gRPC client over one connection. */
export class GrpcClient {
  private readonly client: grpc.Client;

  constructor(port: number, credentials = grpc.credentials.createInsecure()) {
    this.client = new grpc.Client(`127.0.0.1:${port}`, credentials, {
      // Of no meaning without TLS: certificates are for names.
      "grpc.ssl_target_name_override": "localhost",
      // Clients with the same address would share a connection, and a test that cuts one would cut all.
      "grpc.use_local_subchannel_pool": 1,
    });
  }

  call<M extends DescMethodUnary>(
    method: M,
    request: MessageInitShape<M["input"]>,
    options: CallOptions = {},
  ): Promise<MessageShape<M["output"]>> {
    const bytes = toBinary(method.input, create(method.input, request) as never);
    return this.callBytes(method, Buffer.from(bytes), options) as Promise<MessageShape<M["output"]>>;
  }

  /** Sends any bytes as the request. */
  callBytes(method: DescMethodUnary, bytes: Buffer, options: CallOptions = {}): Promise<unknown> {
    const metadata = new grpc.Metadata();
    for (const [name, value] of Object.entries(options.headers ?? {})) metadata.set(name, value);
    return new Promise((resolve, reject) => {
      this.client.makeUnaryRequest(
        `/${method.parent.typeName}/${method.name}`,
        (same: Buffer) => same,
        (same: Buffer) => same,
        bytes,
        metadata,
        { deadline: Date.now() + (options.timeoutMs ?? defaultTimeoutMs) },
        (error, answer) => {
          if (error) reject(callError(error));
          else resolve(fromBinary(method.output, answer as Buffer));
        },
      );
    });
  }

  /** The messages of a stream. What ends it badly is thrown as CallError; whoever stops reading cancels it. */
  async *stream<M extends DescMethodServerStreaming>(
    method: M,
    request: MessageInitShape<M["input"]>,
    { timeoutMs = streamTimeoutMs, headers = {} }: CallOptions = {},
  ): AsyncGenerator<MessageShape<M["output"]>> {
    const metadata = new grpc.Metadata();
    for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
    const call = this.client.makeServerStreamRequest(
      `/${method.parent.typeName}/${method.name}`,
      (same: Buffer) => same,
      (bytes: Buffer) => fromBinary(method.output, bytes) as MessageShape<M["output"]>,
      Buffer.from(toBinary(method.input, create(method.input, request) as never)),
      metadata,
      { deadline: Date.now() + timeoutMs },
    );
    try {
      for await (const message of call) yield message;
    } catch (error) {
      throw callError(error as grpc.ServiceError);
    } finally {
      // What is cancelled says so, when nobody listens any more.
      call.on("error", () => {});
      call.cancel();
    }
  }

  close(): void {
    this.client.close();
  }
}

const maxTries = 100;

/** Calls again as long as the answer is OVERLOADED, which says that nothing was done: a busy machine turns some of a crowd away. Or has another of these reasons. */
export async function letIn<T>(call: () => Promise<T>, ...others: string[]): Promise<T> {
  const passing = ["OVERLOADED", ...others];
  for (let tries = 1; ; tries += 1) {
    try {
      return await call();
    } catch (error) {
      if (!(error instanceof CallError) || !passing.includes(error.reason ?? "") || tries === maxTries) throw error;
      await pause(error.retryDelayMs);
    }
  }
}

function callError(error: grpc.ServiceError): CallError {
  const bytes = error.metadata?.get("grpc-status-details-bin")[0];
  const details = bytes ? fromBinary(StatusSchema, bytes as Buffer).details : [];
  let reason: string | undefined;
  let fields: string[] = [];
  let retryDelayMs: number | undefined;
  let preconditions: string[] = [];
  for (const any of details) {
    reason = anyUnpack(any, ErrorInfoSchema)?.reason ?? reason;
    fields = anyUnpack(any, BadRequestSchema)?.fieldViolations.map((violation) => violation.field) ?? fields;
    const delay = anyUnpack(any, RetryInfoSchema)?.retryDelay;
    if (delay) retryDelayMs = durationMs(delay);
    const failure = anyUnpack(any, PreconditionFailureSchema);
    if (failure) preconditions = failure.violations.map(({ type, subject }) => `${subject} ${type}`);
  }
  return new CallError(error.code, error.details, reason, fields, retryDelayMs, preconditions);
}
