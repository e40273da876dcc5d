import { configureTextEncoding } from "@bufbuild/protobuf/wire";

// A byte order mark at the beginning is part of the text: without `ignoreBOM`, which keeps it, two users would be one.
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
const strictDecoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** protobuf-es encodes strings with TextEncoder; Buffer does it from a pool, which takes a third off every answer. */
configureTextEncoding({
  encodeUtf8: (text) => Buffer.from(text, "utf8"),
  decodeUtf8: (bytes, strict) => (strict ? strictDecoder : decoder).decode(bytes),
  checkUtf8: (text) => text.isWellFormed(),
});
