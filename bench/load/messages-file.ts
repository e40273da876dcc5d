import { readFile, writeFile } from "node:fs/promises";

/** The largest file that is read: some million requests. */
const maxFileBytes = 128 * 1024 * 1024;

/**
 * Request messages in one file, each after its length as a varint. ghz reads the same format (`--binary-file`), which
 * costs it no JSON or template work for each call.
 */
export async function writeMessages(path: string, messages: Iterable<Uint8Array>): Promise<number> {
  const parts: Uint8Array[] = [];
  let count = 0;
  for (const message of messages) {
    parts.push(varint(message.length), message);
    count += 1;
  }
  await writeFile(path, Buffer.concat(parts));
  return count;
}

export async function readMessages(path: string): Promise<Buffer[]> {
  const bytes = await readFile(path);
  if (bytes.length > maxFileBytes) throw new Error(`${path} is larger than ${maxFileBytes} bytes.`);
  const messages: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    let length = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++]!;
      length |= (byte & 0x7f) << shift;
      if (byte < 0x80) break;
    }
    messages.push(bytes.subarray(at, at + length));
    at += length;
  }
  return messages;
}

function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  for (let rest = value; ; rest >>>= 7) {
    if (rest < 0x80) return Uint8Array.from([...bytes, rest]);
    bytes.push((rest & 0x7f) | 0x80);
  }
}
