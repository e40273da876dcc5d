import type * as http from "node:http";
import type * as http2 from "node:http2";
import type { Failure } from "../error-table.js";

type NodeRequest = http.IncomingMessage | http2.Http2ServerRequest;
type NodeResponse = http.ServerResponse | http2.Http2ServerResponse;

const unavailable = 503;
const ok = 200;
/** The flag of the part of a gRPC-Web answer that has the trailers. */
const webTrailers = 0x80;

/** Turns a request away before anything is made of it, in the words of the protocol that it speaks. */
export function refuseRequest(request: NodeRequest, response: NodeResponse, failure: Failure): void {
  if (response.writableEnded || response.destroyed) return;
  const type = String(request.headers["content-type"] ?? "");
  const retryAfterMs = failure.retryAfterMs ?? 0;
  const head = (status: number, headers: Record<string, string>, body?: Buffer | string) => {
    (response as http.ServerResponse).writeHead(status, headers);
    response.end(body as string);
  };
  if (type.startsWith("application/grpc-web")) {
    const trailers = Buffer.from(
      Object.entries(grpcTrailers(failure))
        .map(([name, value]) => `${name}: ${value}\r\n`)
        .join(""),
    );
    const part = Buffer.alloc(5 + trailers.length);
    part[0] = webTrailers;
    part.writeUInt32BE(trailers.length, 1);
    trailers.copy(part, 5);
    head(ok, { "content-type": type }, type.startsWith("application/grpc-web-text") ? part.toString("base64") : part);
  } else if (type.startsWith("application/grpc")) {
    head(ok, { "content-type": type, ...grpcTrailers(failure) });
  } else {
    const seconds = String(Math.ceil(retryAfterMs / 1_000));
    head(unavailable, { "content-type": "application/json", "retry-after": seconds }, connectBody(failure));
  }
  request.resume();
}

function grpcTrailers(failure: Failure): Record<string, string> {
  return {
    "grpc-status": String(failure.code),
    "grpc-message": encodeURI(failure.message),
    "grpc-status-details-bin": failure.status.toString("base64"),
    "grpc-retry-pushback-ms": String(failure.retryAfterMs),
  };
}

const bodies = new WeakMap<Failure, string>();

/** The error as the Connect protocol has it. */
function connectBody(failure: Failure): string {
  let body = bodies.get(failure);
  if (body === undefined) {
    const details = failure.packed.map(({ typeName, bytes }) => ({
      type: typeName,
      value: Buffer.from(bytes).toString("base64").replace(/=+$/, ""),
    }));
    body = JSON.stringify({ code: "unavailable", message: failure.message, details });
    bodies.set(failure, body);
  }
  return body;
}
