import type * as http from "node:http";
import type { IncomingHttpHeaders, OutgoingHttpHeaders, ServerHttp2Stream } from "node:http2";
import { codeToHttpStatus, codeToString } from "@connectrpc/connect/protocol-connect";
import type { Failure } from "../error-table.js";
import { isRest, restFailure } from "../rest/rest-answer.js";

const ok = 200;
/** The flag of the part of a gRPC-Web answer that has the trailers. */
const webTrailers = 0x80;

interface Answer {
  readonly status: number;
  readonly headers: OutgoingHttpHeaders;
  /** Without one the headers are all. */
  readonly body?: Buffer | string;
}

/** Refuses a stream of which no call was made. What its client still sends is thrown away. */
export function refuseStream(
  stream: ServerHttp2Stream,
  headersOfCall: IncomingHttpHeaders,
  failure: Failure,
  besides: OutgoingHttpHeaders = {},
) {
  const { "content-type": type = "", ":path": path = "" } = headersOfCall;
  const { status, headers, body } = answerFor(path, type, failure);
  stream.respond({ ":status": status, ...headers, ...besides }, { endStream: body === undefined });
  if (body !== undefined) stream.end(body);
  stream.resume();
}

/** The same for a request over HTTP/1.1. */
export function refuseRequest(request: http.IncomingMessage, response: http.ServerResponse, failure: Failure): void {
  if (response.writableEnded || response.destroyed) return;
  const { status, headers, body } = answerFor(request.url ?? "", request.headers["content-type"] ?? "", failure);
  response.writeHead(status, headers as http.OutgoingHttpHeaders);
  response.end(body);
  request.resume();
}

/** In the words of the protocol that the caller speaks. */
function answerFor(path: string, type: string, failure: Failure): Answer {
  if (isRest(path)) return restFailure(failure);
  if (type.startsWith("application/grpc-web")) {
    const part = trailersPart(failure);
    const body = type.startsWith("application/grpc-web-text") ? part.toString("base64") : part;
    return { status: ok, headers: { "content-type": type }, body };
  }
  if (type.startsWith("application/grpc")) {
    return { status: ok, headers: { "content-type": type, ...trailersOf(failure) } };
  }
  const headers: OutgoingHttpHeaders = { "content-type": "application/json" };
  if (failure.retryAfterMs !== undefined) headers["retry-after"] = String(Math.ceil(failure.retryAfterMs / 1_000));
  return { status: codeToHttpStatus(failure.code as number), headers, body: connectBody(failure) };
}

/** Makes once what depends on the failure alone, of which there are a few. */
function made<T>(make: (failure: Failure) => T): (failure: Failure) => T {
  const all = new WeakMap<Failure, T>();
  return (failure) => {
    const found = all.get(failure) ?? make(failure);
    all.set(failure, found);
    return found;
  };
}

const trailersOf = made(({ code, message, status, retryAfterMs }) => ({
  "grpc-status": String(code),
  "grpc-message": encodeURI(message),
  "grpc-status-details-bin": status.toString("base64"),
  ...(retryAfterMs === undefined ? {} : { "grpc-retry-pushback-ms": String(retryAfterMs) }),
}));

const trailersPart = made((failure) => {
  const lines = Object.entries(trailersOf(failure)).map(([name, value]) => `${name}: ${value}\r\n`);
  const trailers = Buffer.from(lines.join(""));
  const part = Buffer.alloc(5 + trailers.length);
  part[0] = webTrailers;
  part.writeUInt32BE(trailers.length, 1);
  trailers.copy(part, 5);
  return part;
});

/** The error as the Connect protocol has it. */
const connectBody = made((failure) => {
  const details = failure.packed.map(({ typeName, bytes }) => ({
    type: typeName,
    value: Buffer.from(bytes).toString("base64").replace(/=+$/, ""),
  }));
  return JSON.stringify({ code: codeToString(failure.code as number), message: failure.message, details });
});
