import * as http from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { packageRoot } from "../../src/platform/package-root.js";
import { consolePages } from "../../src/transport/connect/console-pages.js";
import { answerPlain, pathOf } from "../../src/transport/connect/node-request.js";

let base: string;
let server: http.Server;
beforeAll(async () => {
  const pages = consolePages(join(packageRoot(), "dist/console"));
  server = http.createServer((request, response) => {
    if (!pages(pathOf(request.url ?? ""), response)) answerPlain(response, 418, "not of the console\n");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => new Promise<unknown>((resolve) => server.close(resolve)));

test("the page and all that it names are served, with a policy that lets nothing else in", async () => {
  const page = await fetch(`${base}/console`);
  expect(page.status).toBe(200);
  expect(page.headers.get("content-security-policy")).toMatch(
    /^default-src 'none'; script-src 'self'; style-src 'self';/,
  );
  expect(page.headers.get("content-security-policy")).not.toContain("unsafe");
  const html = await page.text();
  expect(html).not.toMatch(/<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=/);
  const named = [...html.matchAll(/(?:src|href)="(console\/[^"]+)"/g)].map(([, path]) => path as string);
  expect(named.length).toBeGreaterThanOrEqual(5);
  for (const path of named) {
    const file = await fetch(`${base}/${path}`);
    expect([path, file.status, file.headers.get("x-content-type-options")]).toEqual([path, 200, "nosniff"]);
    await file.arrayBuffer();
  }
});

test("what has not changed is not sent again", async () => {
  const etag = (await fetch(`${base}/console/main.js`)).headers.get("etag") as string;
  const again = await fetch(`${base}/console/main.js`, { headers: { "if-none-match": etag } });
  expect([again.status, await again.text()]).toEqual([304, ""]);
  const other = await fetch(`${base}/console/main.js`, { headers: { "if-none-match": '"other"' } });
  expect([other.status, (await other.text()).length > 0]).toEqual([200, true]);
});

test.each([
  ["GET", "/console/", 308],
  ["GET", "/console/main.js.map", 404],
  ["GET", "/console/../package.json", 404],
  ["GET", "/console/..%2f..%2fpackage.json", 404],
  ["GET", "/consoles", 418],
  ["HEAD", "/console", 200],
  ["POST", "/console", 405],
])("%s %s is answered with %s", async (method, path, status) => {
  const answered = await new Promise<http.IncomingMessage>((resolve, reject) => {
    http.request(base, { method, path }, resolve).on("error", reject).end();
  });
  answered.resume();
  expect(answered.statusCode).toBe(status);
});
