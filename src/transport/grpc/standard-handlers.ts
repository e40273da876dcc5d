import { once } from "node:events";
import { create, type DescMessage, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type * as grpc from "@grpc/grpc-js";
import {
  maxStandardMessageBytes,
  type Standard,
  type StandardCalls,
  type StandardMethod,
} from "../standard/standard-method.js";
import { methodDefinition } from "./definitions.js";

type Call = grpc.ServerDuplexStream<Buffer, Buffer>;

/** Adds the methods of gRPC's own services to a server of grpc-js. */
export function addStandardMethods(server: grpc.Server, { methods, calls }: Standard): void {
  for (const one of methods) {
    const { name } = one.method;
    const handler = (call: Call) => void serve(one, call, calls);
    server.addService({ [name]: methodDefinition(one.method, { request: true, response: true }) }, { [name]: handler });
  }
}

async function serve(one: StandardMethod, call: Call, calls: StandardCalls): Promise<void> {
  const { input, output } = one.method;
  const left = new AbortController();
  const leave = () => left.abort(new ConnectError("the caller has gone", Code.Canceled));
  call.once("cancelled", leave);
  try {
    for await (const answer of calls.run(one, messages(input, call), left.signal, call.getPeer())) {
      const bytes = Buffer.from(toBinary(output, create(output, answer as never)));
      if (!call.write(bytes)) await once(call, "drain", { signal: left.signal });
    }
    call.end();
  } catch (error) {
    if (left.signal.aborted) return;
    const { code, rawMessage } = ConnectError.from(error);
    call.emit("error", { code: code as number as grpc.status, details: rawMessage });
  }
}

async function* messages(desc: DescMessage, call: Call): AsyncIterable<object> {
  // Left before its end, it would be destroyed, and nothing could be answered any more.
  for await (const bytes of call.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    if (bytes.length > maxStandardMessageBytes)
      throw new ConnectError("the message is too large", Code.ResourceExhausted);
    yield decoded(desc, bytes);
  }
}

function decoded(desc: DescMessage, bytes: Buffer): object {
  try {
    return fromBinary(desc, bytes);
  } catch {
    throw new ConnectError("the message could not be read", Code.InvalidArgument);
  }
}
