import type { UniversalHandler, UniversalServerResponse } from "@connectrpc/connect/protocol";

/** connect-node answers these with a status and nothing else; people at a console want to know what to do. */
export function withAdvice(
  answer: UniversalServerResponse,
  handler: Pick<UniversalHandler, "method" | "requestPath" | "allowedMethods">,
  verb: string,
): UniversalServerResponse {
  if (answer.status !== 405 && answer.status !== 415) return answer;
  const isStream = handler.method.methodKind !== "unary";
  const status = isStream && verb !== "POST" ? 405 : answer.status;
  const header = new Headers(answer.header);
  header.set("content-type", "text/plain");
  if (status === 405) header.set("allow", isStream ? "POST" : handler.allowedMethods.join(", "));
  const what =
    status === 405
      ? `The method ${verb} is not served here.`
      : verb === "GET"
        ? "What this GET asks for is not in its query."
        : "This content type is not served here.";
  const text = `${what} ${isStream ? forStream(handler) : forMessage(handler)}`;
  return {
    ...answer,
    status,
    header,
    body: once(Buffer.from(`${text}${status === 415 ? binaryTypes(isStream) : ""}\n`)),
  };
}

function forMessage({ requestPath, allowedMethods }: Pick<UniversalHandler, "requestPath" | "allowedMethods">): string {
  const get = allowedMethods.includes("GET") ? `, or GET ${requestPath}?connect=v1&encoding=json&message={...}` : "";
  return `Send POST ${requestPath} with the header "content-type: application/json" and the request as JSON${get}.`;
}

/** Its messages are in envelopes, which nobody writes by hand. */
function forStream({ requestPath }: Pick<UniversalHandler, "requestPath">): string {
  return `This is a stream: call POST ${requestPath} with a client of gRPC, gRPC-Web or Connect ("content-type: application/connect+json").`;
}

function binaryTypes(isStream: boolean): string {
  return ` Binary: ${isStream ? "application/connect+proto" : "application/proto"}, application/grpc or application/grpc-web+proto.`;
}

async function* once(bytes: Uint8Array): AsyncIterable<Uint8Array> {
  yield bytes;
}
