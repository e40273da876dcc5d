import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { PlainPages } from "../connect/pages.js";
import { type StaticFile, staticPages } from "../connect/static-files.js";

/** Where calls go when the page is on a port of its own. */
export interface CallPort {
  readonly port: number;
  readonly isSecure: boolean;
}

const types = {
  css: "text/css; charset=utf-8",
  html: "text/html; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  json: "application/json",
  png: "image/png",
};

/** Of the package, what the page names. */
const ofSwagger = ["swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png"];
/** Beside this file. */
const own = ["page.css", "page.js"];

/**
 * `/openapi.json`: the HTTP endpoints for machines. `/docs`: the same for people, who can try them there.
 *
 * `calls`: the port for calls, when it is another one. Browsers let the page call it only if CORS_ORIGINS names the page's origin.
 */
export async function openDocs(openApiFile: string, calls?: CallPort): Promise<PlainPages> {
  const here = dirname(fileURLToPath(import.meta.url));
  const swagger = dirname(createRequire(import.meta.url).resolve("swagger-ui-dist/package.json"));
  const document = await readFile(openApiFile);
  const files = new Map<string, StaticFile>();
  files.set("/openapi.json", { type: types.json, bytes: calls ? withServer(document, calls) : document });
  files.set("/docs", {
    type: types.html,
    bytes: await readFile(join(here, "page.html")),
    headers: { "content-security-policy": policy(calls) },
  });
  for (const [folder, names] of [[swagger, ofSwagger] as const, [here, own] as const]) {
    for (const name of names) {
      const type = types[name.split(".").at(-1) as keyof typeof types];
      files.set(`/docs/${name}`, { type, bytes: await readFile(join(folder, name)) });
    }
  }
  return staticPages(files);
}

/** Who reads the page knows by which name the machine is reached; the page puts its own there. */
function withServer(document: Buffer, { port, isSecure }: CallPort): Buffer {
  const server = {
    url: "{scheme}://{host}:{port}",
    description: "The port for calls. A browser lets this page call it only if CORS_ORIGINS names the page's origin.",
    variables: {
      scheme: { default: isSecure ? "https" : "http", enum: [isSecure ? "https" : "http"] },
      host: { default: "localhost" },
      port: { default: String(port) },
    },
  };
  return Buffer.from(JSON.stringify({ ...JSON.parse(document.toString()), servers: [server] }));
}

/** Nothing but what is named here is loaded, run or called. Pictures of Swagger UI lie in its style sheet. */
function policy(calls: CallPort | undefined): string {
  const others = calls ? ` ${calls.isSecure ? "https" : "http"}://*:${calls.port}` : "";
  return [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    `connect-src 'self'${others}`,
    "img-src 'self' data:",
    "frame-ancestors 'none'",
    "base-uri 'none'",
    "form-action 'none'",
  ].join("; ");
}
