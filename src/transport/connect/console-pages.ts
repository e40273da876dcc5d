import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { extname, join, sep } from "node:path";
import type { NodeResponse } from "./node-request.js";
import type { PlainPages } from "./pages.js";

/** Where the page is; its files are below. */
const consolePath = "/console";
const index = "index.html";

const types: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".svg": "image/svg+xml",
};

/** Texts of others are shown there, beside a key that may do much: nothing runs, and nothing is loaded, that is not of this service. */
const policy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  "img-src 'self' data:",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

const guards = {
  "content-security-policy": policy,
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  // Asked again each time, and answered with 304: after an upgrade no page runs on files of two releases for long.
  "cache-control": "no-cache",
};

/** The files of the folder, read once: what is served is on this list, and no path is looked up on the disk. Throws when the build has left it out. */
export function consolePages(folder: string): PlainPages {
  const files = new Map(
    readdirSync(folder, { recursive: true, encoding: "utf8" })
      .filter((name) => extname(name) in types)
      .map((name) => {
        const body = readFileSync(join(folder, name));
        const etag = `"${createHash("sha256").update(body).digest("base64url").slice(0, 22)}"`;
        const path = name === index ? consolePath : `${consolePath}/${name.replaceAll(sep, "/")}`;
        return [path, { body, etag, type: types[extname(name)] as string }] as const;
      }),
  );
  if (!files.has(consolePath)) throw new Error(`${join(folder, index)} is missing: run \`npm run build\``);
  return (path, response) => {
    if (path !== consolePath && !path.startsWith(`${consolePath}/`)) return false;
    const { method, headers } = response.req;
    if (method !== "GET" && method !== "HEAD") {
      answer(response, 405, { allow: "GET, HEAD" });
      return true;
    }
    const file = files.get(path);
    if (!file) {
      // Its links are relative to where it is, so that a proxy may put the service below a path of its own.
      if (path === `${consolePath}/`) answer(response, 308, { location: `..${consolePath}` });
      else answer(response, 404, { "content-type": "text/plain" }, "There is nothing here.\n");
      return true;
    }
    const { body, etag, type } = file;
    if (headers["if-none-match"] === etag) answer(response, 304, { ...guards, etag });
    else {
      const head = { ...guards, etag, "content-type": type, "content-length": body.length };
      answer(response, 200, head, method === "HEAD" ? undefined : body);
    }
    return true;
  };
}

function answer(response: NodeResponse, status: number, headers: object, body: string | Buffer = ""): void {
  response.writeHead(status, { ...headers } as never);
  response.end(body);
}
