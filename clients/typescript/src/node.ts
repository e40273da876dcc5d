/** The client for Node. */
import * as http from "node:http";
import * as https from "node:https";
import { connect, isIP, type Socket } from "node:net";
import * as tls from "node:tls";
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

/** As long as the service gives a handshake. Without it one that hangs is waited for for ever, by all calls. */
const maxConnectMs = 10_000;

/** What Connect opens at most, whose calls have a connection each. */
const maxSockets = 256;

export function createCouponClient(options: NodeClientOptions): CouponClient {
  const { protocol = "grpc" } = options;
  const { life, ...common } = transportOptions(options);
  const close = (cut: () => void) => {
    life.isOver = true;
    cut();
  };
  const secured = tlsOf(options.tls);
  if (protocol === "grpc") {
    const url = new URL(common.baseUrl);
    const createConnection = () => connecting(url, secured);
    const sessionManager = new Http2SessionManager(url.origin, keepalive, { createConnection });
    return clientOver(createGrpcTransport({ ...common, sessionManager }), () => close(() => sessionManager.abort()));
  }
  const createTransport = { connect: createConnectTransport, "grpc-web": createGrpcWebTransport }[protocol];
  if (!createTransport) {
    throw new RangeError(`protocol must be "grpc", "connect" or "grpc-web", and not "${protocol}"`);
  }
  const agent = common.baseUrl.startsWith("https:")
    ? new https.Agent({ keepAlive: true, maxSockets, ...secured })
    : new http.Agent({ keepAlive: true, maxSockets });
  const transport = createTransport({
    ...common,
    useBinaryFormat: true,
    httpVersion: "1.1",
    nodeOptions: { agent, ...secured },
  });
  return clientOver(transport, () => close(() => agent.destroy()));
}

/** As `http2.connect` does it, but not for ever. */
function connecting({ protocol, hostname, port }: URL, secured: tls.ConnectionOptions): Socket {
  const secure = protocol === "https:";
  const host = hostname.replace(/^\[|\]$/g, "");
  const at = { host, port: Number(port || (secure ? 443 : 80)) };
  const names = { ALPNProtocols: ["h2"], ...(isIP(host) === 0 && { servername: host }) };
  const socket = secure ? tls.connect({ ...at, ...names, ...secured }) : connect(at);
  const late = Object.assign(new Error(`no connection within ${maxConnectMs / 1_000} s`), { code: "ETIMEDOUT" });
  const timer = setTimeout(() => socket.destroy(late), maxConnectMs);
  const done = () => clearTimeout(timer);
  return socket.once(secure ? "secureConnect" : "connect", done).once("close", done);
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
