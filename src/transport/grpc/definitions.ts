import type { DescMethod, DescService } from "@bufbuild/protobuf";
import type * as grpc from "@grpc/grpc-js";

const same = (bytes: Buffer) => bytes;

/** Bytes go in and out: messages are decoded in the pipeline, so that its errors are the contract's and not grpc-js'. */
export function serviceDefinition(service: DescService): grpc.ServiceDefinition {
  return Object.fromEntries(
    service.methods.map((method) => [
      method.name,
      methodDefinition(method, { request: false, response: method.methodKind === "server_streaming" }),
    ]),
  );
}

/** On the wire a single message is a stream of one. */
export function methodDefinition(
  { name, parent }: DescMethod,
  isStream: { readonly request: boolean; readonly response: boolean },
): grpc.MethodDefinition<Buffer, Buffer> {
  return {
    path: `/${parent.typeName}/${name}`,
    requestStream: isStream.request,
    responseStream: isStream.response,
    requestSerialize: same,
    requestDeserialize: same,
    responseSerialize: same,
    responseDeserialize: same,
  };
}
