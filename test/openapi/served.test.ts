import { readFileSync } from "node:fs";
import { request } from "node:http";
import { connect } from "node:http2";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { afterAll, describe, expect, test } from "vitest";
import { packageRoot } from "../../src/platform/package-root.js";
import { backing, startReplicas } from "../support/service.js";

const { stores } = await backing(afterAll);
const [plain, apart, off] = await startReplicas(
  afterAll,
  stores,
  { CORS_ORIGINS: "https://shop.example" },
  { ADMIN_PORT: "0" },
  { DOCS: "off" },
);
const document = readFileSync(join(packageRoot(), "dist/openapi.json"));
const page = ["/docs", "/docs/page.js", "/docs/page.css", "/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js"];
const all = ["/openapi.json", ...page, "/docs/favicon-32x32.png"];

interface Got {
  readonly status: number | undefined;
  readonly headers: Record<string, string | string[] | undefined>;
  readonly body: Buffer;
}

/** With the path and the headers as they are given: fetch would tidy them up. */
function get(port: number, path: string, headers: Record<string, string> = {}, method = "GET"): Promise<Got> {
  return new Promise((resolve, reject) => {
    request({ host: "127.0.0.1", port, path, method, headers, agent: false }, (response) => {
      const parts: Buffer[] = [];
      response.on("data", (part: Buffer) => parts.push(part));
      response.on("end", () =>
        resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(parts) }),
      );
    })
      .on("error", reject)
      .end();
  });
}

const directives = ({ headers }: Got) =>
  new Map(
    String(headers["content-security-policy"])
      .split("; ")
      .map((one) => [one.split(" ", 1)[0], one.slice(one.indexOf(" ") + 1)]),
  );

describe.each([
  ["on the port for calls", plain.httpPort],
  ["on a port of its own", apart.adminPort as number],
])("%s", (_name, port) => {
  test.for(all)("%s is what it says that it is, and is sent again only if it has changed", async (path) => {
    const got = await get(port, path);
    expect(got.status).toBe(200);
    const { etag, "content-type": type, ...headers } = got.headers;
    expect(headers).toMatchObject({
      "x-content-type-options": "nosniff",
      "referrer-policy": "no-referrer",
      "cache-control": "no-cache",
      "content-length": String(got.body.length),
    });
    const types = { css: /^text\/css/, js: /^text\/javascript/, json: /^application\/json$/, png: /^image\/png$/ };
    expect(type).toMatch(types[path.split(".")[1] as keyof typeof types] ?? /^text\/html/);
    const again = await get(port, path, { "if-none-match": `"x", W/${etag}` });
    expect([again.status, again.headers.etag, again.body.length]).toEqual([304, etag, 0]);
    const head = await get(port, path, {}, "HEAD");
    expect([head.status, head.headers.etag, head.body.length]).toEqual([200, etag, 0]);
    const packed = await get(port, path, { "accept-encoding": "br, gzip" });
    expect(packed.headers["content-encoding"]).toBe("gzip");
    expect(gunzipSync(packed.body).equals(got.body)).toBe(true);
    const forbidden = await get(port, path, { "accept-encoding": "br, gzip;q=0" });
    expect([forbidden.headers["content-encoding"], forbidden.body.equals(got.body)]).toEqual([undefined, true]);
    const post = await get(port, path, {}, "POST");
    expect([post.status, post.headers.allow]).toEqual([405, "GET, HEAD"]);
  });

  test("the page runs and loads its own files alone, and names nothing else", async () => {
    const got = await get(port, "/docs");
    const policy = directives(got);
    expect(policy.get("default-src")).toBe("'none'");
    for (const name of ["script-src", "style-src"]) expect(policy.get(name)).toBe("'self'");
    for (const name of ["frame-ancestors", "base-uri", "form-action"]) expect(policy.get(name)).toBe("'none'");
    const html = got.body.toString();
    expect(html).not.toMatch(/<script>|<style|style=|\son\w+=|https?:\/\//);
    const named = [...html.matchAll(/(?:src|href)="([^"]*)"/g)].map(([, path]) => `/${path}`);
    expect([...named].sort()).toEqual([...new Set([...all, "/openapi.json"])].filter((one) => one !== "/docs").sort());
  });

  test.for([
    ...["/docs/../package.json", "/docs/..%2fpackage.json", "/docs/%2e%2e/package.json", "/docs//page.js"],
    ...[
      "/docs/swagger-ui.js",
      "/docs/page.html",
      "/docs/docs.js",
      "/docs/page.js/",
      "/docs/page.js%00",
      "/docs/",
      "/DOCS",
    ],
    ...["/docs/__proto__", "/docs/constructor", "/openapi.yaml"],
  ])("%s is nothing", async (path) => {
    expect((await get(port, path)).status).toBe(404);
  });
});

test("the document is the one of the build; over HTTP/2, too", async () => {
  expect((await get(plain.httpPort, "/openapi.json")).body.equals(document)).toBe(true);
  const session = connect(`http://127.0.0.1:${plain.httpPort}`);
  try {
    const stream = session.request({ ":path": "/openapi.json" });
    const parts: Buffer[] = [];
    for await (const part of stream) parts.push(part);
    expect(Buffer.concat(parts).equals(document)).toBe(true);
  } finally {
    session.close();
  }
});

test("on a port of its own the page may call the port for calls, and that one alone", async () => {
  const { servers } = JSON.parse((await get(apart.adminPort as number, "/openapi.json")).body.toString());
  expect(servers).toHaveLength(1);
  expect(servers[0].variables).toMatchObject({
    scheme: { default: "http" },
    port: { default: String(apart.httpPort) },
  });
  const got = directives(await get(apart.adminPort as number, "/docs"));
  expect(got.get("connect-src")).toBe(`'self' http://*:${apart.httpPort}`);
  expect(directives(await get(plain.httpPort, "/docs")).get("connect-src")).toBe("'self'");
  for (const path of all) expect((await get(apart.httpPort, path)).status).toBe(404);
});

test("pages of other origins may read the document where they may call", async () => {
  const got = await get(plain.httpPort, "/openapi.json", { origin: "https://shop.example" });
  expect(got.headers["access-control-allow-origin"]).toBe("https://shop.example");
  expect(got.headers.vary).toBe("Origin, accept-encoding");
});

test("DOCS=off: there is nothing", async () => {
  for (const path of all) expect((await get(off.httpPort, path)).status).toBe(404);
});
