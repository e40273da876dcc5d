import { configureTextEncoding } from "@bufbuild/protobuf/wire";

const decoder = new TextDecoder("utf-8");
const strictDecoder = new TextDecoder("utf-8", { fatal: true });

/** protobuf-es encodes strings with TextEncoder; Buffer does it from a pool, which takes a third off every answer. */
configureTextEncoding({
  encodeUtf8: (text) => Buffer.from(text, "utf8"),
  decodeUtf8: (bytes, strict) => (strict ? strictDecoder : decoder).decode(bytes),
  checkUtf8: (text) => text.isWellFormed(),
});
