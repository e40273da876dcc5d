// Lays the third-party .proto files that ours import into .cache/proto, out of installed packages, so that none is
// pasted into the repository. All but one come as source. buf.validate comes only as a compiled descriptor in
// @bufbuild/protovalidate, so it is printed from that: messages, enums and extensions, without options, which nothing
// here reads from this file; scripts/contract.mjs puts the descriptor itself into what others get.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { ScalarType } from "@bufbuild/protobuf";
import { file_buf_validate_validate as validate } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const target = join(root, ".cache/proto");

/** What has not changed is not written: another process may read it at this moment. */
function put(path, text) {
  const file = join(target, path);
  if (existsSync(file) && readFileSync(file, "utf8") === text) return;
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
}

/** The file of an installed package. */
function copy(path, source) {
  put(path, readFileSync(source, "utf8"));
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
const google = join(root, "node_modules/google-proto-files");
for (const path of [
  "google/rpc/error_details.proto",
  "google/rpc/status.proto",
  "google/api/annotations.proto",
  "google/api/http.proto",
]) {
  copy(path, join(google, path));
}
const { resolve } = createRequire(import.meta.url);
copy("grpc/health/v1/health.proto", join(dirname(resolve("grpc-health-check")), "../../proto/health/v1/health.proto"));
for (const version of ["v1", "v1alpha"]) {
  const path = `grpc/reflection/${version}/reflection.proto`;
  copy(path, join(dirname(resolve("@grpc/reflection")), "../proto", path));
}
