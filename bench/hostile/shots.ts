import * as http from "node:http";
import * as http2 from "node:http2";
import { gzipSync } from "node:zlib";
import type { DescMethodUnary } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import { pathOf } from "../support/api.js";
import { weaponTimeoutMs } from "./loops.js";
import { cut, resetInternal, unanswered } from "./outcomes.js";

/** Calls with a body that no client library would make: compressed once, and sent as it is again and again. */

export type Way = "gRPC" | "Connect" | "Connect JSON";

export interface Shot {
  readonly way: Way;
  readonly method: DescMethodUnary;
  /** Before compression. */
  readonly bytes: number;
  readonly gzipped: Buffer;
}

export function shot(way: Way, method: DescMethodUnary, message: Uint8Array | string): Shot {
  const gzipped = gzipSync(message, { level: 9 });
  return { way, method, bytes: Buffer.byteLength(message), gzipped };
}

/** Connections of the weapon, which are opened again when they are cut. */
export class Gun {
  readonly #agent = new http.Agent({ keepAlive: true });
  #session: http2.ClientHttp2Session | undefined;

  constructor(private readonly target: { readonly grpcPort: number; readonly httpPort: number }) {}

  fire({ way, method, gzipped }: Shot): Promise<string> {
    if (way === "gRPC") return this.#grpc(pathOf(method), gzipped);
    return this.connect(pathOf(method), way === "Connect" ? "application/proto" : "application/json", gzipped, "gzip");
  }

  connect(path: string, contentType: string, body: Uint8Array, encoding?: string): Promise<string> {
    const headers = {
      "content-type": contentType,
      "content-length": body.length,
      ...(encoding && { "content-encoding": encoding }),
    };
    return new Promise((resolve) => {
      const options = { host: "127.0.0.1", port: this.target.httpPort, method: "POST", path, headers };
      const request = http.request({ ...options, agent: this.#agent, timeout: weaponTimeoutMs }, (response) => {
        const parts: Buffer[] = [];
        response.on("data", (part: Buffer) => parts.push(part));
        response.on("close", () => resolve(response.complete ? connectOutcome(response, Buffer.concat(parts)) : cut));
      });
      request.on("timeout", () => {
        resolve(unanswered);
        request.destroy();
      });
      request.on("error", () => resolve(cut));
      request.end(body);
    });
  }

  close(): void {
    this.#agent.destroy();
    this.#session?.destroy();
  }

  #grpc(path: string, gzipped: Buffer): Promise<string> {
    const stream = this.#openSession().request({
      ":method": "POST",
      ":path": path,
      te: "trailers",
      "content-type": "application/grpc",
      "grpc-encoding": "gzip",
    });
    const envelope = Buffer.alloc(5);
    envelope[0] = 1;
    envelope.writeUInt32BE(gzipped.length, 1);
    stream.end(Buffer.concat([envelope, gzipped]));
    return new Promise((resolve) => {
      const read = (headers: http2.IncomingHttpHeaders) => {
        const found = headers["grpc-status"];
        if (found !== undefined) resolve(status[Number(found)] ?? `CODE_${found}`);
        else if (Number(headers[":status"] ?? 200) >= 500) resolve("INTERNAL");
      };
      stream.on("response", read);
      stream.on("trailers", read);
      stream.setTimeout(weaponTimeoutMs, () => {
        resolve(unanswered);
        stream.close();
      });
      stream.on("error", () => {});
      // Without effect after a status.
      stream.on("close", () =>
        resolve(stream.rstCode === http2.constants.NGHTTP2_INTERNAL_ERROR ? resetInternal : cut),
      );
      stream.resume();
    });
  }

  #openSession(): http2.ClientHttp2Session {
    if (!this.#session || this.#session.closed || this.#session.destroyed) {
      this.#session = http2.connect(`http://127.0.0.1:${this.target.grpcPort}`);
      this.#session.on("error", () => {});
    }
    return this.#session;
  }
}

function connectOutcome(response: http.IncomingMessage, body: Buffer): string {
  if (response.statusCode === 200) return "OK";
  try {
    const { code } = JSON.parse(body.toString());
    if (typeof code === "string") return code.toUpperCase();
  } catch {
    // Not an answer of the Connect protocol.
  }
  return (response.statusCode ?? 0) >= 500 ? "INTERNAL" : `HTTP ${response.statusCode}`;
}
