import { createGunzip, createInflate } from "node:zlib";
import { invalid, Refusal } from "../../domain/refusal.js";
import type { LargeMessage } from "./large-messages.js";

export type Encoding = "gzip" | "deflate";

/**
 * What inflates to more than so many times its length is refused, unless it is a small message. 1,000 coupons that are the
 * same come to 200 times, 50,000 lines with the same code to 480, other honest messages to 3 to 150; what is made of
 * nothing but a few bytes over and over, to 1,030.
 */
const maxFactor = 512;
/** As long as an ordinary message may be: up to here the factor does not matter. */
const freeBytes = 64 * 1024;
/** Nor does it matter of what comes to this much more than the bytes read so far may: a part of a message may be dense. */
const denseBytes = 256 * 1024;
/** What zlib hands over at once. */
const chunkBytes = 64 * 1024;

export function isEncoding(name: string): name is Encoding {
  return name === "gzip" || name === "deflate";
}

/** Outside of the event loop, and no further than it may become. What is inflated counts as occupied from then on. */
export function inflate(
  encoding: Encoding,
  bytes: Uint8Array,
  limitBytes: number,
  large: LargeMessage,
): Promise<Uint8Array | Refusal> {
  const byFactor = Math.max(freeBytes, bytes.length * maxFactor);
  const maxBytes = Math.min(limitBytes, byFactor);
  const options = { chunkSize: Math.min(chunkBytes, Math.max(1_024, maxBytes)) };
  const stream = encoding === "gzip" ? createGunzip(options) : createInflate(options);
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let length = 0;
    const end = (answer: Uint8Array | Refusal) => {
      stream.destroy();
      resolve(answer);
    };
    stream.on("data", (chunk: Buffer) => {
      length += chunk.length;
      if (length > maxBytes) end(limitBytes <= byFactor ? new Refusal("MESSAGE_TOO_LARGE") : tooDense());
      else if (length > denseBytes + stream.bytesWritten * maxFactor) end(tooDense());
      else if (!large.add(chunk.length)) end(new Refusal("OVERLOADED"));
      else chunks.push(chunk);
    });
    stream.on("end", () => end(Buffer.concat(chunks)));
    stream.on("error", () =>
      end(invalid({ field: "", description: `the message is not ${encoding}, as it is said to be` })),
    );
    stream.end(bytes);
  });
}

/** Of the byte before a message in gRPC, gRPC-Web and the streams of Connect. */
export const unknownFlags = invalid({
  field: "",
  description: "the byte before the message must be 0, or 1 where it is compressed",
});

function tooDense(): Refusal {
  return new Refusal("MESSAGE_TOO_LARGE", [], `the message inflates to more than ${maxFactor} times its length`);
}
