import {
  create,
  type DescMessage,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { Channels } from "../load/channels.js";
import type { Failure } from "../load/failure.js";
import { callPersistently } from "../load/persistent-call.js";

/** For calls that set up or audit, not for load. */
const patience = { attemptTimeoutMs: 5_000, maxAttempts: 8 };

export class ApiError extends Error {
  override readonly name = "ApiError";
  constructor(
    method: string,
    readonly failure: Failure,
  ) {
    super(`${method}: ${failure.reason}: ${failure.message}`);
  }
}

/** A small typed client of the service over one or several replicas. */
export class Api {
  readonly #channels: Channels;

  constructor(targets: readonly string[], headers: Readonly<Record<string, string>> = {}) {
    this.#channels = new Channels({ targets, connectionsPerTarget: 1, headers });
  }

  async call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    input: MessageInitShape<I>,
  ): Promise<MessageShape<O>> {
    const request = encode(method.input, input);
    const { response, failure } = await callPersistently(this.#channels, pathOf(method), request, patience);
    if (failure) throw new ApiError(method.name, failure);
    return fromBinary(method.output, response!);
  }

  close(): void {
    this.#channels.close();
  }
}

/** "/coupon.v1.IssuanceService/IssueCoupon" */
export function pathOf(method: DescMethodUnary): string {
  return `/${method.parent.typeName}/${method.name}`;
}

/** The bytes of a message, as the Buffer that grpc-js asks for. */
export function encode<T extends DescMessage>(schema: T, input: MessageInitShape<T>): Buffer {
  const bytes = toBinary(schema, create(schema, input));
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
