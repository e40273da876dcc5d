import { readFileSync } from "node:fs";
import {
  type AnyDesc,
  createFileRegistry,
  type DescMethod,
  type DescService,
  type FileRegistry,
  fromBinary,
  getOption,
} from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { scope as scopeOption } from "../../gen/coupon/v1/options_pb.js";

/** The contract as `buf build` writes it: with the comments, which the generated code does not have. */
export interface Contract {
  readonly registry: FileRegistry;
  /** In the order of their names. */
  readonly services: readonly DescService[];
  /** What the proto file says of a message, a field, a method and so on; empty: nothing. */
  commentOf(desc: Written): string;
}

/** What a comment may stand before. */
export type Written = Exclude<AnyDesc, { kind: "file" | "extension" }>;

const contractPackage = "coupon.v1";

export function readContract(path: string): Contract {
  const set = fromBinary(FileDescriptorSetSchema, readFileSync(path));
  const registry = createFileRegistry(set);
  const services = [...registry]
    .filter((desc): desc is DescService => desc.kind === "service" && desc.file.proto.package === contractPackage)
    .sort((one, other) => one.name.localeCompare(other.name));
  if (services.length === 0) throw new Error(`${path} has no service of ${contractPackage}`);
  const comments = new Map<string, string>();
  for (const { name, sourceCodeInfo } of set.file) {
    for (const { path: location, leadingComments } of sourceCodeInfo?.location ?? []) {
      if (leadingComments) comments.set(`${name}:${location}`, unindented(leadingComments));
    }
  }
  return {
    registry,
    services,
    commentOf: (desc) => comments.get(`${fileOf(desc)}:${locationOf(desc)}`) ?? "",
  };
}

/** The methods that take one message and answer one. */
export function unaryMethods({ services }: Contract): DescMethod[] {
  return services.flatMap(({ methods }) => methods.filter(({ methodKind }) => methodKind === "unary"));
}

export function scopeOf(method: DescMethod): string {
  return getOption(method, scopeOption);
}

/** Comments begin with a blank on each line. */
function unindented(comment: string): string {
  return comment.replace(/^ /gm, "").trim();
}

/** Where a thing stands in its file, as source code info says it: the numbers of the fields of FileDescriptorProto and the indices in them. */
function locationOf(desc: Written): number[] {
  switch (desc.kind) {
    case "message":
      return desc.parent
        ? [...locationOf(desc.parent), 3, desc.parent.nestedMessages.filter(isWritten).indexOf(desc)]
        : [4, desc.file.messages.indexOf(desc)];
    case "enum":
      return desc.parent
        ? [...locationOf(desc.parent), 4, desc.parent.nestedEnums.indexOf(desc)]
        : [5, desc.file.enums.indexOf(desc)];
    case "enum_value":
      return [...locationOf(desc.parent), 2, desc.parent.values.indexOf(desc)];
    case "field":
      return [...locationOf(desc.parent), 2, desc.parent.fields.indexOf(desc)];
    case "oneof":
      return [...locationOf(desc.parent), 8, desc.parent.oneofs.indexOf(desc)];
    case "service":
      return [6, desc.file.services.indexOf(desc)];
    case "rpc":
      return [...locationOf(desc.parent), 2, desc.parent.methods.indexOf(desc)];
  }
}

function fileOf(desc: Written): string {
  const { file } = "file" in desc ? desc : desc.parent;
  return file.proto.name;
}

/** Entries of maps stand in no file. */
function isWritten({
  proto,
}: {
  readonly proto: { readonly options?: { readonly mapEntry?: boolean } | undefined };
}): boolean {
  return proto.options?.mapEntry !== true;
}
