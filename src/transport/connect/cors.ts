import type { IncomingHttpHeaders, OutgoingHttpHeaders } from "node:http";
import { cors as connectCors } from "@connectrpc/connect";
import type { NodeRequest, NodeResponse } from "./node-request.js";

/** What browsers may remember a preflight for, in seconds; Chrome has no longer memory than this. */
const maxAgeS = 7_200;
/** The last three are of REST. */
const methods = [...connectCors.allowedMethods, "PUT", "PATCH", "DELETE"].join(", ");
const allowed = [...connectCors.allowedHeaders, "Authorization", "X-Request-Id"].join(", ");
const exposed = [
  ...connectCors.exposedHeaders,
  ...["Grpc-Retry-Pushback-Ms", "Retry-After", "WWW-Authenticate", "X-Request-Id"],
].join(", ");

/** Which pages of other origins may call from a browser. Nobody proves anything by an origin: it protects users of browsers. */
export class Cors {
  private readonly origins: ReadonlySet<string>;

  /** Exact origins, or `*` alone. */
  constructor(origins: readonly string[]) {
    this.origins = new Set(origins);
  }

  allows(origin: string): boolean {
    return this.origins.has("*") || this.origins.has(origin);
  }

  /** What every answer says, also that of a call that was refused: without it the page would not see why. */
  headersFor({ origin }: IncomingHttpHeaders): OutgoingHttpHeaders {
    if (this.origins.has("*")) return { ...allowing("*"), "access-control-expose-headers": exposed };
    const vary = { vary: "Origin" };
    if (origin === undefined || !this.origins.has(origin)) return vary;
    return { ...vary, ...allowing(origin), "access-control-expose-headers": exposed };
  }

  /** The answer to what a browser asks before it calls; undefined: that is not what is asked. */
  preflight(
    method: string | undefined,
    headers: IncomingHttpHeaders,
  ): { readonly status: number; readonly headers: OutgoingHttpHeaders } | undefined {
    const { origin } = headers;
    if (!isPreflight(method, headers)) return undefined;
    if (!this.allows(origin as string)) {
      return { status: 403, headers: { vary: "Origin" } };
    }
    return {
      status: 204,
      headers: {
        vary: "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
        ...allowing(this.origins.has("*") ? "*" : (origin as string)),
        "access-control-allow-methods": methods,
        "access-control-allow-headers": allowed,
        "access-control-max-age": String(maxAgeS),
      },
    };
  }
}

/** Answers a preflight (true), or puts what browsers want to read with any answer before the answer. */
export function crossOrigin(cors: Cors, request: NodeRequest, response: NodeResponse): boolean {
  const preflight = cors.preflight(request.method, request.headers);
  if (preflight) {
    response.writeHead(preflight.status, preflight.headers as never);
    response.end();
    request.resume();
    return true;
  }
  for (const [name, value] of Object.entries(cors.headersFor(request.headers)))
    response.setHeader(name, value as string);
  return false;
}

export function isPreflight(method: string | undefined, headers: IncomingHttpHeaders): boolean {
  return method === "OPTIONS" && headers.origin !== undefined && "access-control-request-method" in headers;
}

function allowing(origin: string): OutgoingHttpHeaders {
  return { "access-control-allow-origin": origin };
}
