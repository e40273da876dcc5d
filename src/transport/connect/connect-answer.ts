import { promisify } from "node:util";
import { gzip } from "node:zlib";
import { create, type DescMethod } from "@bufbuild/protobuf";
import { createContextKey, type HandlerContext } from "@connectrpc/connect";
import type { UniversalServerResponse } from "@connectrpc/connect/protocol";
import { encodeLarge, jsonOfLarge, largeList } from "../messages/encode-answer.js";
import { hold, type LargeMessage } from "../messages/large-messages.js";
import { acceptsGzip } from "./node-request.js";

/** The bytes of a large answer. connect-node would write it at once; so it gets an empty one. */
export const answerKey = createContextKey<Buffer | null>(null);

/** Writes a large answer in slices, keeps its bytes, and gives the empty answer for connect-node; undefined: it is small. */
export function keepLarge(
  method: DescMethod,
  answer: object,
  context: HandlerContext,
  memory: LargeMessage,
): Promise<object> | undefined {
  const large = largeList(method.output, answer);
  if (!large) return undefined;
  const isJson = (context.responseHeader.get("content-type") ?? "").includes("json");
  const write = isJson ? jsonOfLarge : encodeLarge;
  return write(method.output, answer as never, large).then((bytes) => {
    hold(method, bytes.length, memory);
    context.values.set(answerKey, bytes);
    return create(method.output);
  });
}

/** Puts the bytes that were kept in the place of the empty answer. */
export async function withKept(
  response: UniversalServerResponse,
  bytes: Buffer,
  acceptEncoding: string | null,
): Promise<UniversalServerResponse> {
  const header = new Headers(response.header);
  const isEnveloped = (header.get("content-type") ?? "").startsWith("application/grpc");
  const isCompressed = isEnveloped ? header.get("grpc-encoding") === "gzip" : acceptsGzip(acceptEncoding);
  // Outside of the event loop.
  const message = isCompressed ? await promisify(gzip)(bytes) : bytes;
  if (isEnveloped)
    return { ...response, header, body: afterFirst(response.body, envelopeHead(message, isCompressed), message) };
  if (isCompressed) header.set("content-encoding", "gzip");
  header.set("content-length", String(message.length));
  return { ...response, header, body: afterFirst(undefined, message) };
}

function envelopeHead(message: Buffer, isCompressed: boolean): Buffer {
  const head = Buffer.alloc(5);
  head[0] = isCompressed ? 1 : 0;
  head.writeUInt32BE(message.length, 1);
  return head;
}

/** In the place of the first piece, which is the envelope of the empty answer. */
async function* afterFirst(body: UniversalServerResponse["body"], ...pieces: Buffer[]): AsyncIterable<Uint8Array> {
  yield* pieces;
  if (!body) return;
  let isFirst = true;
  for await (const piece of body) {
    if (!isFirst) yield piece;
    isFirst = false;
  }
}
