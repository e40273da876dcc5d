import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { AuditService } from "../../gen/coupon/v1/audit_service_pb.js";
import { AuthService } from "../../gen/coupon/v1/auth_service_pb.js";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { EventService } from "../../gen/coupon/v1/event_service_pb.js";
import { IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import { UsageService } from "../../gen/coupon/v1/usage_service_pb.js";
import { UserCouponService } from "../../gen/coupon/v1/user_coupon_service_pb.js";
import { settingNames } from "../../src/config.js";
import { packageRoot } from "../../src/platform/package-root.js";
import { read, repositoryFiles, scan } from "./sources.js";

/** The patterns below would find themselves here. */
const self = "test/tidy/tidy.test.ts";
const files = repositoryFiles().filter((path) => path !== self);
const texts = files.filter((path) => !/\.(png|jpg|ico|gif|woff2?|gz|zip)$/.test(path));
const maxSourceLines = 300;
const maxFolderFiles = 20;
/** All tables, in the order in which they refer to each other. */
const longByNature = "src/storage/postgres/schema.ts";

interface Ban {
  readonly what: string;
  readonly files: RegExp;
  readonly pattern: RegExp;
  readonly fix: string;
  /** Whether comments and strings are left out. */
  readonly codeOnly?: boolean;
  readonly caught: string;
  readonly allowed: string;
}

const bans: Ban[] = [
  {
    what: "paths of somebody's machine",
    files: /./,
    pattern: /(?<![\w.])\/(?:home|Users)\/[a-z][\w.-]*\/|(?<![\w.])\/(?:root|work)\/\w|[A-Z]:\\\\?Users\\/,
    fix: "use a path from the package's root, or a setting",
    caught: "cd /home/anna/coupons",
    allowed: "/healthz /workload https://example.com/work/x test/home/x",
  },
  {
    what: "host names of package registries",
    files: /./,
    pattern: /registry\.(?:npmjs|yarnpkg)\.|npm\.pkg\.github\.com|artifactory|jfrog\.io|verdaccio|codeartifact/i,
    fix: "leave the registry to each user's npm configuration; .npmrc keeps it out of the lock file",
    caught: '"resolved": "https://registry.npmjs.org/x"',
    allowed: "the registry of coupons",
  },
  {
    what: "tests that run alone or not at all",
    files: /^test\/.*\.ts$/,
    pattern: /\b(?:test|it|describe|suite|bench)(?:\.\w+)*\.(?:only|skip|todo|fails)\b/,
    fix: "run one test with `npx vitest run <file> -t <name>`; repair a test that fails, or say why with skipIf",
    codeOnly: true,
    caught: 'test.only("x", () => {});',
    allowed: 'test("skip", () => text.skip()); // test.only("x")',
  },
  {
    what: "notes to oneself",
    files: /./,
    pattern: /\b(?:TODO|FIXME|XXX|HACK)\b/,
    fix: "do it, or open an issue",
    caught: "// TODO: later",
    allowed: "todos hackers XXXL",
  },
  {
    what: "console in src",
    files: /^src\/.*\.ts$/,
    pattern: /(?<![\w.])console\s*\./,
    fix: "log with the Logger that is handed over; main writes to process.stderr before there is one",
    codeOnly: true,
    caught: "console.log(1)",
    allowed: '// console.log(1)\nconst a = "console.log"; my.console.log(1)',
  },
  {
    what: "waits for a fixed time in tests",
    files: /^test\/(?:unit|e2e)\/.*\.ts$/,
    pattern: /\bsetTimeout\(\s*(?:resolve|done|\w*[rR]esolve)\b|timers\/promises/,
    fix: "wait for what the test needs with until() of test/support/until.ts",
    caught: "await new Promise((resolve) => setTimeout(resolve, 100));",
    allowed: "const timer = setTimeout(() => reject(new Error()), 1_000);",
  },
];

describe.for(bans)("no $what", ({ files: where, pattern, fix, codeOnly, caught, allowed }) => {
  const found = (text: string) => pattern.test(codeOnly ? scan(text).code : text);

  test("the pattern catches what it should, and only that", () => {
    expect([found(caught), found(allowed)]).toEqual([true, false]);
  });

  test("in the repository", () => {
    const wrong = texts
      .filter((path) => where.test(path))
      .flatMap((path) => {
        const text = read(path);
        const lines = (codeOnly ? scan(text).code : text).split("\n");
        return lines.flatMap((line, index) => (pattern.test(line) ? [`${path}:${index + 1}`] : []));
      });
    expect(wrong, `to fix: ${fix}`).toEqual([]);
  });
});

describe("no afterAll where it has no effect, in a hook or in a test", () => {
  const block = /^( *)(?:before(?:All|Each)|test)\b[^\n]*\{\n([\s\S]*?)^\1\}/gm;
  const found = (text: string) =>
    [...scan(text).code.matchAll(block)].filter(([, , body]) => /\bafterAll\b/.test(body!));

  test("the pattern catches what it should, and only that", () => {
    const body = "  around = await backing(afterAll);";
    expect(found(`beforeAll(async () => {\n${body}\n});`)).toHaveLength(1);
    expect(found(`beforeAll(async () => {\n  a();\n});\nafterAll(() => {});`)).toEqual([]);
  });

  test("in the repository", () => {
    const wrong = texts.filter((path) => /^test\/.*\.ts$/.test(path) && found(read(path)).length > 0);
    expect(wrong, "to fix: take atEndOfFile() of test/support/at-end.ts").toEqual([]);
  });
});

test(`no file in src is longer than ${maxSourceLines} lines`, () => {
  const long = texts
    .filter((path) => /^(clients\/typescript\/)?src\//.test(path) && path !== longByNature)
    .map((path) => [path, read(path).trimEnd().split("\n").length] as const)
    .filter(([, lines]) => lines > maxSourceLines);
  expect(long, "to fix: find the second thing that the file is about, and give it a file of its own").toEqual([]);
});

test(`no folder of src has more than ${maxFolderFiles} files`, () => {
  const folders = new Map<string, number>();
  for (const path of texts.filter((one) => /^(src|embedded|clients\/typescript\/src)\//.test(one))) {
    const folder = path.slice(0, path.lastIndexOf("/"));
    folders.set(folder, (folders.get(folder) ?? 0) + 1);
  }
  const full = [...folders].filter(([, count]) => count > maxFolderFiles);
  expect(full, "to fix: find what belongs together, and give it a folder of its own").toEqual([]);
});

test("dependencies are pinned to what the lock file has", () => {
  const pack = JSON.parse(read("package.json")) as Record<string, Record<string, string> | undefined>;
  const lock = JSON.parse(read("package-lock.json")) as { packages: Record<string, { version?: string }> };
  const all = ["dependencies", "devDependencies", "optionalDependencies", "peerDependencies"].flatMap((kind) =>
    Object.entries(pack[kind] ?? {}),
  );
  expect(all.length).toBeGreaterThan(20);
  const wrong = all.filter(([name, version]) => lock.packages[`node_modules/${name}`]?.version !== version);
  expect(wrong, "to fix: `npm install --save-exact <name>@<version>`").toEqual([]);
});

describe("the README", () => {
  const readme = () => (existsSync(join(packageRoot(), "docs/configuration.md")) ? read("docs/configuration.md") : "");

  test("is there", () => {
    expect(readme()).not.toBe("");
  });

  test("lists each setting", () => {
    const text = readme();
    const missing = settingNames.filter((name) => !text.includes(`\`${name}\``));
    expect(missing, "to fix: add a row to the table under Configuration").toEqual([]);
  });

  test("lists no setting that does not exist", () => {
    const section = /^##+ .*configuration.*$([\s\S]*?)(?=^##? |$(?![\s\S]))/im.exec(readme())?.[1] ?? "";
    const listed = [...section.matchAll(/^\|\s*`([A-Z][A-Z0-9_]+)`/gm)].map(([, name]) => name as string);
    expect(listed.filter((name) => !settingNames.includes(name))).toEqual([]);
  });
});

test("every example is run by scripts/clients.mjs, and stands in the README of the examples", () => {
  const folders = new Set(texts.flatMap((path) => /^examples\/([^/]+)\//.exec(path)?.[1] ?? []));
  const run = [...read("scripts/clients.mjs").matchAll(/^ {2}(\w+): \{$/gm)].map(([, name]) => name);
  expect([...folders].sort()).toEqual(run.sort());
  const readme = read("examples/README.md");
  expect([...folders].filter((folder) => !readme.includes(`| [${folder}](${folder})`))).toEqual([]);
});

describe("every RPC has its file and its function", () => {
  const kebab = (name: string) => name.replace(/(?<=[a-z0-9])[A-Z]/g, (letter) => `-${letter}`).toLowerCase();
  const services = [
    ...[AuditService, AuthService, CatalogService, EventService],
    ...[IssuanceService, UserCouponService, UsageService],
  ];
  const rpcs = services.flatMap((service) =>
    service.methods.map((method) => ({
      name: method.name,
      file: `src/services/${kebab(service.name.replace(/Service$/, ""))}/${kebab(method.name)}.ts`,
      local: method.localName,
    })),
  );

  test("all services are looked at", () => {
    const protos = files.filter((path) => path.endsWith(".proto")).map((path) => read(path));
    const declared = protos.flatMap((text) => [...text.matchAll(/^ {2}rpc (\w+)\(/gm)].map(([, name]) => name));
    expect(rpcs.map(({ name }) => name).sort()).toEqual(declared.sort());
  });

  test.for(rpcs)("$name is $local() in $file", ({ file, local }) => {
    expect(files, `to fix: put the handler into ${file}`).toContain(file);
    expect(read(file), `to fix: export it as ${local}`).toMatch(new RegExp(`^export function ${local}\\(`, "m"));
  });
});
