// Lays the third-party .proto files that ours import into .cache/proto, out of installed packages, so that none is
// pasted into the repository. google.rpc and google.api come as source in google-proto-files. buf.validate comes only as a compiled
// descriptor in @bufbuild/protovalidate, so it is printed from that: messages, enums and extensions, without the
// custom options, which nothing here reads from this file.
import { cpSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { ScalarType } from "@bufbuild/protobuf";
import { file_buf_validate_validate as validate } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const target = join(root, ".cache/proto");

function put(path, text) {
  mkdirSync(dirname(join(target, path)), { recursive: true });
  writeFileSync(join(target, path), text);
}

function typeOf(field) {
  const kind = field.fieldKind === "list" ? field.listKind : field.fieldKind;
  if (kind === "message") return `.${field.message.typeName}`;
  if (kind === "enum") return `.${field.enum.typeName}`;
  return ScalarType[field.scalar].toLowerCase();
}

function printField(field) {
  const label = field.oneof ? "" : field.fieldKind === "list" ? "repeated " : "optional ";
  if (field.fieldKind === "map") {
    const value =
      field.mapKind === "scalar"
        ? ScalarType[field.scalar].toLowerCase()
        : `.${(field.message ?? field.enum).typeName}`;
    return `map<${ScalarType[field.mapKey].toLowerCase()}, ${value}> ${field.name} = ${field.number};`;
  }
  return `${label}${typeOf(field)} ${field.name} = ${field.number};`;
}

function printEnum(desc) {
  return [`enum ${desc.name} {`, ...desc.values.map((v) => `${v.name} = ${v.number};`), "}"];
}

function printExtension(ext) {
  return [`extend .${ext.extendee.typeName} {`, printField(ext), "}"];
}

function printMessage(desc) {
  const ranges = (list, word) =>
    list.map(({ start, end }) => `${word} ${start} to ${end > 536870911 ? "max" : end - 1};`);
  return [
    `message ${desc.name} {`,
    ...desc.nestedEnums.flatMap(printEnum),
    ...desc.nestedMessages.flatMap(printMessage),
    ...desc.nestedExtensions.flatMap(printExtension),
    ...desc.members.flatMap((member) =>
      member.kind === "oneof"
        ? [`oneof ${member.name} {`, ...member.fields.map(printField), "}"]
        : [printField(member)],
    ),
    ...ranges(desc.proto.extensionRange, "extensions"),
    ...ranges(desc.proto.reservedRange, "reserved"),
    ...desc.proto.reservedName.map((name) => `reserved "${name}";`),
    "}",
  ];
}

put(
  "buf/validate/validate.proto",
  `${[
    'syntax = "proto2";',
    `package ${validate.proto.package};`,
    ...validate.proto.dependency.map((path) => `import "${path}";`),
    ...validate.enums.flatMap(printEnum),
    ...validate.messages.flatMap(printMessage),
    ...validate.extensions.flatMap(printExtension),
  ].join("\n")}\n`,
);
for (const path of [
  "google/rpc/error_details.proto",
  "google/rpc/status.proto",
  "google/api/annotations.proto",
  "google/api/http.proto",
]) {
  mkdirSync(dirname(join(target, path)), { recursive: true });
  cpSync(join(root, "node_modules/google-proto-files", path), join(target, path));
}
