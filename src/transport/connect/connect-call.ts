import { create, type DescMethodServerStreaming, type DescMethodUnary } from "@bufbuild/protobuf";
import {
  type Code as ConnectCode,
  ConnectError,
  type ConnectRouter,
  createContextKey,
  createContextValues,
  type HandlerContext,
} from "@connectrpc/connect";
import type { UniversalServerRequest } from "@connectrpc/connect/protocol";
import { universalRequestFromNodeRequest, universalResponseToNodeResponse } from "@connectrpc/connect-node";
import { invalid } from "../../domain/refusal.js";
import type { ClientPace } from "../client-pace.js";
import { Code, Failure } from "../error-table.js";
import { encode } from "../messages/encode.js";
import { hold, type LargeMessage } from "../messages/large-messages.js";
import type { IncomingCall } from "../pipeline.js";
import type { Route } from "../routes.js";
import { certificateOf } from "../tls/client-certificate.js";
import type { Admitted, AdmittedRequest } from "./admitted.js";
import { withAdvice } from "./advice.js";
import { answerKey, keepLarge, withKept } from "./connect-answer.js";
import { decodeKey, type Mounted, takeMessage } from "./connect-message.js";
import { messagesOf } from "./connect-stream.js";
import { answerPlain, challenge, isGone, takeParameters, takeTimeout, wrongTimeout } from "./node-request.js";

/** What its messages occupy. */
const largeKey = createContextKey<LargeMessage | null>(null);

/** The call, admitted. */
const admittedKey = createContextKey<Admitted | null>(null);

/** Has the router call the pipeline for a method. */
export function mount(router: ConnectRouter, route: Route, pace: ClientPace): void {
  const { method } = route;
  if (method.methodKind === "unary")
    router.rpc(method as DescMethodUnary, (request, context) => serve(route, request, context) as never);
  else
    router.rpc(
      method as DescMethodServerStreaming,
      (request, context) => serveStream(route, request, context, pace) as never,
    );
}

/** Answers a call of the Connect protocol, of gRPC-Web or of gRPC. */
export async function callConnect(
  mounted: Mounted,
  { request, response, admitted, place }: AdmittedRequest,
): Promise<void> {
  let universal: UniversalServerRequest;
  try {
    universal = universalRequestFromNodeRequest(request, response, undefined, createContextValues());
  } catch {
    // It makes a URL of the host and the path.
    answerPlain(response, 400, "the host or the path is none\n");
    return;
  }
  const wrong = wrongTimeout(request.headers);
  takeTimeout(universal.header);
  takeParameters(universal.header);
  const taken = await takeMessage(mounted, universal, place);
  admitted.arriving.arrived();
  if (isGone(request, response)) return;
  taken.contextValues?.set(admittedKey, admitted).set(largeKey, place.large);
  if (wrong) taken.contextValues?.set(decodeKey, () => invalid(wrong));
  const answer = withAdvice(await mounted.handler(taken), mounted.handler, universal.method);
  const kept = taken.contextValues?.get(answerKey);
  const whole = kept ? await withKept(answer, kept, universal.header.get("accept-encoding")) : answer;
  await universalResponseToNodeResponse(whole, response);
}

async function serve({ method, invoke }: Route, request: unknown, context: HandlerContext): Promise<unknown> {
  const call = incomingCall(method, request, context);
  const large = context.values.get(largeKey) as LargeMessage;
  const answer = await invoke(call, (one) => {
    const kept = keepLarge(method, one, context, large);
    // Of what connect-node writes itself the bytes are not known yet. In JSON they are some more.
    if (!kept) hold(method, encode(method.output, one).length, large);
    return kept ?? one;
  });
  if (call.requestId) context.responseHeader.set("x-request-id", call.requestId);
  if (answer instanceof Failure) throw errorOf(answer);
  return answer;
}

async function* serveStream(
  { method, invoke }: Route,
  request: unknown,
  context: HandlerContext,
  pace: ClientPace,
): AsyncIterable<unknown> {
  const { arriving, connection } = context.values.get(admittedKey) as Admitted;
  const call = { ...incomingCall(method, request, context), signal: context.signal };
  const onBegun = () => {
    if (call.requestId) context.responseHeader.set("x-request-id", call.requestId);
  };
  const failure = yield* messagesOf(invoke, call, pace, onBegun, () => {
    if (connection && "destroySoon" in connection) connection.destroy();
    else arriving.abandon();
  });
  if (failure) throw errorOf(failure);
}

function incomingCall(method: Route["method"], request: unknown, context: HandlerContext): IncomingCall {
  const decode = context.values.get(decodeKey);
  const admitted = context.values.get(admittedKey) as Admitted;
  admitted.isHandedOn = true;
  return {
    frontEnd: "connect",
    header: (name) => context.requestHeader.get(name) ?? undefined,
    certificate: () => certificateOf(admitted.connection),
    deadlineMs: admitted.deadlineMs,
    permit: admitted.permit,
    decode: () => (decode ? decode(method) : request),
  };
}

function errorOf(answer: Failure): ConnectError {
  return new ConnectError(
    answer.message,
    answer.code as number as ConnectCode,
    answer.code === Code.unauthenticated ? challenge : undefined,
    answer.details.map(({ desc, value }) => ({ desc, value: create(desc, value as never) })),
  );
}
