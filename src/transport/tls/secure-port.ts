import type { Socket } from "node:net";
import * as tls from "node:tls";
import type { ArrivalDeadlines } from "../messages/arrival-deadlines.js";
import { answerInPlainText } from "./plain-text.js";

/** TLS begins with a record of this type. */
const handshakeRecord = 0x16;
/** From a client's first word to the end of the handshake. */
const handshakeTimeoutMs = 10_000;
/** Handshakes begun in one turn of the event loop: each costs up to a millisecond, and calls are to have their turn in between. */
const maxBegunInTurn = 4;

/** Why a connection has not come as far as TLS. */
export type HandshakeFailure = "SLOW" | "PLAIN_TEXT" | "CERTIFICATE" | "CLOSED" | "FAILED";

/** `isHttp2`: as the two have agreed (ALPN). */
export type UseSecured = (socket: tls.TLSSocket, isHttp2: boolean) => void;

export interface SecurePortOptions {
  readonly context: tls.SecureContextOptions;
  readonly asksClients: boolean;
  readonly refusesUnknown: boolean;
  readonly deadlines: ArrivalDeadlines;
  readonly handshakeTimeoutMs?: number;
  readonly onFailure: (failure: HandshakeFailure, error?: Error) => void;
  readonly use: UseSecured;
}

/**
 * Stands between the connections of a port and what serves them. A client has as long for its first word as for a message,
 * and then for the handshake. Those that may begin wait for their turn, so a flood of them does not keep calls waiting.
 */
export class SecurePort {
  /** It never listens: it is handed its connections. */
  private readonly server: tls.Server;
  /** Those that are not through, by their two ends: what TLS hands back is another object. */
  private readonly shaking = new Map<string, Socket>();
  private waiting: Socket[] = [];
  private isClosed = false;

  constructor(private readonly options: SecurePortOptions) {
    this.server = tls.createServer({
      ...options.context,
      ALPNProtocols: ["h2", "http/1.1"],
      requestCert: options.asksClients,
      rejectUnauthorized: options.asksClients && options.refusesUnknown,
      handshakeTimeout: options.handshakeTimeoutMs ?? handshakeTimeoutMs,
    });
    this.server.on("secureConnection", (socket) => this.secured(socket));
    this.server.on("tlsClientError", (error, socket) => {
      options.onFailure(failureOf(error, socket), error);
      // One that is slow Node leaves open.
      socket.destroy();
    });
  }

  setContext(context: tls.SecureContextOptions): void {
    this.server.setSecureContext(context);
  }

  accept(raw: Socket): void {
    const ends = endsOf(raw);
    const { deadlines, onFailure } = this.options;
    const arrival = deadlines.begin(() => {
      onFailure("SLOW");
      raw.destroy();
    });
    const look = (seen: Buffer) => {
      raw.pause();
      if (seen[0] !== handshakeRecord) {
        onFailure("PLAIN_TEXT");
        arrival.onLate = () => raw.destroy();
        answerInPlainText(raw, seen);
        return;
      }
      raw.unshift(seen);
      deadlines.end(arrival);
      if (this.waiting.length === 0) setImmediate(() => this.begin());
      this.waiting.push(raw);
    };
    this.shaking.set(ends, raw);
    raw.once("data", look);
    raw.once("close", () => {
      deadlines.end(arrival);
      if (this.shaking.get(ends) === raw) this.shaking.delete(ends);
    });
  }

  /** Connections that are not through yet are cut: nobody knows what they would have said. */
  close(): void {
    this.isClosed = true;
    for (const raw of this.shaking.values()) raw.destroy();
  }

  private begin(): void {
    const next = this.waiting.splice(0, maxBegunInTurn);
    for (const raw of next) if (!raw.destroyed) this.server.emit("connection", raw);
    if (this.waiting.length > 0) setImmediate(() => this.begin());
  }

  private secured(socket: tls.TLSSocket): void {
    this.shaking.delete(endsOf(socket));
    socket.on("error", () => socket.destroy());
    // Not by mistake. And OpenSSL leaves an error behind, for which Node would cut the connection in the middle of a call.
    const isForged = String(socket.authorizationError) === "CERT_SIGNATURE_FAILURE";
    if (isForged) this.options.onFailure("CERTIFICATE");
    if (isForged || this.isClosed) socket.destroy();
    else this.options.use(socket, socket.alpnProtocol === "h2");
  }
}

function endsOf({ localAddress, remoteAddress, remotePort }: Socket): string {
  return `${localAddress} ${remoteAddress} ${remotePort}`;
}

function failureOf(error: Error & { code?: string }, { authorizationError }: tls.TLSSocket): HandshakeFailure {
  if (error.code === "ERR_TLS_HANDSHAKE_TIMEOUT") return "SLOW";
  if (authorizationError || error.code === "ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE") return "CERTIFICATE";
  return error.code === "ECONNRESET" ? "CLOSED" : "FAILED";
}
