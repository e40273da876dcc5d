import { createHash } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import { acceptsGzip, answerPlain, type NodeResponse } from "./node-request.js";
import type { PlainPages } from "./pages.js";

export interface StaticFile {
  readonly type: string;
  readonly bytes: Buffer;
  readonly headers?: Readonly<Record<string, string>>;
}

/**
 * What every file is sent with: browsers take it for what it says that it is, tell nobody where they come from, and ask each time
 * whether it has changed, so that after an upgrade no page runs on files of two releases for long.
 */
const always = {
  "cache-control": "no-cache",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
};

/** Serves these paths and no others: nothing of a request is ever made a path of the file system. */
export function staticPages(files: ReadonlyMap<string, StaticFile>): PlainPages {
  const served = new Map([...files].map(([path, file]) => [path, new ServedFile(file)]));
  return (path, response) => {
    const file = served.get(path);
    if (!file) return false;
    file.send(response);
    return true;
  };
}

class ServedFile {
  private readonly etag: string;
  private gzipped: Promise<Buffer> | undefined;

  constructor(private readonly file: StaticFile) {
    this.etag = `"${createHash("sha256").update(file.bytes).digest("base64url").slice(0, 22)}"`;
  }

  send(response: NodeResponse): void {
    const { method, headers } = response.req;
    if (method !== "GET" && method !== "HEAD") {
      response.setHeader("allow", "GET, HEAD");
      answerPlain(response, 405, "This can only be read.\n");
      return;
    }
    const { type, headers: own, bytes } = this.file;
    // CORS may have said already what else an answer depends on.
    const vary = [response.getHeader("vary"), "accept-encoding"].filter(Boolean).join(", ");
    const all = { ...always, ...own, vary, etag: this.etag };
    if (hasIt(headers, this.etag)) {
      response.writeHead(304, all);
      response.end();
      return;
    }
    const isHead = method === "HEAD";
    const write = (body: Buffer, encoding?: Record<string, string>) => {
      response.writeHead(200, { ...all, ...encoding, "content-type": type, "content-length": body.length });
      if (isHead) response.end();
      else response.end(body);
    };
    if (!acceptsGzip(headers["accept-encoding"])) {
      write(bytes);
      return;
    }
    // When it is first asked for, and outside of the event loop; most replicas never show it to anybody.
    this.gzipped ??= promisify(gzip)(bytes);
    this.gzipped.then(
      (body) => write(body, { "content-encoding": "gzip" }),
      () => write(bytes),
    );
  }
}

/** A proxy that compresses what it passes on makes a tag a weak one. */
function hasIt({ "if-none-match": known }: IncomingHttpHeaders, etag: string): boolean {
  return (known ?? "").split(",").some((one) => one.trim() === "*" || one.trim().replace(/^W\//, "") === etag);
}
