import type { DescMethodBiDiStreaming, DescMethodServerStreaming, DescMethodUnary } from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  type ConnectRouter,
  createConnectRouter,
  createContextKey,
  createContextValues,
  type HandlerContext,
} from "@connectrpc/connect";
import type { UniversalHandler } from "@connectrpc/connect/protocol";
import {
  compressionGzip,
  universalRequestFromNodeRequest,
  universalResponseToNodeResponse,
} from "@connectrpc/connect-node";
import { steadyMs } from "../../platform/clock.js";
import {
  maxStandardMessageBytes,
  type Standard,
  type StandardCalls,
  type StandardMethod,
} from "../standard/standard-method.js";
import { withAdvice } from "./advice.js";
import {
  answerPlain,
  deadlineOf,
  type NodeRequest,
  type NodeResponse,
  takeTimeout,
  wrongTimeout,
} from "./node-request.js";

/** What its last message may take to be sent, after the call is over. */
const lastMs = 5_000;
/** For an answer to go out: a reset that follows it at once may overtake it. */
const answerMs = 1_000;
/** Node's timers are no longer, and one that is to be is over at once: whoever waits for longer waits as if for ever. */
const longestTimerMs = 2 ** 31 - 1;
const connectionKey = createContextKey("");

interface Mounted {
  readonly handler: UniversalHandler;
  readonly limitMs: number;
}

/** Serves the methods of gRPC's own services on the port of Connect, without a permit: as a page, not as a call. */
export class StandardHandlers {
  private readonly mounted = new Map<string, Mounted>();

  constructor({ methods, calls }: Standard) {
    for (const one of methods) {
      const options = { acceptCompression: [compressionGzip], readMaxBytes: maxStandardMessageBytes };
      const router = createConnectRouter(options);
      mount(router, one, calls);
      for (const handler of router.handlers) this.mounted.set(handler.requestPath, { handler, limitMs: one.limitMs });
    }
  }

  /** Answers undefined when the path is none of theirs. */
  serve(path: string, request: NodeRequest, response: NodeResponse): Promise<void> | undefined {
    const mounted = this.mounted.get(path);
    return mounted && answer(mounted, request, response);
  }
}

function mount(router: ConnectRouter, one: StandardMethod, calls: StandardCalls): void {
  const { method } = one;
  const run = (requests: AsyncIterable<unknown>, { signal, values }: HandlerContext) =>
    calls.run(one, requests, signal, values.get(connectionKey));
  switch (method.methodKind) {
    case "unary":
      router.rpc(method as DescMethodUnary, async (request, context) => {
        for await (const answer of run(once(request), context)) return answer as never;
        throw new ConnectError("there was no answer", Code.Internal);
      });
      break;
    case "server_streaming":
      router.rpc(method as DescMethodServerStreaming, (request, context) => run(once(request), context) as never);
      break;
    default:
      router.rpc(method as DescMethodBiDiStreaming, (requests, context) => run(requests, context) as never);
  }
}

async function answer({ handler, limitMs }: Mounted, request: NodeRequest, response: NodeResponse): Promise<void> {
  // Also of those that send nothing, or take nothing of what they are sent.
  const cut = limitMs === Number.POSITIVE_INFINITY ? undefined : setTimeout(() => request.destroy(), limitMs + lastMs);
  response.once("close", () => clearTimeout(cut));
  // What is still to come of one that was answered is thrown away, and soon not waited for. Over HTTP/1.1 Node does that.
  if ("stream" in request) {
    const { stream } = request;
    stream.once("finish", () => {
      stream.removeAllListeners("data");
      stream.resume();
      setTimeout(() => stream.close(), answerMs).unref();
    });
  }
  const { remoteAddress, remotePort } = request.socket;
  const values = createContextValues().set(connectionKey, `${remoteAddress}:${remotePort}`);
  let universal: ReturnType<typeof universalRequestFromNodeRequest>;
  try {
    universal = universalRequestFromNodeRequest(request, response, undefined, values);
  } catch {
    // It makes a URL of the host and the path.
    answerPlain(response, 400, "the host or the path is none\n");
    return;
  }
  // What is malformed connect-node refuses.
  const isLong = deadlineOf(request.headers) - steadyMs() > longestTimerMs;
  if (isLong && !wrongTimeout(request.headers)) takeTimeout(universal.header);
  await universalResponseToNodeResponse(withAdvice(await handler(universal), handler, universal.method), response);
}

async function* once<T>(message: T): AsyncIterable<T> {
  yield message;
}
