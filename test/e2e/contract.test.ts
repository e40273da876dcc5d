import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createFileRegistry, type DescFile, fromBinary, getExtension, hasExtension } from "@bufbuild/protobuf";
import { nestedTypes } from "@bufbuild/protobuf/reflect";
import { type FileDescriptorSet, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { file_buf_validate_validate, predefined } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { afterAll, describe, expect, test } from "vitest";
import { scope } from "../../gen/coupon/v1/options_pb.js";
import { packageRoot } from "../../src/platform/package-root.js";
import { oneReplica, startReplicas } from "../support/service.js";

const { stores, replica } = await oneReplica(afterAll);
const [apart, closed] = await startReplicas(
  afterAll,
  stores,
  { ADMIN_PORT: "0" },
  { ADMIN_PORT: "0", REFLECTION: "off" },
);

const built = readFileSync(join(packageRoot(), "dist/coupon.binpb"));
const image: FileDescriptorSet = fromBinary(FileDescriptorSetSchema, built);
const byName = new Map(image.file.map((file) => [file.name, file]));
const ours = readdirSync(join(packageRoot(), "proto/coupon/v1")).map((name) => `coupon/v1/${name}`);

describe("the contract in one file", () => {
  const registry = createFileRegistry(image);

  test("has our files, what they need, and what is in errors and health", () => {
    expect([...byName.keys()]).toEqual(
      expect.arrayContaining([...ours, "google/rpc/error_details.proto", "grpc/health/v1/health.proto"]),
    );
  });

  test.for(ours.map((name) => [name]))("%s: each thing that is declared has its comment", ([name]) => {
    const file = registry.getFile(name as string) as DescFile;
    const wanted = [...nestedTypes(file)].flatMap((type) => [
      type,
      ...(type.kind === "message" ? type.fields : type.kind === "service" ? type.methods : []),
    ]);
    const source = readFileSync(join(packageRoot(), "proto", name as string), "utf8");
    const comments = (byName.get(name as string)?.sourceCodeInfo?.location ?? []).filter(
      ({ leadingComments }) => leadingComments.trim() !== "",
    );
    expect(source.length).toBeGreaterThan(0);
    expect(comments.length).toBeGreaterThanOrEqual(wanted.length);
  });

  test("methods have their scopes", () => {
    for (const name of ours) {
      for (const method of byName.get(name)?.service.flatMap((service) => service.method) ?? []) {
        expect(getExtension(method.options as never, scope), method.name).not.toBe("");
      }
    }
  });

  test("says for each language where its code goes", () => {
    for (const name of ours) {
      const options = byName.get(name)?.options;
      expect(options, name).toMatchObject({
        goPackage: "coupon-service.example/gen/coupon/v1;couponv1",
        javaPackage: "coupon.v1",
        javaMultipleFiles: true,
        csharpNamespace: "CouponService.V1",
        phpNamespace: "Coupon\\V1",
        rubyPackage: "Coupon::V1",
        swiftPrefix: "CouponV1",
        objcClassPrefix: "CPN",
      });
    }
  });

  test("buf.validate is the real one, with its options and its rules", () => {
    const validate = byName.get("buf/validate/validate.proto");
    expect(validate?.options?.goPackage).toBe(file_buf_validate_validate.proto.options?.goPackage);
    const rules = validate?.messageType.find(({ name }) => name === "StringRules");
    const minLen = rules?.field.find(({ name }) => name === "min_len");
    expect(hasExtension(minLen?.options as never, predefined)).toBe(true);
  });
});

describe("GET /coupon.binpb", () => {
  const places = [
    ["the HTTP port", replica.httpPort],
    ["the HTTP port beside an ADMIN_PORT", apart.httpPort],
    ["the ADMIN_PORT", apart.adminPort],
  ] as const;
  const url = (port: number | undefined) => `http://127.0.0.1:${port}/coupon.binpb`;

  test.for(places)("on %s", async ([, port]) => {
    const response = await fetch(url(port));
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toBe("application/octet-stream");
    expect(Buffer.from(await response.arrayBuffer()).equals(built)).toBe(true);
    const etag = response.headers.get("etag") as string;

    const head = await fetch(url(port), { method: "HEAD", headers: { "accept-encoding": "identity" } });
    expect([head.status, head.headers.get("content-length"), head.headers.get("etag")]).toEqual([
      200,
      String(built.length),
      etag,
    ]);
    for (const known of [etag, `"other", W/${etag}`, "*"]) {
      const again = await fetch(url(port), { headers: { "if-none-match": known } });
      expect([again.status, await again.text()]).toEqual([304, ""]);
    }
    expect((await fetch(url(port), { headers: { "if-none-match": '"other"' } })).status).toBe(200);
    expect((await fetch(url(port), { method: "POST" })).status).toBe(405);
  });

  test("not where reflection is off", async () => {
    expect((await fetch(url(closed.httpPort))).status).toBe(404);
    expect((await fetch(url(closed.adminPort))).status).toBe(404);
    const path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    const body = { method: "POST", headers: { "content-type": "application/connect+json" }, body: "" };
    expect((await fetch(`http://127.0.0.1:${closed.httpPort}${path}`, body)).status).toBe(404);
  });
});
