import type { DescMethod } from "@bufbuild/protobuf";
import { createContextKey, createContextValues } from "@connectrpc/connect";
import type { UniversalHandler, UniversalServerRequest } from "@connectrpc/connect/protocol";
import { Refusal } from "../../domain/refusal.js";
import { type MaybePromise, readBinary, readJson } from "../messages/decode.js";
import { inflate, unknownFlags } from "../messages/inflate.js";
import type { LargeMessage } from "../messages/large-messages.js";
import type { MessageBounds } from "../messages/message-bounds.js";

/**
 * Reads the message that the pipeline will ask for. connect-node would decode it before any of our code runs, and
 * answer broken bytes with INTERNAL; so it gets an empty message, and the pipeline decodes the real one.
 */
export const decodeKey = createContextKey<((method: DescMethod) => MaybePromise<unknown | Refusal>) | null>(null);

/** A method as it is mounted. */
export interface Mounted extends MessageBounds {
  readonly handler: UniversalHandler;
}

/** The place where a message arrives. */
export interface Arriving {
  readonly large: LargeMessage;
  /** Resolves when it has taken too long. */
  readonly late: Promise<"late">;
  /** Called when what follows of the request will not be read. */
  abandon(): void;
}

const envelopeBytes = 5;
/** A longer body is not read to its end: the connection is cut. */
const maxDiscardedBytes = 16 * 1024 * 1024;

/** Replaces the message by an empty one, also in the headers of the request, and keeps the real one for the pipeline. */
export async function takeMessage(
  mounted: Mounted,
  request: UniversalServerRequest,
  arriving: Arriving,
): Promise<UniversalServerRequest> {
  const { handler, maxMessageBytes } = mounted;
  const isGet = request.method === "GET";
  const query = new URL(request.url).searchParams;
  const type = isGet
    ? `application/${query.get("encoding")}`
    : (request.header.get("content-type") ?? "").toLowerCase();
  const known = isGet
    ? type === "application/json" || type === "application/proto"
    : handler.supportedContentType(type);
  // connect-node answers these by their headers alone.
  if (!known || !handler.allowedMethods.includes(request.method)) return { ...request, body: nothing() };
  const isStream = type.startsWith("application/connect+");
  const enveloped = isStream || type.startsWith("application/grpc");
  const json = type.includes("json");

  const encodingHeader = isStream ? "connect-content-encoding" : enveloped ? "grpc-encoding" : "content-encoding";
  const encoding = (isGet ? query.get("compression") : request.header.get(encodingHeader)) || "identity";
  const body = isGet
    ? Buffer.from(query.get("message") ?? "", query.get("base64") === "1" ? "base64url" : "utf8")
    : await readBody(request.body as AsyncIterable<Uint8Array>, maxMessageBytes + envelopeBytes, arriving);
  const packed = body instanceof Refusal ? body : open(body, enveloped, encoding);
  const empty = Buffer.from(json ? "{}" : "");
  if (packed === "foreign") return foreign(request, body as Uint8Array, enveloped, empty);

  const read = (method: DescMethod, message: Uint8Array | Refusal) => {
    if (message instanceof Refusal) return message;
    if (message.length > maxMessageBytes) return new Refusal("MESSAGE_TOO_LARGE");
    return json ? readJson(method.input, message, mounted) : readBinary(method.input, message, mounted);
  };
  const decode = (method: DescMethod) => {
    if (packed instanceof Refusal || !packed.isCompressed)
      return read(method, packed instanceof Refusal ? packed : packed.bytes);
    const inflated = inflate("gzip", packed.bytes, maxMessageBytes, arriving.large);
    return inflated.then((message) => read(method, message));
  };
  const contextValues = (request.contextValues ?? createContextValues()).set(decodeKey, decode);
  if (isGet) return { ...withEmptyQuery(request, empty), contextValues };
  request.header.delete("content-encoding");
  request.header.delete("content-length");
  return { ...request, body: once(enveloped ? envelope(empty) : empty), contextValues };
}

