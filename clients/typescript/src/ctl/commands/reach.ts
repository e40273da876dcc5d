/** What can be found out of an address without a call: whether it is reached, by which TLS, and what its plain pages say. */
import * as http from "node:http";
import * as https from "node:https";
import { connect, isIP } from "node:net";
import * as tls from "node:tls";
import type { TlsOptions } from "../../node.js";

const patienceMs = 5_000;

export interface Reached {
  readonly ms: number;
  readonly tls?: { readonly version: string; readonly endsInDays: number; readonly authorized: string | true };
}

/** Connects, and goes. Rejects with what the system said. */
export function reach(url: URL, options: TlsOptions, signal: AbortSignal): Promise<Reached> {
  const startedAt = performance.now();
  const secure = url.protocol === "https:";
  const at = { host: url.hostname.replace(/^\[|\]$/g, ""), port: Number(url.port || (secure ? 443 : 80)) };
  return new Promise((resolve, reject) => {
    // What does not hold is looked at, too: it is what the caller wants to hear of. Nothing is sent over it.
    const socket = secure
      ? tls.connect({
          ...(isIP(at.host) === 0 && { servername: at.host }),
          ...at,
          ...(options as object),
          rejectUnauthorized: false,
        })
      : connect(at);
    const end = (settle: () => void) => {
      socket.destroy();
      signal.removeEventListener("abort", stop);
      settle();
    };
    const stop = () => end(() => reject(signal.reason));
    signal.addEventListener("abort", stop, { once: true });
    socket.setTimeout(patienceMs, () => end(() => reject(new Error(`nothing was heard for ${patienceMs / 1_000} s`))));
    socket.once("error", (error) => end(() => reject(error)));
    socket.once(secure ? "secureConnect" : "connect", () => {
      const ms = performance.now() - startedAt;
      // Before the end: a socket that is closed knows no certificate any more.
      const found = socket instanceof tls.TLSSocket ? { ms, tls: tlsOf(socket) } : { ms };
      end(() => resolve(found));
    });
  });
}

function tlsOf(socket: tls.TLSSocket) {
  const { valid_to: end } = socket.getPeerCertificate();
  const endsInDays = Math.floor((Date.parse(end) - Date.now()) / 86_400_000);
  const authorized = socket.authorized || String(socket.authorizationError);
  return { version: socket.getProtocol() ?? "unknown", endsInDays, authorized } as const;
}

export interface Page {
  readonly status: number;
  readonly text: string;
  /** The server's clock less this machine's, as far as a header in whole seconds can tell. */
  readonly aheadMs: number | undefined;
}

/** What is longer is none of the service's pages. */
const maxPageLength = 8 * 1024 * 1024;

export function page(url: URL, options: TlsOptions, signal: AbortSignal): Promise<Page> {
  return new Promise((resolve, reject) => {
    const startedAt = Date.now();
    const request = { ...(options as object), signal, timeout: patienceMs };
    const get = url.protocol === "https:" ? https.get : http.get;
    const sent = get(url, request, (response) => {
      const heardAt = Date.now();
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (part: string) => {
        text += part;
        if (text.length > maxPageLength) response.destroy(new Error("the page is too long"));
      });
      response.on("error", reject);
      response.on("end", () => {
        const date = response.headers.date ? Date.parse(response.headers.date) + 500 : Number.NaN;
        const aheadMs = Number.isNaN(date) ? undefined : date - (startedAt + heardAt) / 2;
        resolve({ status: response.statusCode ?? 0, text, aheadMs });
      });
    });
    sent.on("timeout", () => sent.destroy(new Error(`nothing was heard for ${patienceMs / 1_000} s`)));
    sent.on("error", reject);
  });
}
