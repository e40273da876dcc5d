import type { DescFile, DescService } from "@bufbuild/protobuf";
import { toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import type * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import type { ReflectionService } from "@grpc/reflection";
import { protoPath as healthProtoPath } from "grpc-health-check";
import { file_coupon_v1_error_reason } from "../../../gen/coupon/v1/error_reason_pb.js";
import { file_google_rpc_error_details } from "../../../gen/google/rpc/error_details_pb.js";

/** Bytes go in and out: messages are decoded in the pipeline, so that its errors are the contract's and not grpc-js'. */
export function serviceDefinition(service: DescService): grpc.ServiceDefinition {
  const same = (bytes: Buffer) => bytes;
  return Object.fromEntries(
    service.methods.map((method) => [
      method.name,
      {
        path: `/${service.typeName}/${method.name}`,
        requestStream: false,
        responseStream: method.methodKind === "server_streaming",
        requestSerialize: same,
        requestDeserialize: same,
        responseSerialize: same,
        responseDeserialize: same,
      },
    ]),
  );
}

/** What the reflection service reads its files from. */
export function packageDefinition(
  definitions: Record<string, grpc.ServiceDefinition>,
  services: readonly DescService[],
) {
  const files = new Map<string, Buffer>();
  const add = (file: DescFile) => {
    if (files.has(file.proto.name)) return;
    files.set(file.proto.name, Buffer.from(toBinary(FileDescriptorProtoSchema, file.proto)));
    file.dependencies.forEach(add);
  };
  for (const service of services) add(service.file);
  // No service file refers to these two, but clients want to read the details of an error.
  add(file_coupon_v1_error_reason);
  add(file_google_rpc_error_details);
  const fileDescriptorProtos = [...files.values()];
  return {
    ...loadSync(healthProtoPath),
    ...definitions,
    "coupon.v1": { format: "Protocol Buffer 3 DescriptorProto", type: {}, fileDescriptorProtos },
  } as ConstructorParameters<typeof ReflectionService>[0];
}
