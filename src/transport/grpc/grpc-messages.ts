import { constants, type IncomingHttpHeaders, type ServerHttp2Stream } from "node:http2";
import { invalid, Refusal } from "../../domain/refusal.js";
import { type MaybePromise, readBinary } from "../messages/decode.js";
import { type Encoding, inflate, isEncoding, unknownFlags } from "../messages/inflate.js";
import { held, type LargeMessage, type LargeMessages } from "../messages/large-messages.js";
import type { ArrivingStream } from "../overload/arriving-stream.js";
import { wrongGrpcTimeout } from "../overload/grpc-timeout.js";
import type { Route } from "../routes.js";

/**
 * What health checks and reflection may send in a stream: grpc-js inflates their messages, and protobufjs decodes them at
 * once. What is compressed becomes half a mebibyte at most.
 */
const otherBytes = 64 * 1024;
const otherCompressedBytes = 512;

/** The message of one call. */
export interface GrpcMessage {
  /** The request, from the bytes that grpc-js hands over. */
  read(route: Route, bytes: Buffer): MaybePromise<unknown | Refusal>;
  /** Its answer is going to be sent. Throws when there is no memory for it. */
  hold(route: Pick<Route, "method">, answer: MaybePromise<Buffer>): MaybePromise<Buffer>;
  /** Its stream is closed. */
  close(): void;
}

/**
 * Messages on their way to grpc-js. It knows one largest message for all methods and inflates up to that by itself: so we see
 * each stream first, keep its encoding to ourselves, and inflate what grpc-js hands over.
 */
export class GrpcMessages {
  constructor(private readonly largeMessages: LargeMessages) {}

  /** Called before grpc-js sees the stream. The encoding is taken out of the headers: what it does not see, it leaves alone. */
  open({ stream, headers }: ArrivingStream): GrpcMessage {
    const encoding = (headers["grpc-encoding"] as string | undefined) ?? "identity";
    // An unknown one is refused by grpc-js.
    const ours = isEncoding(encoding) ? encoding : undefined;
    if (ours) delete headers["grpc-encoding"];
    const wrong = wrongGrpcTimeout(headers["grpc-timeout"] as string | undefined);
    const large = this.largeMessages.open(stream.session ?? stream);
    let flags = 0;
    let isFirst = true;
    stream.on("data", (chunk: Buffer) => {
      // Each message says in its first byte whether it is compressed.
      if (isFirst) flags = chunk[0] ?? 0;
      isFirst = false;
      if (!large.add(chunk.length)) stream.close(constants.NGHTTP2_REFUSED_STREAM);
    });
    return {
      close: () => large.close(),
      hold: ({ method }, answer) => held(method, answer, large),
      read: (route, bytes) => {
        if (wrong) return invalid(wrong);
        if (flags > 1) return unknownFlags;
        if (ours && flags === 1) return readEncoded(route, bytes, ours, large);
        if (bytes.length > route.maxMessageBytes) return new Refusal("MESSAGE_TOO_LARGE");
        return readBinary(route.method.input, bytes, route);
      },
    };
  }
}

async function readEncoded(route: Route, bytes: Buffer, encoding: Encoding, large: LargeMessage): Promise<unknown> {
  const message = await inflate(encoding, bytes, route.maxMessageBytes, large);
  return message instanceof Refusal ? message : readBinary(route.method.input, message, route);
}

/** Bounds what a stream brings whose messages are none of ours. */
export function boundOther(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
  const isPlain = (headers["grpc-encoding"] ?? "identity") === "identity";
  const limitBytes = isPlain ? otherBytes : otherCompressedBytes;
  let bytes = 0;
  stream.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > limitBytes) stream.close(constants.NGHTTP2_REFUSED_STREAM);
  });
}
