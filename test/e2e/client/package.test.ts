import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { beforeAll, expect, test } from "vitest";
import { packageRoot } from "../../../src/platform/package-root.js";
import { atEndOfFile } from "../../support/at-end.js";
import { oneReplica } from "../../support/service.js";

/** Only what hangs takes so long. */
const limits = { timeout: 120_000, maxBuffer: 1 << 24 };
const run = promisify(execFile);
const modules = join(packageRoot(), "node_modules");

let folder: string;
let installed: string;
let pack: { dependencies: Record<string, string>; exports: Record<string, unknown> };

const atEnd = atEndOfFile();
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "coupon-client-"));
  atEnd(() => rm(folder, { recursive: true, force: true }));
  const options = ["--pack-destination", folder, "--loglevel=error", "--offline", "--no-update-notifier"];
  const command = ["run", "pack", "--silent", "-w", "@coupon-service/client", "--", ...options];
  await run("npm", command, { cwd: packageRoot(), ...limits });
  const [tarball] = (await readdir(folder)).filter((name) => name.endsWith(".tgz"));
  await run("tar", ["-xzf", join(folder, tarball as string), "-C", folder], limits);
  installed = join(folder, "node_modules/@coupon-service/client");
  await cp(join(folder, "package"), installed, { recursive: true });
  pack = JSON.parse(await readFile(join(installed, "package.json"), "utf8"));
  // What it says it needs, and nothing else of what the service has. Without a network, from where that is installed.
  for (const name of [...Object.keys(pack.dependencies), "@types/node"]) {
    await mkdir(dirname(join(folder, "node_modules", name)), { recursive: true });
    await symlink(join(modules, name), join(folder, "node_modules", name));
  }
});

test("the package has what runs, and no sources", async () => {
  const files = (await readdir(installed, { recursive: true })).map(String);
  expect(files).toEqual(expect.arrayContaining(["README.md", "dist/node.js", "dist/web.d.ts"]));
  expect(files.filter((name) => /^(src|scripts|node_modules)|tsconfig|(?<!\.d)\.ts$/.test(name))).toEqual([]);
  const generated = files.filter((name) => /^dist\/gen\/coupon\/.*\.(js|d\.ts)$/.test(name));
  expect(generated).toContain("dist/gen/coupon/v1/catalog_service_pb.js");
  for (const name of generated) {
    expect(await readFile(join(installed, name), "utf8"), name).not.toMatch(/protovalidate|rules_pb/);
  }
});

test("a strict program that uses it is checked, and runs on a replica", async () => {
  const { replica } = await oneReplica(atEnd);
  await writeFile(join(folder, "package.json"), JSON.stringify({ name: "consumer", type: "module" }));
  await cp(join(packageRoot(), "test/e2e/client/consumer.ts.txt"), join(folder, "consumer.ts"));
  const compilerOptions = {
    ...{ target: "ES2022", module: "NodeNext", lib: ["ES2023", "DOM", "DOM.Iterable"], types: ["node"] },
    ...{ strict: true, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true, skipLibCheck: false },
  };
  await writeFile(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["consumer.ts"] }));
  const checked = run(process.execPath, [join(modules, "typescript/bin/tsc"), "-p", folder], limits);
  await checked.catch(({ stdout }) => expect.fail(stdout));
  const urls = [replica.grpcPort, replica.httpPort].map((port) => `http://127.0.0.1:${port}`);
  const { stdout } = await run(process.execPath, ["consumer.js", ...urls], { cwd: folder, ...limits });
  expect(stdout).toBe("all is well\n");
});
