import { constants } from "node:crypto";
import { createSecureContext, type SecureContextOptions } from "node:tls";
import type { ArrivalDeadlines } from "../messages/arrival-deadlines.js";
import { type HandshakeFailure, SecurePort, type UseSecured } from "./secure-port.js";
import { inspectTls, type TlsEnds, type TlsTexts } from "./server-identity.js";

export interface TlsOptions {
  readonly minVersion: "1.2" | "1.3";
  /** Whether a connection without a client certificate that holds is refused. */
  readonly certificatesAreRequired: boolean;
  readonly deadlines: ArrivalDeadlines;
  /** A connection that has not come as far as TLS. */
  readonly onFailure: (failure: HandshakeFailure, error?: Error) => void;
}

/** What all ports know of TLS: their certificate, and whom they ask for one. */
export class Tls {
  private readonly ports: SecurePort[] = [];
  private context: SecureContextOptions | undefined;
  private asksClients = false;

  constructor(private readonly options: TlsOptions) {}

  /** New handshakes get this; connections that are open stay as they are. Throws when it is no good, and changes nothing. */
  use(texts: TlsTexts): TlsEnds {
    const ends = inspectTls(texts);
    const asksClients = texts.clientCa !== undefined;
    const context: SecureContextOptions = {
      cert: texts.certificate,
      key: texts.key,
      ca: texts.clientCa,
      minVersion: `TLSv${this.options.minVersion}`,
      // A session that is taken up again would bring a certificate that nobody has looked at since.
      secureOptions: constants.SSL_OP_NO_RENEGOTIATION | (asksClients ? constants.SSL_OP_NO_TICKET : 0),
    };
    // Throws when OpenSSL has something against them.
    createSecureContext(context);
    this.context = context;
    this.asksClients = asksClients;
    for (const port of this.ports) port.setContext(context);
    return ends;
  }

  /** For one port, whose connections are handed to `accept` of what it answers. */
  open(use: UseSecured): SecurePort {
    const { certificatesAreRequired, deadlines, onFailure } = this.options;
    const port = new SecurePort({
      context: this.context as SecureContextOptions,
      asksClients: this.asksClients,
      refusesUnknown: certificatesAreRequired,
      ...{ deadlines, onFailure, use },
    });
    this.ports.push(port);
    return port;
  }
}
