import { randomBytes } from "node:crypto";
import { deflateSync, gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { Refusal } from "../../src/domain/refusal.js";
import { type Encoding, inflate } from "../../src/transport/messages/inflate.js";
import { LargeMessages } from "../../src/transport/messages/large-messages.js";

const mib = 1_024 * 1_024;
const message = () => new LargeMessages(64 * mib).open({});
const reasonOf = (answer: Uint8Array | Refusal) =>
  answer instanceof Refusal ? answer.reason : `${answer.length} bytes`;

describe.for([
  ["gzip", gzipSync],
  ["deflate", deflateSync],
] as [Encoding, (bytes: Uint8Array) => Buffer][])("%s", ([encoding, compress]) => {
  test("gives the bytes back, up to the limit and no further", async () => {
    for (const length of [0, 1, 1_000, 70_000, mib]) {
      const bytes = randomBytes(length);
      const inflated = await inflate(encoding, compress(bytes), mib, message());
      expect(inflated instanceof Uint8Array && bytes.equals(inflated)).toBe(true);
    }
    expect(reasonOf(await inflate(encoding, compress(randomBytes(mib + 1)), mib, message()))).toBe("MESSAGE_TOO_LARGE");
  });

  test("a small message may be as dense as it likes; a large one may not", async () => {
    const dense = (length: number) => inflate(encoding, compress(Buffer.alloc(length, "x")), 8 * mib, message());
    expect(reasonOf(await dense(64 * 1_024))).toBe("65536 bytes");
    const refused = (await dense(mib)) as Refusal;
    expect([refused.reason, refused.message]).toEqual(["MESSAGE_TOO_LARGE", expect.stringContaining("512 times")]);
  });

  test("one that begins too dense is refused before the rest of it is inflated", async () => {
    const bytes = Buffer.concat([Buffer.alloc(6 * mib, "x"), randomBytes(mib)]);
    const large = message();
    let inflatedBytes = 0;
    const refused = await inflate(encoding, compress(bytes), 8 * mib, {
      ...large,
      add: (length) => {
        inflatedBytes += length;
        return large.add(length);
      },
    });
    expect(reasonOf(refused)).toBe("MESSAGE_TOO_LARGE");
    expect(inflatedBytes).toBeLessThan(2 * mib);
    const mixed = Buffer.concat([Buffer.alloc(200_000, "x"), randomBytes(mib)]);
    expect(reasonOf(await inflate(encoding, compress(mixed), 8 * mib, message()))).toBe(`${mixed.length} bytes`);
  });

  test("what is something else, or not all of it, is bad input", async () => {
    const bytes = compress(randomBytes(1_000));
    for (const wrong of [Buffer.from("x"), Buffer.alloc(0), bytes.subarray(0, -9)]) {
      expect(reasonOf(await inflate(encoding, wrong, mib, message()))).toBe("INVALID_FIELD");
    }
  });

  test("what is inflated takes memory", async () => {
    const messages = new LargeMessages(mib);
    const held = messages.open({});
    expect(reasonOf(await inflate(encoding, compress(randomBytes(400_000)), mib, held))).toBe("400000 bytes");
    expect(reasonOf(await inflate(encoding, compress(randomBytes(700_000)), mib, messages.open({})))).toBe(
      "OVERLOADED",
    );
    held.close();
    expect(reasonOf(await inflate(encoding, compress(randomBytes(500_000)), mib, messages.open({})))).toBe(
      "500000 bytes",
    );
  });
});
