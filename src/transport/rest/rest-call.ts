import { promisify } from "node:util";
import { gzip } from "node:zlib";
import { type DescMethodUnary, type Message, toJsonString } from "@bufbuild/protobuf";
import { invalid, Refusal } from "../../domain/refusal.js";
import type { AdmittedRequest } from "../connect/admitted.js";
import { readBody } from "../connect/connect-message.js";
import { acceptsGzip, isGone, type NodeResponse, wrongTimeout } from "../connect/node-request.js";
import { Failure } from "../error-table.js";
import type { MaybePromise } from "../messages/decode.js";
import { jsonOfLarge, largeList } from "../messages/encode-answer.js";
import { inflate } from "../messages/inflate.js";
import { held } from "../messages/large-messages.js";
import type { IncomingCall } from "../pipeline.js";
import { certificateOf } from "../tls/client-certificate.js";
import { jsonType, type RestAnswer, restFailure, restRefusal } from "./rest-answer.js";
import { readRest } from "./rest-message.js";
import type { Match, OtherMethods } from "./rest-routes.js";

/** A method and its parameters have a tenth of it. */
const maxUrlBytes = 8 * 1024;
/** A shorter answer is not compressed; Connect has the same bound. */
const minCompressedBytes = 1024;

/** Serves one request that was let in. Rejects when it cannot be answered. */
export async function callRest(match: Match, { request, response, admitted, place }: AdmittedRequest): Promise<void> {
  const { route } = match;
  const { headers } = request;
  const wrong = wrongTimeout(headers);
  const body = await readBody(request, route.maxMessageBytes, place);
  admitted.arriving.arrived();
  if (isGone(request, response)) return;
  const encoding = headers["content-encoding"] ?? "identity";
  const foreign = foreignBody(headers["content-type"], encoding);
  if (foreign && !(body instanceof Refusal) && body.length > 0) {
    send(response, foreign);
    return;
  }
  const read = (bytes: Uint8Array | Refusal) => {
    if (bytes instanceof Refusal) return bytes;
    return wrong ? invalid(wrong) : readRest(match, bytes, route);
  };
  const call: IncomingCall = {
    frontEnd: "rest",
    header: (name) => {
      const value = headers[name];
      return Array.isArray(value) ? value.join(", ") : value;
    },
    certificate: () => certificateOf(admitted.connection),
    ...{ deadlineMs: admitted.deadlineMs, permit: admitted.permit },
    decode: () =>
      body instanceof Refusal || encoding === "identity" || body.length === 0
        ? read(body)
        : inflate("gzip", body, route.maxMessageBytes, place.large).then(read),
  };
  admitted.isHandedOn = true;
  const { method } = match.binding;
  const answer = await route.invoke(call, (message) => held(method, jsonOf(method, message), place.large));
  if (isGone(request, response)) return;
  if (call.requestId) response.setHeader("x-request-id", call.requestId);
  if (answer instanceof Failure) {
    send(response, restFailure(answer), request.method);
    return;
  }
  const isCompressed = answer.length >= minCompressedBytes && acceptsGzip(headers["accept-encoding"]);
  const bytes = isCompressed ? await promisify(gzip)(answer) : answer;
  send(
    response,
    { status: 200, headers: { ...jsonType, ...(isCompressed && { "content-encoding": "gzip" }) }, body: bytes },
    request.method,
  );
}

function jsonOf(method: DescMethodUnary, message: Message): MaybePromise<Buffer> {
  const large = largeList(method.output, message);
  if (large) return jsonOfLarge(method.output, message, large);
  return Buffer.from(toJsonString(method.output, message));
}

function foreignBody(type = "", encoding: string): RestAnswer | undefined {
  if (!/^application\/json\s*(;|$)/i.test(type)) {
    return restRefusal(415, 'A body is JSON: send it with the header "content-type: application/json".');
  }
  if (encoding === "identity" || encoding === "gzip") return undefined;
  return restRefusal(415, 'A body may be compressed with "content-encoding: gzip" alone.', {
    "accept-encoding": "gzip",
  });
}

/** What is told of a path that is none, and what of one that is, but not with this method. */
export function nothingThere(path: string, found: OtherMethods | undefined): RestAnswer {
  if (path.length > maxUrlBytes) return tooLong;
  if (!found) return restRefusal(404, "There is nothing here: /openapi.json has all paths, /docs shows them.");
  const allow = found.allowed.join(", ");
  return restRefusal(405, `This path is served with ${allow}: see /openapi.json or /docs.`, { allow });
}

const tooLong = restRefusal(414, `The path and its query have more than ${maxUrlBytes} bytes.`);

export function isTooLong(url: string): boolean {
  return url.length > maxUrlBytes;
}

export function send(
  response: NodeResponse,
  { status, headers, body }: { status: number; headers: RestAnswer["headers"]; body: string | Buffer },
  method?: string,
): void {
  const bytes = typeof body === "string" ? Buffer.from(body) : body;
  response.writeHead(status, { ...headers, "content-length": String(bytes.length) });
  if (method === "HEAD") response.end();
  else response.end(bytes);
}
