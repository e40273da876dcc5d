import type { DescFile, DescService, MessageInitShape } from "@bufbuild/protobuf";
import { toBinary } from "@bufbuild/protobuf";
import { nestedTypes } from "@bufbuild/protobuf/reflect";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import {
  type ServerReflectionRequest,
  type ServerReflectionResponseSchema,
  ServerReflection as v1,
} from "../../../gen/grpc/reflection/v1/reflection_pb.js";
import { ServerReflection as v1alpha } from "../../../gen/grpc/reflection/v1alpha/reflection_pb.js";
import type { StandardMethod } from "./standard-method.js";

type Response = Exclude<
  NonNullable<MessageInitShape<typeof ServerReflectionResponseSchema>["messageResponse"]>,
  { case: undefined }
>;

const limitMs = 60_000;

/** What is known of the contract: its files as they were written, with comments and options. */
export class Reflection {
  private readonly files = new Map<string, DescFile>();
  private readonly names: readonly string[];
  /** Made when somebody asks. */
  private index: Index | undefined;

  constructor(
    services: readonly DescService[],
    /** No service refers to them, but clients want to read the details of an error. */
    others: readonly DescFile[],
    /** The bytes of files, by their names. Of a file that is not among them there are no comments. */
    private readonly written: ReadonlyMap<string, Uint8Array>,
  ) {
    const all = [...services, v1, v1alpha];
    this.names = all.map(({ typeName }) => typeName).sort();
    const add = (file: DescFile) => {
      if (this.files.has(file.proto.name)) return;
      this.files.set(file.proto.name, file);
      file.dependencies.forEach(add);
    };
    for (const file of [...all.map((service) => service.file), ...others]) add(file);
  }

  /** The messages of both versions are the same. */
  get methods(): StandardMethod[] {
    return [v1, v1alpha].map((service) => ({
      method: service.method.serverReflectionInfo,
      limitMs,
      answer: (requests) => this.answer(requests),
    }));
  }

  private async *answer(requests: AsyncIterable<ServerReflectionRequest>) {
    const sent = new Set<DescFile>();
    for await (const request of requests) {
      const messageResponse = this.responseTo(request.messageRequest, sent);
      yield { validHost: request.host, originalRequest: request, messageResponse };
    }
  }

  private responseTo({ case: what, value }: ServerReflectionRequest["messageRequest"], sent: Set<DescFile>): Response {
    this.index ??= indexOf([...this.files.values()]);
    switch (what) {
      case "listServices":
        return { case: "listServicesResponse", value: { service: this.names.map((name) => ({ name })) } };
      case "fileByFilename":
        return this.withFile(this.files.get(value), sent);
      case "fileContainingSymbol":
        return this.withFile(this.index.symbols.get(value), sent);
      case "fileContainingExtension":
        return this.withFile(this.index.extensions.get(value.containingType)?.get(value.extensionNumber), sent);
      case "allExtensionNumbersOfType": {
        const known = this.index.extensions.get(value);
        if (!known && !this.index.symbols.has(value)) return notFound;
        const extensionNumber = [...(known?.keys() ?? [])];
        return { case: "allExtensionNumbersResponse", value: { baseTypeName: value, extensionNumber } };
      }
      default:
        return refused(Code.InvalidArgument, "message_request: it asks for nothing that is known here");
    }
  }

  /** The file, and with it all that it needs and this stream has not got. */
  private withFile(file: DescFile | undefined, sent: Set<DescFile>): Response {
    if (!file) return notFound;
    const wanted = new Set([file]);
    for (const one of wanted) for (const needed of one.dependencies) if (!sent.has(needed)) wanted.add(needed);
    for (const one of wanted) sent.add(one);
    return {
      case: "fileDescriptorResponse",
      value: { fileDescriptorProto: [...wanted].map((one) => this.bytesOf(one)) },
    };
  }

  private bytesOf({ proto }: DescFile): Uint8Array {
    return this.written.get(proto.name) ?? toBinary(FileDescriptorProtoSchema, proto);
  }
}

interface Index {
  readonly symbols: ReadonlyMap<string, DescFile>;
  /** By the type that is extended, and by number. */
  readonly extensions: ReadonlyMap<string, ReadonlyMap<number, DescFile>>;
}

function indexOf(files: readonly DescFile[]): Index {
  const symbols = new Map<string, DescFile>();
  const extensions = new Map<string, Map<number, DescFile>>();
  for (const file of files) {
    for (const type of nestedTypes(file)) {
      symbols.set(type.typeName, file);
      if (type.kind === "extension") {
        const ofType = extensions.get(type.extendee.typeName) ?? new Map<number, DescFile>();
        extensions.set(type.extendee.typeName, ofType.set(type.number, file));
      }
      for (const name of partsOf(type)) symbols.set(name, file);
    }
  }
  return { symbols, extensions };
}

/** The full names of what is in a type and is no type itself. */
function partsOf(type: ReturnType<typeof nestedTypes> extends Iterable<infer T> ? T : never): string[] {
  switch (type.kind) {
    case "message":
      return [...type.fields, ...type.oneofs].map(({ name }) => `${type.typeName}.${name}`);
    case "service":
      return type.methods.map(({ name }) => `${type.typeName}.${name}`);
    case "enum": {
      // The values of an enum are named beside it.
      const scope = type.typeName.slice(0, -type.name.length);
      return type.values.map(({ name }) => scope + name);
    }
    default:
      return [];
  }
}

const notFound = refused(Code.NotFound, "there is no such thing in the contract");

function refused(errorCode: Code, errorMessage: string): Response {
  return { case: "errorResponse", value: { errorCode, errorMessage } };
}
