/** The client for Node. */
import * as http from "node:http";
import * as https from "node:https";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
  Http2SessionManager,
} from "@connectrpc/connect-node";
import { type ClientOptions, transportOptions } from "./options.js";
import { type CouponClient, clientOver } from "./services.js";

export * from "./core.js";

/** In PEM. What is absent is as Node has it. */
export interface TlsOptions {
  /** Whose certificates are believed, instead of the authorities that Node knows. */
  readonly ca?: string | Uint8Array;
  /** The client's own certificate and its key, where the service asks for one. */
  readonly cert?: string | Uint8Array;
  readonly key?: string | Uint8Array;
  /** The name that the service's certificate is for, where that is not the one in `baseUrl`. */
  readonly servername?: string;
}

export interface NodeClientOptions extends ClientOptions {
  /** gRPC goes to GRPC_PORT or HTTP_PORT, the others to HTTP_PORT. Default: gRPC. */
  readonly protocol?: "grpc" | "connect" | "grpc-web";
  readonly tls?: TlsOptions;
}

/**
 * A connection that is silent for so long is asked for a sign of life, and given up when there is none: else calls would go into one whose
 * other end is gone without a word for as long as the system believes in it, up to 15 minutes.
 */
const keepalive = { pingIntervalMs: 5_000, pingTimeoutMs: 3_000 };

/** What Connect opens at most, whose calls have a connection each. */
const maxSockets = 256;

export function createCouponClient(options: NodeClientOptions): CouponClient {
  const { protocol = "grpc" } = options;
  const common = transportOptions(options);
  const tls = tlsOf(options.tls);
  if (protocol === "grpc") {
    const sessionManager = new Http2SessionManager(originOf(common.baseUrl), keepalive, tls);
    return clientOver(createGrpcTransport({ ...common, sessionManager }), () => sessionManager.abort());
  }
  const createTransport = { connect: createConnectTransport, "grpc-web": createGrpcWebTransport }[protocol];
  if (!createTransport) {
    throw new RangeError(`protocol must be "grpc", "connect" or "grpc-web", and not "${protocol}"`);
  }
  const agent = common.baseUrl.startsWith("https:")
    ? new https.Agent({ keepAlive: true, maxSockets, ...tls })
    : new http.Agent({ keepAlive: true, maxSockets });
  const transport = createTransport({
    ...common,
    useBinaryFormat: true,
    httpVersion: "1.1",
    nodeOptions: { agent, ...tls },
  });
  return clientOver(transport, () => agent.destroy());
}

function originOf(baseUrl: string): string {
  return new URL(baseUrl).origin;
}

function tlsOf({ ca, cert, key, servername }: TlsOptions = {}) {
  const text = (pem: string | Uint8Array) => (typeof pem === "string" ? pem : Buffer.from(pem));
  return {
    ...(ca !== undefined && { ca: text(ca) }),
    ...(cert !== undefined && { cert: text(cert) }),
    ...(key !== undefined && { key: text(key) }),
    ...(servername !== undefined && { servername }),
  };
}
