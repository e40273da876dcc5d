import { readFileSync } from "node:fs";
import { join } from "node:path";
import { BinaryReader } from "@bufbuild/protobuf/wire";
import { packageRoot } from "../../platform/package-root.js";

/** What the build has made of `proto/`: a FileDescriptorSet with comments, which is all that somebody needs to make a client. */
export function readContract(): Buffer {
  const path = join(packageRoot(), "dist/coupon.binpb");
  try {
    return readFileSync(path);
  } catch (error) {
    throw new Error(`the contract is not there, build it (npm run build) or set REFLECTION=off: ${path}`, {
      cause: error,
    });
  }
}

/** In FileDescriptorSet. */
const fileField = 1;
/** In FileDescriptorProto. */
const nameField = 1;

/** The bytes of each file, by its name. They are not decoded: all those comments would take a while. */
export function filesOf(contract: Uint8Array): Map<string, Uint8Array> {
  const files = new Map<string, Uint8Array>();
  for (const file of bytesOf(contract, fileField)) {
    for (const name of bytesOf(file, nameField)) files.set(Buffer.from(name).toString(), file);
  }
  return files;
}

/** What a message has in a field of bytes, text or messages. */
function* bytesOf(message: Uint8Array, field: number): Iterable<Uint8Array> {
  const reader = new BinaryReader(message);
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag();
    if (number === field) yield reader.bytes();
    else reader.skip(wireType, number);
  }
}
