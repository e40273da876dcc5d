import type { X509Certificate } from "node:crypto";
import type { Http2Session } from "node:http2";
import { Socket } from "node:net";
import { TLSSocket } from "node:tls";

/** Every call asks for it, and it is made of the handshake once. */
const known = new WeakMap<Http2Session | Socket, X509Certificate | null>();

/** The certificate that a connection's client has shown, if it holds: signed by whom we trust, for clients, in its time. */
export function certificateOf(connection: Http2Session | Socket | undefined): X509Certificate | undefined {
  if (!connection) return undefined;
  let certificate = known.get(connection);
  if (certificate === undefined) {
    const socket = connection instanceof Socket ? connection : connection.socket;
    // One that does not hold is shown as well, where it is not required.
    certificate = (socket instanceof TLSSocket && socket.authorized && socket.getPeerX509Certificate()) || null;
    known.set(connection, certificate);
  }
  return certificate ?? undefined;
}
