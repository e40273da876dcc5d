import type * as http from "node:http";
import type * as http2 from "node:http2";
import type { FieldViolation } from "../../domain/refusal.js";
import { steadyMs } from "../../platform/clock.js";
import type { Arrival, ArrivalDeadlines } from "../messages/arrival-deadlines.js";
import { grpcDeadlineMs, wrongGrpcTimeout } from "../overload/grpc-timeout.js";

/** What both versions of HTTP have in common. */
export type NodeRequest = http.IncomingMessage | http2.Http2ServerRequest;
export type NodeResponse = http.ServerResponse | http2.Http2ServerResponse;

export function pathOf(url: string): string {
  return url.split("?", 1)[0] as string;
}

/** As HTTP wants it of every 401. */
export const challenge = { "www-authenticate": "Bearer" };

/** Whether what is answered may be compressed. A weight of zero forbids it. */
export function acceptsGzip(acceptEncoding: string | string[] | null | undefined): boolean {
  return /(^|,)\s*gzip\s*(;(?!\s*q=0(\.0*)?\s*(,|$))|,|$)/i.test(String(acceptEncoding ?? ""));
}

export function answerPlain(response: NodeResponse, status: number, text: string): void {
  try {
    response.writeHead(status, { "content-type": "text/plain" });
    response.end(text);
  } catch {
    response.destroy();
  }
}

/** Whether nobody is there any more to be answered. */
export function isGone(request: NodeRequest, response: NodeResponse): boolean {
  return "stream" in request ? request.stream.closed || request.stream.destroyed : response.destroyed;
}

const timeoutForm = /^\d{1,10}$/;

const wrongConnectTimeout: FieldViolation = {
  field: "connect-timeout-ms",
  description: "must be a whole number of ms, of 10 digits at most",
};

/** What is wrong with the headers that say how long the caller waits. */
export function wrongTimeout(headers: http.IncomingHttpHeaders): FieldViolation | undefined {
  const timeoutMs = headers["connect-timeout-ms"];
  if (timeoutMs !== undefined && !timeoutForm.test(String(timeoutMs))) return wrongConnectTimeout;
  return wrongGrpcTimeout(headers["grpc-timeout"] as string | undefined);
}

/** In ms since 1970; Infinity: the caller did not say. */
export function deadlineOf(headers: http.IncomingHttpHeaders): number {
  const now = steadyMs();
  const timeoutMs = headers["connect-timeout-ms"];
  if (typeof timeoutMs === "string" && timeoutForm.test(timeoutMs)) return now + Number(timeoutMs);
  return grpcDeadlineMs(headers["grpc-timeout"] as string | undefined, now);
}

/**
 * Takes out of headers how long the caller waits. With that, connect-node would have a timer of its own: it lets a stream end well when the time
 * is over, and at once where it is longer than Node's timers are (24.8 days).
 */
export function takeTimeout(header: Headers): void {
  for (const name of ["connect-timeout-ms", "grpc-timeout"]) header.delete(name);
}

/** Takes out of headers the parameters of a content type of gRPC, which connect-node would not know. On the other port they say nothing, either. */
export function takeParameters(header: Headers): void {
  const [type, ...parameters] = (header.get("content-type") ?? "").split(";") as [string, ...string[]];
  if (parameters.length > 0 && /^application\/grpc\b/i.test(type)) header.set("content-type", type.trim());
}

/** What an ArrivingStream is over HTTP/2. */
export class ArrivingRequest {
  private readonly arrival: Arrival;

  constructor(
    private readonly response: http.ServerResponse,
    private readonly deadlines: ArrivalDeadlines,
  ) {
    this.arrival = deadlines.begin(() => {});
    response.once("close", () => this.arrived());
  }

  set onLate(onLate: () => void) {
    this.arrival.onLate = onLate;
  }

  arrived(): void {
    this.deadlines.end(this.arrival);
  }

  abandon(): void {
    this.response.setHeader("connection", "close");
  }
}
