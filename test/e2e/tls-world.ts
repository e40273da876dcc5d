import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import * as http2 from "node:http2";
import * as https from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TLSSocket } from "node:tls";
import * as grpc from "@grpc/grpc-js";
import { Authority, type CertificateOf, type Certified } from "../support/certificates.js";
import { GrpcClient } from "../support/clients.js";
import type { AtEnd } from "../support/service.js";

const hourMs = 3_600_000;

export const serverCa = new Authority("servers");
export const clientCa = new Authority("clients");
const foreignCa = new Authority("clients");

export const newServer = (names = ["DNS:localhost", "IP:127.0.0.1"]) => serverCa.issue({ names });
const client = (of: CertificateOf) => clientCa.issue(of);

/** Callers as AUTH_CERTIFICATES_FILE has them. */
export const names = {
  "spiffe://example.org/checkout": ["catalog.read", "catalog.write", "issue"],
  "reports.example.org": ["catalog.read"],
  "reports-2.example.org": ["catalog.read"],
  "points.example.org": ["catalog.read", "codes.read", "events.read"],
};

/** Client certificates that hold, and are somebody's. */
export const callers = {
  checkout: client({ names: ["DNS:reports.example.org", "URI:spiffe://example.org/checkout"] }),
  reports: client({ names: ["DNS:Reports.example.org"] }),
  points: client({ names: ["DNS:points.example.org"] }),
};
/** That hold, and are nobody's. */
export const nobodies: [string, Certified][] = [
  ["of a name that is not in the file", client({ names: ["DNS:other.example.org"] })],
  ["with a common name alone", client({ commonName: "reports.example.org" })],
  ["with two names of callers", client({ names: ["DNS:reports.example.org", "DNS:reports-2.example.org"] })],
  ["with a name in another's text", client({ names: ["URI:http://a, DNS:reports.example.org"] })],
];
/** That do not hold. */
export const forgeries: [string, Certified | undefined][] = [
  ["none", undefined],
  ["of another authority of the same name", foreignCa.issue({ names: ["DNS:reports.example.org"] })],
  ["that has ended", client({ names: ["DNS:reports.example.org"], validToMs: Date.now() - hourMs / 2 })],
  ["whose time has not come", client({ names: ["DNS:reports.example.org"], validFromMs: Date.now() + hourMs / 2 })],
];

/** The files that the settings name, in a folder that is removed at the end. */
export function tlsFiles(atEnd: AtEnd) {
  const folder = mkdtempSync(join(tmpdir(), "coupon-tls-"));
  atEnd(async () => rmSync(folder, { recursive: true, force: true }));
  const paths = {
    TLS_CERT_FILE: join(folder, "server.crt"),
    TLS_KEY_FILE: join(folder, "server.key"),
    TLS_CLIENT_CA_FILE: join(folder, "clients.crt"),
    AUTH_CERTIFICATES_FILE: join(folder, "callers.json"),
  };
  const write = (setting: keyof typeof paths, text: string) => writeFileSync(paths[setting], text);
  const serve = ({ certificate, key }: Certified) => {
    write("TLS_CERT_FILE", certificate);
    write("TLS_KEY_FILE", key);
  };
  serve(newServer());
  write("TLS_CLIENT_CA_FILE", clientCa.certificate);
  write("AUTH_CERTIFICATES_FILE", JSON.stringify(names));
  return { paths, write, serve };
}

export function secureClient(port: number, certified?: Certified): GrpcClient {
  const own = certified ? ([Buffer.from(certified.key), Buffer.from(certified.certificate)] as const) : [null, null];
  return new GrpcClient(port, grpc.credentials.createSsl(Buffer.from(serverCa.certificate), own[0], own[1]));
}

export interface Ask {
  readonly method?: string;
  readonly path: string;
  readonly headers?: Record<string, string>;
  readonly body?: string;
  readonly as?: Certified | undefined;
  readonly maxVersion?: "TLSv1.2";
}

export interface Heard {
  readonly status: number;
  readonly headers: Record<string, unknown>;
  readonly text: string;
  /** Of the server's certificate. */
  readonly serial: string;
}

export const optionsOf = ({ as, maxVersion }: Partial<Ask>) => ({
  ca: serverCa.certificate,
  servername: "localhost",
  ...(as && { cert: as.certificate, key: as.key }),
  ...(maxVersion && { maxVersion }),
});

/** Over a connection of its own. Rejects when there is none, or it ends without an answer. */
export function overHttp1(port: number, ask: Ask): Promise<Heard> {
  const { method = "POST", path, headers = { "content-type": "application/json" }, body = "" } = ask;
  return new Promise((resolve, reject) => {
    const options = { host: "127.0.0.1", port, path, method, headers, agent: false as const, ...optionsOf(ask) };
    const request = https.request(options, (response) => {
      const serial = (response.socket as TLSSocket).getPeerX509Certificate()?.serialNumber ?? "";
      let text = "";
      response.setEncoding("utf8").on("data", (chunk) => {
        text += chunk;
      });
      response.on("error", reject);
      response.on("end", () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text, serial }));
    });
    request.on("error", reject);
    request.end(body);
  });
}

export function overHttp2(port: number, ask: Ask): Promise<Heard> {
  const { method = "POST", path, headers = { "content-type": "application/json" }, body = "" } = ask;
  return new Promise((resolve, reject) => {
    const session = http2.connect(`https://127.0.0.1:${port}`, optionsOf(ask));
    session.on("error", reject);
    session.on("close", () => reject(new Error("closed")));
    const stream = session.request({ ":method": method, ":path": path, ...headers });
    let heard: http2.IncomingHttpHeaders = {};
    let text = "";
    stream.on("response", (head) => {
      heard = head;
    });
    stream.setEncoding("utf8").on("data", (chunk) => {
      text += chunk;
    });
    stream.on("error", reject);
    stream.on("end", () => {
      // A session that was cut has ended its streams, and has no socket any more.
      if (session.destroyed) return;
      const serial = (session.socket as TLSSocket).getPeerX509Certificate()?.serialNumber ?? "";
      resolve({ status: Number(heard[":status"]), headers: heard, text, serial });
      session.destroy();
    });
    stream.end(body || undefined);
  });
}
