import { readdirSync, readFileSync } from "node:fs";
import { extname, join, sep } from "node:path";
import { answerPlain } from "./node-request.js";
import type { PlainPages } from "./pages.js";
import { type StaticFile, staticPages } from "./static-files.js";

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

const headers = {
  "content-security-policy": policy,
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
};

/** The files of the folder, read once. Throws when the build has left it out. */
export function consolePages(folder: string): PlainPages {
  const files = new Map<string, StaticFile>();
  for (const name of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
    const type = types[extname(name)];
    const path = name === index ? consolePath : `${consolePath}/${name.replaceAll(sep, "/")}`;
    if (type) files.set(path, { type, bytes: readFileSync(join(folder, name)), headers });
  }
  if (!files.has(consolePath)) throw new Error(`${join(folder, index)} is missing: run \`npm run build\``);
  const pages = staticPages(files);
  return (path, response) => {
    if (pages(path, response)) return true;
    if (!path.startsWith(`${consolePath}/`)) return false;
    if (path === `${consolePath}/`) {
      // Its links are relative to where it is, so that a proxy may put the service below a path of its own.
      response.writeHead(308, { location: `..${consolePath}` });
      response.end();
    } else answerPlain(response, 404, "There is nothing here.\n");
    return true;
  };
}
