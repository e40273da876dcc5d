import { readFileSync, statSync } from "node:fs";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { root, withLock } from "../../scripts/build.mjs";

const folder = join(root, ".cache/test-bundle");
const manifest = join(folder, "made-of.json");
const files = { main: join(folder, "main.cjs"), host: join(folder, "host.cjs") };
const runner = join(root, "test/support/run-bundle.cjs");
/** What says how it is made, besides all that goes into it. */
const makers = [fileURLToPath(import.meta.url), runner, join(root, "node_modules/esbuild/package.json")];
/** What a bundle can start. Only that is run of it. */
const starts = `
exports.main = () => import("./dist/src/main.js");
exports.host = () => import("./test/support/replica-host.mjs");
`;
/** Files that ask, or write of, where they lie: the service's own, and those of these packages. */
const asking =
  /[\\/](?:dist|node_modules[\\/](?:@grpc[\\/]grpc-js|@platformatic[\\/]kafka|commander|ioredis|pino|thread-stream))[\\/].*\.js$/;
const question = /\bimport\.meta\.url\b|\b__dirname\b/g;
/** They have compiled parts, which cannot be put into a bundle. */
const compiled = ["@node-rs/*", "lz4-napi", "snappy"];

/**
 * The compiled service in one file, for tests that start it as a process: to read 1,200 modules one by one is half of what a start
 * costs. It is made of dist/, and of the packages, when any file that went into it is not as it was; so it is never older than dist/.
 */
export async function bundled() {
  if (!isCurrent()) {
    // Not while dist/ is being built.
    await withLock("build", async () => {
      if (!isCurrent()) await bundle();
    });
  }
  return files;
}

function isCurrent() {
  try {
    const made = JSON.parse(readFileSync(manifest, "utf8"));
    return made.every(([path, state]) => stateOf(path) === state);
  } catch {
    return false; // Not made yet, or made of a file that is gone.
  }
}

function stateOf(path) {
  const { size, mtimeMs } = statSync(path);
  return `${size} ${mtimeMs}`;
}

async function bundle() {
  const { build } = await import("esbuild");
  await rm(folder, { recursive: true, force: true });
  const startMs = Date.now();
  const { metafile, outputFiles } = await build({
    absWorkingDir: root,
    stdin: { contents: starts, resolveDir: root },
    bundle: true,
    platform: "node",
    // Without comments it is ASCII, which is read at once.
    minifyWhitespace: true,
    // Only of CommonJS does Node keep what it has compiled.
    format: "cjs",
    target: "node20",
    external: compiled,
    plugins: [{ name: "where files lie", setup: tellPlaces }],
    metafile: true,
    write: false,
    logLevel: "warning",
  });
  const [{ text, hash }] = outputFiles;
  const [left] = text.match(question) ?? [];
  if (left) throw new Error(`something in it asks for ${left}; name its package in ${makers[0]}`);
  if (/[^\0-\x7f]/.test(text)) throw new Error("something in it is not ASCII");
  await mkdir(folder, { recursive: true });
  // Named by what is in it: what an earlier one leaves at its end is nobody's.
  const service = join(folder, `service-${hash.replaceAll(/\W/g, "")}.cjs`);
  await writeFile(service, text);
  for (const [name, path] of Object.entries(files)) {
    await writeFile(path, `require(${JSON.stringify(runner)})(${JSON.stringify(service)}).${name}();\n`);
  }
  const read = Object.keys(metafile.inputs).filter((path) => path !== "<stdin>");
  const inputs = [...read.map((path) => join(root, path)), ...makers];
  // What has changed since the start may have been read before: it is said to be of no state, and all is made anew the next time.
  const state = (path) => (statSync(path).mtimeMs < startMs ? stateOf(path) : "");
  await writeFile(manifest, JSON.stringify(inputs.map((path) => [path, state(path)])));
}

/** Answers the question of a file with the place where it lies, and not with that of the bundle. */
function tellPlaces({ onLoad }) {
  onLoad({ filter: asking }, async ({ path }) => ({
    contents: (await readFile(path, "utf8"))
      .replace(question, (what) => JSON.stringify(what === "__dirname" ? dirname(path) : pathToFileURL(path).href))
      // CommonJS cannot wait at its end. Nobody waits for main.js.
      .replace(/^await main\(\);$/m, "void main();"),
    loader: "js",
  }));
}
