import { toJson } from "@bufbuild/protobuf";
import { challenge } from "../connect/node-request.js";
import { Code, type Failure } from "../error-table.js";

/** As `google/rpc/code.proto` says, of the codes that are sent. */
const statuses: Readonly<Record<Code, number>> = {
  [Code.invalidArgument]: 400,
  [Code.deadlineExceeded]: 504,
  [Code.notFound]: 404,
  [Code.alreadyExists]: 409,
  [Code.permissionDenied]: 403,
  [Code.resourceExhausted]: 429,
  [Code.failedPrecondition]: 400,
  [Code.aborted]: 409,
  [Code.internal]: 500,
  [Code.unavailable]: 503,
  [Code.unauthenticated]: 401,
};

/** Every path of REST begins so, and no other path does. */
export function isRest(url: string): boolean {
  return url.startsWith("/v1/");
}

export const jsonType = { "content-type": "application/json" };
const typePrefix = "type.googleapis.com/";

export interface RestAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** Most failures carry nothing of their own and are told to many. */
const bodies = new WeakMap<Failure, string>();

/** A failure as gateways tell it: a `google.rpc.Status` in JSON. */
export function restFailure(failure: Failure): RestAnswer {
  const { code, reason, retryAfterMs } = failure;
  let body = bodies.get(failure);
  if (body === undefined) {
    const details = failure.details.map(({ desc, value }) => ({
      "@type": `${typePrefix}${desc.typeName}`,
      ...(toJson(desc, value as never) as object),
    }));
    body = JSON.stringify({ code, message: failure.message, details });
    bodies.set(failure, body);
  }
  const headers = {
    ...jsonType,
    ...(retryAfterMs !== undefined && { "retry-after": String(Math.ceil(retryAfterMs / 1_000)) }),
    ...(code === Code.unauthenticated && challenge),
  };
  // A 429 would have the same message sent again.
  return { status: reason === "MESSAGE_TOO_LARGE" ? 413 : statuses[code], headers, body };
}

/** Codes of gRPC for what is told of requests that are none of a method. */
const plainCodes = { 400: 3, 404: 5, 405: 12, 414: 3, 415: 3 } as const;

export function restRefusal(
  status: keyof typeof plainCodes,
  message: string,
  headers: Readonly<Record<string, string>> = {},
): RestAnswer {
  return {
    status,
    headers: { ...jsonType, ...headers },
    body: JSON.stringify({ code: plainCodes[status], message, details: [] }),
  };
}
