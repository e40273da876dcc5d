import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { WatchedFiles } from "../../../src/platform/watched-files.js";
import { inspectTls } from "../../../src/transport/tls/server-identity.js";
import { Authority } from "../../support/certificates.js";

const folder = mkdtempSync(join(tmpdir(), "coupon-files-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const path = (name: string) => join(folder, name);

describe("files that are watched", () => {
  test("behind links into a folder that is exchanged, as Kubernetes does it", async () => {
    const put = (version: string, text: string) => {
      mkdirSync(path(version));
      writeFileSync(path(`${version}/file`), text);
      symlinkSync(version, path("next"));
      renameSync(path("next"), path("data"));
    };
    put("v1", "one");
    symlinkSync("data/file", path("file"));
    const used: string[] = [];
    const watched = new WatchedFiles(
      [{ setting: "FILE", path: path("file") }],
      ([text]) => void used.push(text as string),
    );
    await watched.check();
    put("v2", "two");
    await watched.check();
    await watched.check();
    expect(used).toEqual(["one", "two"]);
  });

  test("of which one is exchanged before the other are tried until they fit", async () => {
    for (const name of ["a", "b"]) writeFileSync(path(name), "1");
    const used: string[] = [];
    const files = ["a", "b"].map((name) => ({ setting: name.toUpperCase(), path: path(name) }));
    const watched = new WatchedFiles(files, (texts) => {
      if (texts[0] !== texts[1]) throw new Error("do not fit");
      used.push(texts.join());
    });
    writeFileSync(path("a"), "2");
    await expect(watched.check()).rejects.toThrow("do not fit");
    await expect(watched.check()).rejects.toThrow("do not fit");
    writeFileSync(path("b"), "2");
    await watched.check();
    expect(used).toEqual(["1,1", "2,2"]);
  });

  test("that cannot be read are named by their setting, at the start and later", async () => {
    const files = [{ setting: "SOME_FILE", path: path("missing") }];
    expect(() => new WatchedFiles(files, () => {})).toThrow(/^SOME_FILE: cannot be read: ENOENT/);
    writeFileSync(path("missing"), "");
    const watched = new WatchedFiles(files, () => {});
    truncateSync(path("missing"), 2 * 1024 * 1024);
    await expect(watched.check()).rejects.toThrow(/^SOME_FILE: cannot be read: has more than/);
  });
});

describe("certificates and key", () => {
  const authority = new Authority("servers");
  const [first, second] = [1, 2].map((hours) =>
    authority.issue({ names: ["DNS:localhost"], validToMs: Date.now() + hours * 3_600_000 }),
  ) as [ReturnType<Authority["issue"]>, ReturnType<Authority["issue"]>];
  const endMs = (hours: number) => expect.closeTo(Date.now() + hours * 3_600_000, -5);

  test("that fit: the end of the first that ends is told", () => {
    const certificate = `a text before\n${second.certificate}${first.certificate}`;
    const ends = inspectTls({ certificate, key: second.key, clientCa: authority.certificate });
    expect(ends).toEqual({ certificateMs: endMs(1), clientCaMs: endMs(1) });
    expect(inspectTls(second)).toEqual({ certificateMs: endMs(2), clientCaMs: undefined });
  });

  test.for([
    ["the key of another", { ...first, key: second.key }, /^TLS_KEY_FILE: is not the key/],
    ["no key", { ...first, key: "" }, /^TLS_KEY_FILE: is no private key/],
    ["no certificate", { ...first, certificate: first.key }, /^TLS_CERT_FILE: has no certificate/],
    [
      "a certificate cut short",
      { ...first, certificate: first.certificate.replace(/\n.{40}/, "\n") },
      /^TLS_CERT_FILE: its certificate 1 cannot/,
    ],
    ["nobody who signs", { ...first, clientCa: "" }, /^TLS_CLIENT_CA_FILE: has no certificate/],
  ] as const)("%s", ([, texts, message]) => {
    expect(() => inspectTls(texts)).toThrow(message);
  });
});
