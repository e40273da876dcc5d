import { readFileSync, statSync } from "node:fs";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { root, withLock } from "../../scripts/build.mjs";

const folder = join(root, ".cache/test-bundle");
const manifest = join(folder, "made-of.json");
const files = { main: join(folder, "main.js"), host: join(folder, "host.js") };
/** What says how it is made, besides all that goes into it. */
const makers = [fileURLToPath(import.meta.url), join(root, "node_modules/esbuild/package.json")];
/** Files that ask, or write of, where they lie: the service's own, and those of these packages. */
const asking =
  /[\\/](?:dist|node_modules[\\/](?:@grpc[\\/]grpc-js|@platformatic[\\/]kafka|commander|ioredis|pino|thread-stream))[\\/].*\.js$/;
const question = /\bimport\.meta\.url\b|\b__dirname\b/g;
/** They have compiled parts, which cannot be put into a bundle. */
const compiled = ["@node-rs/*", "lz4-napi", "snappy"];

/**
 * The compiled service in a few files, for tests that start it as a process: to read 1,200 modules one by one is half of what a start
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
    entryPoints: { main: "dist/src/main.js", host: "test/support/replica-host.mjs" },
    outdir: folder,
    bundle: true,
    splitting: true,
    platform: "node",
    format: "esm",
    target: "node20",
    external: compiled,
    // For packages that are CommonJS.
    banner: {
      js: `import { createRequire as ofBundle } from "node:module"; const require = ofBundle(${JSON.stringify(files.main)});`,
    },
    plugins: [{ name: "where files lie", setup: tellPlaces }],
    metafile: true,
    write: false,
    logLevel: "warning",
  });
  await mkdir(folder, { recursive: true });
  for (const { path, text } of outputFiles) {
    const [left] = text.match(question) ?? [];
    if (left) throw new Error(`${path}: something in it asks for ${left}; name its package in ${makers[0]}`);
    await writeFile(path, text);
  }
  const inputs = [...Object.keys(metafile.inputs).map((path) => join(root, path)), ...makers];
  // What has changed since the start may have been read before: it is said to be of no state, and all is made anew the next time.
  const state = (path) => (statSync(path).mtimeMs < startMs ? stateOf(path) : "");
  await writeFile(manifest, JSON.stringify(inputs.map((path) => [path, state(path)])));
}

/** Answers the question of a file with the place where it lies, and not with that of the bundle. */
function tellPlaces({ onLoad }) {
  onLoad({ filter: asking }, async ({ path }) => ({
    contents: (await readFile(path, "utf8")).replace(question, (what) =>
      JSON.stringify(what === "__dirname" ? dirname(path) : pathToFileURL(path).href),
    ),
    loader: "js",
  }));
}
