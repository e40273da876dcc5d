/**
 * node scripts/contract.mjs [FILE]: builds the contract into one file (dist/coupon.binpb), as the build does, and copies it to FILE.
 *
 * It is a buf image, which is a FileDescriptorSet: our files with their comments, and all that they and the answers need. It is
 * all that somebody needs to make a client.
 */
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { clone, fromBinary, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { file_buf_validate_validate as validate } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";

const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** No file of ours imports these, but the details of an error are of the first, and health is served as well. */
const added = ["google/rpc/error_details.proto", "google/rpc/status.proto", "grpc/health/v1/health.proto"];

/** What buf notes of a file: this one (`is_import`) is generated only when imports are asked for. */
const importNote = { no: 8042, wireType: 2, data: Uint8Array.of(2, 0x08, 0x01) };

/** Writes the contract to a file. */
export function buildContract(file) {
  const built = `${file}.${process.pid}.new`;
  mkdirSync(dirname(file), { recursive: true });
  execFileSync(process.execPath, [join(root, "scripts/third-party-protos.mjs")], { cwd: root });
  execFileSync(join(root, "node_modules/.bin/buf"), ["build", "-o", `${built}#format=binpb`], {
    cwd: root,
    stdio: ["ignore", 2, 2],
  });
  const image = fromBinary(FileDescriptorSetSchema, readFileSync(built));
  const byName = new Map(image.file.map((one) => [one.name, one]));
  // The source that buf has read is printed and lacks the options.
  byName.set(validate.proto.name, clone(FileDescriptorProtoSchema, validate.proto));
  const wanted = new Set();
  const want = (name) => {
    if (wanted.has(name)) return;
    for (const dependency of byName.get(name).dependency) want(dependency);
    wanted.add(name);
  };
  for (const name of [...byName.keys()].filter((one) => one.startsWith("coupon/")).sort()) want(name);
  for (const name of added) want(name);
  image.file = [...wanted].map((name) => byName.get(name));
  for (const one of image.file.filter(({ name }) => !name.startsWith("coupon/"))) {
    one.$unknown = [...(one.$unknown ?? []).filter(({ no }) => no !== importNote.no), importNote];
  }
  writeFileSync(built, toBinary(FileDescriptorSetSchema, image));
  // Renamed into place, so that a program which is running reads the former file or the new one.
  renameSync(built, file);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const file = join(root, "dist/coupon.binpb");
  buildContract(file);
  if (process.argv[2]) copyFileSync(file, process.argv[2]);
}