interface Packed {
  readonly bytes: Uint8Array;
  readonly isCompressed: boolean;
}

/** What is in the body; "foreign": an encoding that is not ours, or a broken envelope. */
function open(body: Uint8Array, enveloped: boolean, encoding: string): Packed | Refusal | "foreign" {
  const flag = enveloped ? (body[0] ?? -1) : encoding === "identity" ? 0 : 1;
  const bytes = enveloped ? body.subarray(envelopeBytes) : body;
  if (enveloped && announced(body) !== bytes.length) return "foreign";
  if (flag > 1) return unknownFlags;
  return flag === 1 && encoding !== "gzip" ? "foreign" : { bytes, isCompressed: flag === 1 };
}

/** The length that an envelope's head tells; -1: there is no head. */
function announced(body: Uint8Array): number {
  return body.length < envelopeBytes ? -1 : Buffer.from(body.buffer, body.byteOffset, envelopeBytes).readUInt32BE(1);
}

/**
 * For connect-node, which knows what to answer: the same mistakes, but nothing in it that could be decoded on the way.
 */
function foreign(
  request: UniversalServerRequest,
  body: Uint8Array,
  enveloped: boolean,
  empty: Buffer,
): UniversalServerRequest {
  if (request.method === "GET") return withEmptyQuery(request, empty);
  request.header.delete("content-length");
  if (!enveloped) return { ...request, body: once(empty) };
  const left = body.length - envelopeBytes;
  if (left < 0) return { ...request, body: once(body) };
  // A head that promises more than there is, or one message too many.
  const length = announced(body);
  const bodies = left < length ? [body.subarray(0, envelopeBytes)] : [envelope(empty, body[0])];
  if (left > length) bodies.push(envelope(empty));
  return { ...request, body: once(Buffer.concat(bodies)) };
}

function withEmptyQuery(request: UniversalServerRequest, empty: Buffer): UniversalServerRequest {
  const url = new URL(request.url);
  const isKnown = (url.searchParams.get("compression") ?? "gzip") === "gzip";
  url.searchParams.set("message", empty.toString());
  for (const name of isKnown ? ["base64", "compression"] : ["base64"]) url.searchParams.delete(name);
  return { ...request, url: url.href };
}

function envelope(bytes: Uint8Array, flag = 0): Buffer {
  return Buffer.concat([Uint8Array.of(flag, 0, 0, 0, bytes.length), bytes]);
}

/** The whole body, or why there is none; then the rest is read, up to a bound, and thrown away. */
export async function readBody(
  body: AsyncIterable<Uint8Array>,
  limitBytes: number,
  { large, late, abandon }: Arriving,
): Promise<Uint8Array | Refusal> {
  let chunks: Uint8Array[] = [];
  let bytes = 0;
  let refusal: Refusal | undefined;
  const iterator = body[Symbol.asyncIterator]();
  for (;;) {
    const next = iterator.next();
    const result = await Promise.race([next, late]);
    if (result === "late") {
      next.catch(() => {});
      abandon();
      return new Refusal("DEADLINE_EXCEEDED");
    }
    if (result.done) return refusal ?? Buffer.concat(chunks);
    bytes += result.value.byteLength;
    if (bytes > limitBytes) refusal ??= new Refusal("MESSAGE_TOO_LARGE");
    else if (!large.add(result.value.byteLength)) refusal ??= new Refusal("OVERLOADED");
    if (refusal) chunks = [];
    else chunks.push(result.value);
    if (refusal && bytes > maxDiscardedBytes) {
      abandon();
      return refusal;
    }
  }
}

async function* once(bytes: Uint8Array): AsyncIterable<Uint8Array> {
  if (bytes.length > 0) yield bytes;
}

async function* nothing(): AsyncIterable<Uint8Array> {}
