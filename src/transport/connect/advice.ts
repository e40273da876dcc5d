import type { UniversalHandler, UniversalServerResponse } from "@connectrpc/connect/protocol";

/** connect-node answers these with a status and nothing else; people at a console want to know what to do. */
export function withAdvice(
  answer: UniversalServerResponse,
  { requestPath, allowedMethods }: Pick<UniversalHandler, "requestPath" | "allowedMethods">,
  method: string,
): UniversalServerResponse {
  if (answer.status !== 405 && answer.status !== 415) return answer;
  const canGet = allowedMethods.includes("GET");
  const post = `POST ${requestPath} with the header "content-type: application/json" and the request as JSON`;
  const get = `GET ${requestPath}?connect=v1&encoding=json&message={...}`;
  const what =
    answer.status === 405
      ? `The method ${method} is not served here.`
      : method === "GET"
        ? "What this GET asks for is not in its query."
        : "This content type is not served here.";
  const others =
    answer.status === 415 ? " Binary: application/proto, application/grpc or application/grpc-web+proto." : "";
  const text = `${what} Send ${post}${canGet ? `, or ${get}` : ""}.${others}\n`;
  const header = new Headers(answer.header);
  header.set("content-type", "text/plain");
  if (answer.status === 405) header.set("allow", allowedMethods.join(", "));
  return { ...answer, header, body: once(Buffer.from(text)) };
}

async function* once(bytes: Uint8Array): AsyncIterable<Uint8Array> {
  yield bytes;
}
