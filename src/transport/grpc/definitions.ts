import type { DescMethod, DescService } from "@bufbuild/protobuf";
import type * as grpc from "@grpc/grpc-js";

const same = (bytes: Buffer) => bytes;

/** Bytes go in and out: messages are decoded in the pipeline, so that its errors are the contract's and not grpc-js'. */
export function serviceDefinition(service: DescService): grpc.ServiceDefinition {
  return Object.fromEntries(service.methods.map((method) => [method.name, methodDefinition(method, false)]));
}

/** `isStream`: as one that streams both ways. On the wire a single message is a stream of one. */
export function methodDefinition(
  { name, parent }: DescMethod,
  isStream: boolean,
): grpc.MethodDefinition<Buffer, Buffer> {
  return {
    path: `/${parent.typeName}/${name}`,
    requestStream: isStream,
    responseStream: isStream,
    requestSerialize: same,
    requestDeserialize: same,
    responseSerialize: same,
    responseDeserialize: same,
  };
}
