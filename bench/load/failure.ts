import { fromBinary } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { type ServiceError, status } from "@grpc/grpc-js";
import { ErrorInfoSchema, RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../../gen/google/rpc/status_pb.js";

const errorDomain = "coupon.v1";
const detailsTrailer = "grpc-status-details-bin";

export interface Failure {
  readonly code: status;
  /** An ErrorReason without its prefix; the status code's name when the answer did not come from the service. */
  readonly reason: string;
  /** Whether the service said so itself. Otherwise the connection, or the client's own library did. */
  readonly isAnswer: boolean;
  /** What the server's RetryInfo asks for. */
  readonly retryDelayMs: number | undefined;
  readonly message: string;
}

/** Reads the google.rpc details of a failed call. */
export function readFailure(error: ServiceError): Failure {
  let reason = status[error.code] ?? `CODE_${error.code}`;
  let isAnswer = false;
  let retryDelayMs: number | undefined;
  const trailer = error.metadata?.get(detailsTrailer)[0];
  if (trailer instanceof Buffer) {
    for (const detail of fromBinary(StatusSchema, trailer).details) {
      const info = anyUnpack(detail, ErrorInfoSchema);
      if (info?.domain === errorDomain) {
        reason = info.reason;
        isAnswer = true;
      }
      const delay = anyUnpack(detail, RetryInfoSchema)?.retryDelay;
      if (delay) retryDelayMs = Number(delay.seconds) * 1_000 + delay.nanos / 1e6;
    }
  }
  return { code: error.code, reason, isAnswer, retryDelayMs, message: error.details };
}

/**
 * Whether the contract advises to send the same request again: UNAVAILABLE says so, and after DEADLINE_EXCEEDED nobody
 * but the server knows whether the call took effect. So it is with INTERNAL that the service did not say: grpc-js calls
 * it that when HTTP/2 closes a connection because of an error.
 */
export function isTransient({ code, isAnswer }: Failure): boolean {
  return code === status.UNAVAILABLE || code === status.DEADLINE_EXCEEDED || (code === status.INTERNAL && !isAnswer);
}
