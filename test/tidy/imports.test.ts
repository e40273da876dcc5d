import { posix } from "node:path";
import { describe, expect, test } from "vitest";
import { importsOf, read, repositoryFiles } from "./sources.js";

/** Who may import whom. The first layer whose pattern fits a file is its layer. */
interface Layer {
  readonly name: string;
  readonly files: RegExp;
  /** Layers, besides its own. */
  readonly mayUse: readonly string[];
  /** Packages and built-in modules. */
  readonly packages: RegExp;
  readonly advice: string;
}

const layers: readonly Layer[] = [
  {
    name: "main",
    files: /^src\/main\.ts$/,
    mayUse: ["app", "config", "embedded", "platform"],
    packages: /^node:/,
    advice: "main only starts and stops: wire the part in src/app.ts.",
  },
  {
    name: "app",
    files: /^src\/(app\.ts$|wiring\/)/,
    mayUse: [
      ...["config", "services", "commands", "jobs", "engines", "batching", "transport", "auth"],
      ...["redis", "memory", "postgres", "kafka", "ports", "domain", "platform", "gen"],
    ],
    packages: /^(node:|@bufbuild\/)/,
    advice: "app only wires: put the work, and the package that it needs, into a layer.",
  },
  {
    name: "config",
    files: /^src\/config\.ts$/,
    mayUse: ["domain", "platform"],
    packages: /^zod$/,
    advice: "config only reads the environment.",
  },
  {
    name: "domain",
    files: /^src\/domain\//,
    mayUse: [],
    packages: /^$/,
    advice: "the domain is pure: hand the value over as an argument, or move the code to the layer that has the store.",
  },
  {
    name: "ports",
    files: /^src\/(reservation\/(port|looks|packed-holdings)\.ts$|publishing\/port\.ts$|storage\/ports\/)/,
    mayUse: ["domain"],
    packages: /^node:crypto$/,
    advice: "a port says what is needed, in words of the domain, and knows nobody who does it.",
  },
  {
    name: "batching",
    files: /^src\/batching\//,
    mayUse: ["domain", "ports", "platform"],
    packages: /^node:timers\/promises$/,
    advice: "a queue of batches knows neither what is in them nor who commits them.",
  },
  {
    name: "engines",
    files: /^src\/(issuing|using|following)\//,
    mayUse: ["domain", "ports", "platform", "batching"],
    packages: /^(lru-cache$|node:timers\/promises$)/,
    advice: "an engine decides in words of the domain; it knows no message and no store.",
  },
  {
    name: "jobs",
    files: /^src\/jobs\//,
    mayUse: ["domain", "ports", "platform", "engines"],
    packages: /^(node:crypto|lru-cache)$/,
    advice: "a job takes the port that it needs as an argument; src/app.ts hands it the adapter.",
  },
  {
    name: "services",
    files: /^src\/services\//,
    mayUse: ["domain", "ports", "platform", "engines", "jobs", "gen"],
    packages: /^(node:crypto$|@bufbuild\/protobuf)/,
    advice: "a service takes the port that it needs as an argument; src/app.ts hands it the adapter.",
  },
  {
    name: "commands",
    files: /^src\/commands\//,
    mayUse: ["domain", "ports", "platform"],
    packages: /^commander$/,
    advice: "a command takes the port that it needs as an argument; src/wiring hands it the adapter.",
  },
  {
    name: "auth",
    files: /^src\/auth\//,
    mayUse: ["domain", "ports", "platform"],
    packages: /^(node:|jose$|lru-cache$|rate-limiter-flexible$)/,
    advice: "who calls, and how often it may, is found out from what a call brings; nothing here knows a message.",
  },
  {
    name: "transport",
    files: /^src\/transport\//,
    mayUse: ["auth", "domain", "ports", "platform", "gen"],
    packages: /^(node:|@bufbuild\/|@connectrpc\/|@grpc\/)/,
    advice: "a front end hands calls to the handlers that src/app.ts mounts; it knows no service and no store.",
  },
  {
    name: "redis",
    files: /^src\/reservation\/redis\//,
    mayUse: ["domain", "ports", "platform"],
    packages: /^(node:|ioredis$|lru-cache$)/,
    advice: "an adapter serves its port; what two of them need is in the port, the domain or src/platform.",
  },
  {
    name: "memory",
    files: /^src\/reservation\/memory\//,
    mayUse: ["domain", "ports", "platform"],
    packages: /^node:/,
    advice: "an adapter serves its port; what two of them need is in the port, the domain or src/platform.",
  },
  {
    name: "postgres",
    files: /^src\/storage\/postgres\//,
    mayUse: ["domain", "ports", "platform"],
    packages: /^(node:|postgres$|lru-cache$|drizzle-orm(\/|$))/,
    advice: "an adapter serves its port; what two of them need is in the port, the domain or src/platform.",
  },
  {
    name: "kafka",
    files: /^src\/publishing\/kafka-/,
    mayUse: ["ports", "platform"],
    packages: /^(node:|@platformatic\/kafka$)/,
    advice: "an adapter serves its port; what two of them need is in the port, the domain or src/platform.",
  },
  {
    name: "platform",
    files: /^src\/platform\//,
    mayUse: [],
    packages: /^(?!(ioredis|postgres|drizzle-orm|@platformatic|@grpc|@connectrpc|@bufbuild)(\/|$))/,
    advice: "the platform is below everything and knows nothing of coupons.",
  },
  {
    name: "embedded",
    files: /^embedded\//,
    mayUse: ["platform"],
    packages: /^node:/,
    advice: "the launcher is no part of the service, and knows nothing of coupons.",
  },
  { name: "gen", files: /^gen\//, mayUse: ["gen"], packages: /^@bufbuild\/protobuf/, advice: "gen is generated." },
];

const layerOf = (path: string): Layer | undefined => layers.find(({ files }) => files.test(path));

/** What is wrong with one import, or null. */
function verdict(file: string, specifier: string | null): string | null {
  const layer = layerOf(file);
  if (!layer) return `${file} belongs to no layer. Move it into one, or add a layer to test/tidy/imports.test.ts.`;
  const say = (what: string) => `${file} (${layer.name}) imports ${what}. ${layer.advice}`;
  if (specifier === null) return say("what is computed at run time: write the name out");
  if (!specifier.startsWith(".")) return layer.packages.test(specifier) ? null : say(`the package ${specifier}`);
  const target = posix.normalize(posix.join(posix.dirname(file), specifier)).replace(/\.js$/, ".ts");
  const targetLayer = layerOf(target);
  if (!targetLayer) return say(`${target}, which belongs to no layer`);
  if (targetLayer === layer || layer.mayUse.includes(targetLayer.name)) return null;
  return say(`${target} (${targetLayer.name})`);
}

describe("imports are found in", () => {
  const sources: [string, (string | null)[]][] = [
    ['import { a } from "./a.js";', ["./a.js"]],
    ["import a from './a.js'", ["./a.js"]],
    ['import type { A } from "./a.js";', ["./a.js"]],
    ['import a, { type B } from "./a.js";', ["./a.js"]],
    ['import * as a from "a";', ["a"]],
    ['import {\n  a,\n  b as c,\n} from "./a.js";', ["./a.js"]],
    ['import "./side-effect.js";', ["./side-effect.js"]],
    ['export { a } from "./a.js";', ["./a.js"]],
    ['export type { A } from "./a.js";', ["./a.js"]],
    ['export * from "./a.js";', ["./a.js"]],
    ['export * as a from "./a.js";', ["./a.js"]],
    ['const a = await import("./a.js");', ["./a.js"]],
    ['type A = typeof import("./a.js");', ["./a.js"]],
    ['import a = require("a");', ["a"]],
    ["const a = await import(name);", [null]],
    [`const a = await import("./" + name);`, [null]],
    ['import { a } from "a";import { b } from "b";', ["a", "b"]],
    ['export const a = 1;\nimport { b } from "b";', ["b"]],
    ['import fs from "node:fs"; export const from = "x";', ["node:fs"]],
    ['// import { a } from "a";', []],
    ['/* import { a } from "a"; */', []],
    ['import { a /* from "x" */ } from "a";', ["a"]],
    [`const text = 'import { a } from "a"';`, []],
    ['const text = `\nimport { a } from "a";\n`;', []],
    ['const pattern = /"/; import { a } from "a";', ["a"]],
    ['const pattern = /[/"]/.test(x); import { a } from "a"; const b = "c";', ["a"]],
    ['const half = a / b; const other = "/"; import c from "c";', ["c"]],
    ['const url = "http://x"; import { a } from "a";', ["a"]],
    ["new URL(import.meta.url)", []],
    ['export function f() { return "x"; }', []],
    ['export const f = () => "x";', []],
    ['export default "x";', []],
    ['router.import("x"); const important = "y";', []],
  ];
  test.for(sources)("%s", ([source, expected]) => {
    expect(importsOf(source)).toEqual(expected);
  });
});

describe("the rules", () => {
  const cases: [string, string, boolean][] = [
    ["src/main.ts", "./app.js", true],
    ["src/main.ts", "./services/catalog/get-coupon.js", false],
    ["src/main.ts", "postgres", false],
    ["src/app.ts", "./storage/postgres/database.js", true],
    ["src/app.ts", "../gen/coupon/v1/coupon_pb.js", true],
    ["src/app.ts", "ioredis", false],
    ["src/services/catalog/get-coupon.ts", "../../domain/coupon.js", true],
    ["src/services/catalog/get-coupon.ts", "../../storage/ports/coupons.js", true],
    ["src/services/catalog/get-coupon.ts", "../../storage/postgres/coupons/coupon-store.js", false],
    ["src/services/catalog/get-coupon.ts", "../../transport/pipeline.js", false],
    ["src/services/catalog/get-coupon.ts", "../../app.js", false],
    ["src/services/catalog/get-coupon.ts", "../../config.js", false],
    ["src/services/catalog/get-coupon.ts", "postgres", false],
    ["src/services/catalog/get-coupon.ts", "@grpc/grpc-js", false],
    ["src/issuing/issuer.ts", "../storage/ports/issues.js", true],
    ["src/issuing/issuer.ts", "../../gen/coupon/v1/coupon_pb.js", false],
    ["src/jobs/purger.ts", "../issuing/gate-keeper.js", true],
    ["src/issuing/issuer.ts", "../jobs/purger.js", false],
    ["src/app.ts", "../embedded/embedded.js", false],
    ["embedded/embedded.ts", "../src/domain/coupon.js", false],
    ["src/transport/pipeline.ts", "../services/message.js", false],
    ["src/transport/pipeline.ts", "../storage/postgres/errors.js", false],
    ["src/reservation/redis/client.ts", "ioredis", true],
    ["src/reservation/redis/client.ts", "../memory/memory-gate.js", false],
    ["src/reservation/memory/memory-gate.ts", "ioredis", false],
    ["src/reservation/port.ts", "../domain/issue.js", true],
    ["src/reservation/port.ts", "./redis/keys.js", false],
    ["src/storage/postgres/coupons/coupon-store.ts", "drizzle-orm", true],
    ["src/storage/postgres/coupons/coupon-store.ts", "drizzle-orm/pg-core", true],
    ["src/storage/postgres/coupons/coupon-store.ts", "../../../../gen/coupon/v1/coupon_pb.js", false],
    ["src/storage/postgres/coupons/coupon-store.ts", "../../../services/message.js", false],
    ["src/storage/postgres/coupons/coupon-store.ts", "../../../reservation/redis/keys.js", false],
    ["src/auth/authenticator.ts", "../domain/principal.js", true],
    ["src/auth/authenticator.ts", "jose", true],
    ["src/auth/authenticator.ts", "../transport/pipeline.js", false],
    ["src/transport/pipeline.ts", "../auth/authenticator.js", true],
    ["src/domain/coupon.ts", "./refusal.js", true],
    ["src/domain/coupon.ts", "node:crypto", false],
    ["src/domain/coupon.ts", "../platform/group-by.js", false],
    ["src/domain/coupon.ts", "../../gen/coupon/v1/coupon_pb.js", false],
    ["src/platform/probe.ts", "../domain/coupon.js", false],
    ["src/platform/probe.ts", "postgres", false],
    ["src/utils/strings.ts", "node:fs", false],
    ["src/services/catalog/get-coupon.ts", "../../../test/support/until.js", false],
  ];
  test.for(cases)("%s importing %s: %s", ([file, specifier, allowed]) => {
    expect(verdict(file, specifier) === null).toBe(allowed);
  });
});

test("every import in src follows the rules", () => {
  const files = repositoryFiles().filter((path) => /^(src|embedded)\/.*\.ts$/.test(path));
  expect(files.length).toBeGreaterThan(40);
  const wrong = files.flatMap((file) => importsOf(read(file)).map((specifier) => verdict(file, specifier)));
  expect(wrong.filter((one) => one !== null)).toEqual([]);
});

test("a package that the service is installed with is one that it needs", () => {
  const needs = repositoryFiles().filter((path) => /^(src|embedded|gen)\/.*\.ts$|^scripts\/build\.mjs$/.test(path));
  const text = needs.map(read).join("\n");
  const { dependencies } = JSON.parse(read("package.json")) as { dependencies: Record<string, string> };
  const wrong = Object.keys(dependencies).filter((name) => !text.includes(`"${name}"`) && !text.includes(`"${name}/`));
  expect(wrong, "to fix: `npm install --save-dev <name>`, or uninstall it").toEqual([]);
});

/** A package that may be imported only from the folders given, over the whole repository. */
const fences: [string, RegExp, RegExp][] = [
  ["ioredis", /^ioredis$/, /^(src\/reservation\/redis|embedded|test|bench|demo|scripts)\//],
  ["postgres and drizzle-orm", /^(postgres|drizzle-orm)(\/|$)/, /^(src\/storage\/postgres|test|bench|demo|scripts)\//],
  [
    "the generated code",
    /\/gen\//,
    /^(gen|src\/services|src\/transport|src\/wiring|test|bench|demo|scripts)\/|^clients\/typescript\/src\/contract\.ts$/,
  ],
  ["what tests need", /\/test\/|^vitest/, /^test\/|^vitest\.config\.ts$/],
];
test.for(fences)("%s stays behind its fence", ([name, specifiers, folders]) => {
  const wrong = repositoryFiles()
    .filter((path) => path.endsWith(".ts") && !folders.test(path))
    .filter((path) => importsOf(read(path)).some((specifier) => specifier !== null && specifiers.test(specifier)));
  expect(wrong, `${name}: import only from ${folders.source}; elsewhere, take what it offers as an argument`).toEqual(
    [],
  );
});
