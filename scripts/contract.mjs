/** Builds the contract, with its comments, into one file: a buf image, which is a FileDescriptorSet. */
import { execFileSync } from "node:child_process";
import { mkdirSync, renameSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** Writes the contract to a file. */
export function buildContract(file) {
  const built = `${file}.${process.pid}.new`;
  mkdirSync(dirname(file), { recursive: true });
  execFileSync(process.execPath, [join(root, "scripts/third-party-protos.mjs")], { cwd: root });
  execFileSync(join(root, "node_modules/.bin/buf"), ["build", "-o", `${built}#format=binpb`], {
    cwd: root,
    stdio: ["ignore", 2, 2],
  });
  // Renamed into place, so that a program which is running reads the former file or the new one.
  renameSync(built, file);
}
