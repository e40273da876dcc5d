import {
  create,
  type DescMessage,
  type DescMethodUnary,
  fromBinary,
  fromJson,
  type JsonValue,
  type Message,
  toBinary,
  toJson,
} from "@bufbuild/protobuf";
import { reflect } from "@bufbuild/protobuf/reflect";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AuditService } from "../../gen/coupon/v1/audit_service_pb.js";
import { AuthService } from "../../gen/coupon/v1/auth_service_pb.js";
import {
  BatchCreateCouponsRequestSchema,
  CatalogService,
  UploadCodesRequestSchema,
} from "../../gen/coupon/v1/catalog_service_pb.js";
import { BatchIssueCouponsRequestSchema, IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import { UsageService, UseCouponsRequestSchema } from "../../gen/coupon/v1/usage_service_pb.js";
import { UserCouponService } from "../../gen/coupon/v1/user_coupon_service_pb.js";
import { Refusal } from "../../src/domain/refusal.js";
import { readBinary, readJson } from "../../src/transport/messages/decode.js";
import { JsonScan } from "../../src/transport/messages/json-scan.js";
import { maxParts } from "../../src/transport/messages/message-bounds.js";
import { WireScan } from "../../src/transport/messages/wire-scan.js";
import { violationsIn } from "../../src/transport/pipeline.js";
import { boundsOf } from "../../src/transport/routes.js";
import { messageValidator } from "../../src/transport/validator.js";
import { messageOf } from "../support/any-message.js";

const methods: [string, DescMethodUnary][] = [
  AuthService,
  AuditService,
  CatalogService,
  IssuanceService,
  UsageService,
  UserCouponService,
].flatMap((service) =>
  service.methods.map((method): [string, DescMethodUnary] => [method.name, method as DescMethodUnary]),
);
const validator = messageValidator();

/** What the binary form of a message has: fields, and items of lists. */
function binaryParts(schema: DescMessage, message: Message): number {
  const view = reflect(schema, message);
  let count = 0;
  for (const field of schema.fields) {
    if (!view.isSet(field)) continue;
    const value = view.get(field) as unknown;
    if (field.fieldKind === "map") {
      // Of an entry, its key and its value as well.
      count += 3 * (value as { size: number }).size;
      continue;
    }
    const all = field.fieldKind === "list" ? [...(value as Iterable<unknown>)] : [value];
    // Numbers come as one value, which counts as well.
    count += all.length + (field.fieldKind === "list" && field.packed && all.length > 0 ? 1 : 0);
    if (!field.message) continue;
    for (const one of all) count += binaryParts(field.message, (one as { message: Message }).message);
  }
  return count;
}

/** What a JSON value has: itself, and what is in it. */
function jsonParts(json: JsonValue): number {
  if (json === null || typeof json !== "object") return 1;
  return Object.values(json).reduce((sum: number, one) => sum + jsonParts(one as JsonValue), 1);
}

/** JSON with as many blanks as there may be, and the same names in another spelling. */
function spaced(json: JsonValue, random: () => number): string {
  const blank = () => ["", " ", "\n\t", "\r\n  "][Math.floor(random() * 4)];
  const write = (value: JsonValue): string => {
    if (Array.isArray(value)) return `[${blank()}${value.map(write).join(`${blank()},${blank()}`)}${blank()}]`;
    if (value === null || typeof value !== "object") return JSON.stringify(value);
    const members = Object.entries(value).map(([key, one]) => `${spelled(key)}${blank()}:${blank()}${write(one)}`);
    return `{${blank()}${members.join(`${blank()},${blank()}`)}${blank()}}`;
  };
  const spelled = (key: string) =>
    random() < 0.5
      ? JSON.stringify(key)
      : `"\\u${key.charCodeAt(0).toString(16).padStart(4, "0")}${JSON.stringify(key.slice(1)).slice(1)}`;
  return blank() + write(json) + blank();
}

const isWellFormed = (json: JsonValue): boolean =>
  JSON.stringify(json).isWellFormed() && !JSON.stringify(json).includes("\\ud");

describe.for(methods)("%s", ([, method]) => {
  const schema = method.input;
  const bounds = boundsOf(method);

  test("what fromBinary reads and the rules accept is read, and its parts are counted", async () => {
    await fc.assert(
      fc.asyncProperty(messageOf(schema), fc.boolean(), async (message, isUnknown) => {
        const unknown = isUnknown
          ? [0xa2, 0x7d, 2, 0x80, 0, 0xa8, 0x7d, 0x80, 0x01, 0xab, 0x7d, 0x08, 1, 0xac, 0x7d]
          : [];
        const bytes = Buffer.concat([toBinary(schema, message), Uint8Array.from(unknown)]);
        const scan = new WireScan(schema, bytes, bounds);
        const refusal = scan.scan();
        const read = await readBinary(schema, bytes, bounds);
        if (refusal) {
          expect(violationsIn(validator, schema, message as never)).toEqual(
            expect.arrayContaining([...refusal.violations]),
          );
          return;
        }
        expect(scan.parts).toBe(binaryParts(schema, message) + (isUnknown ? 4 : 0));
        expect(read).toEqual(fromBinary(schema, bytes, { readUnknownFields: false }));
      }),
      { numRuns: 30 },
    );
  });

  test("what fromJson reads and the rules accept is read, and its parts are counted", async () => {
    await fc.assert(
      fc.asyncProperty(
        messageOf(schema),
        fc.infiniteStream(fc.double({ min: 0, max: 0.999, noNaN: true })),
        async (message, numbers) => {
          let json: JsonValue;
          try {
            json = toJson(schema, message);
            fc.pre(isWellFormed(json));
            fromJson(schema, json);
          } catch (error) {
            if (error instanceof Error && error.constructor.name.includes("Precondition")) throw error;
            return;
          }
          const bytes = Buffer.from(spaced(json, () => numbers.next().value));
          const scan = new JsonScan(schema, bytes, bounds);
          const refusal = scan.scan();
          if (refusal) {
            expect(violationsIn(validator, schema, message as never)).toEqual(
              expect.arrayContaining([...refusal.violations]),
            );
            return;
          }
          expect(scan.parts).toBe(jsonParts(json));
          expect(await readJson(schema, bytes, bounds)).toEqual(fromJson(schema, json));
        },
      ),
      { numRuns: 30 },
    );
  });

  test("whatever the bytes are, they are read as fromBinary reads them, or refused", async () => {
    const pieces = fc.array(
      fc.oneof(
        fc.uint8Array({ maxLength: 12 }),
        fc.constantFrom(...schema.fields.map(({ number }) => Uint8Array.of((number << 3) | 2, 0))),
        messageOf(schema).map((message) => toBinary(schema, message)),
      ),
      { maxLength: 4 },
    );
    await fc.assert(
      fc.asyncProperty(pieces, async (parts) => {
        const bytes = Buffer.concat(parts);
        const read = await readBinary(schema, bytes, bounds);
        if (!(read instanceof Refusal)) expect(read).toEqual(fromBinary(schema, bytes, { readUnknownFields: false }));
      }),
      { numRuns: 50 },
    );
  });

  test("whatever the text is, it is read as fromJson reads it, or refused", async () => {
    const token = fc.oneof(
      fc.constantFrom("{", "}", "[", "]", ",", ":", "[{}]", "{},", "null", "1", '"x"', " ", '"', "\\"),
      fc.constantFrom(...schema.fields.map(({ jsonName }) => `"${jsonName}":`)),
      fc.constantFrom(...schema.fields.map(({ name }) => `"${name}":[{},`)),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(token, { maxLength: 12 }), fc.boolean(), async (tokens, isObject) => {
        const text = isObject ? `{${tokens.join("")}}` : tokens.join("");
        const read = await readJson(schema, Buffer.from(text), bounds);
        if (!(read instanceof Refusal)) expect(read).toEqual(fromJson(schema, JSON.parse(text)));
      }),
      { numRuns: 150 },
    );
  });
});

describe("a list that makes a message large by right", () => {
  const method = CatalogService.method.uploadCodes;
  const bounds = boundsOf(method);
  const line = (index: number) => ({
    code: `C-${index}`,
    terms: { maxUses: 1 + (index % 9), expireTime: { seconds: 9n } },
  });
  const message = create(UploadCodesRequestSchema, {
    target: { case: "type", value: 1 },
    lines: Array.from({ length: 5_000 }, (_, index) => line(index)),
    requestId: "r",
  });
  const binary = toBinary(UploadCodesRequestSchema, message);
  const json = toJson(UploadCodesRequestSchema, message) as { lines: JsonValue[] };

  test("is read in slices, with the items in their order", async () => {
    const fromBytes = readBinary(UploadCodesRequestSchema, binary, bounds);
    expect(fromBytes).toBeInstanceOf(Promise);
    expect(await fromBytes).toEqual(message);
    expect(await readJson(UploadCodesRequestSchema, Buffer.from(JSON.stringify(json)), bounds)).toEqual(message);
  });

  test("may come in pieces with other fields between them", async () => {
    const head = Uint8Array.of(0x10, 1, 0x22, 1, 0x72);
    const one = Uint8Array.of(0x1a, 2, 0x0a, 0);
    const bytes = Buffer.concat(Array.from({ length: 400 }, () => Buffer.concat([one, head, one])));
    expect(await readBinary(UploadCodesRequestSchema, bytes, bounds)).toEqual(
      fromBinary(UploadCodesRequestSchema, bytes),
    );
  });

  test("names the item that cannot be read", async () => {
    const wrong = { ...json, lines: [...json.lines.slice(0, 4_321), { terms: { maxUses: "x" } }, ...json.lines] };
    const read = await readJson(UploadCodesRequestSchema, Buffer.from(JSON.stringify(wrong)), bounds);
    expect((read as Refusal).violations[0]?.field).toBe("lines[4321].terms.max_uses");
  });

  test.for([
    ["a comma too many between two chunks", (text: string) => text.replaceAll('},{"code":"C-', '},,{"code":"C-')],
    ["a comma after the last", (text: string) => text.replace("}]", "},]")],
    ["no comma", (text: string) => text.replace('},{"code":"C-1234', '}{"code":"C-1234')],
    ["the wrong end", (text: string) => text.replace("}]", "}}")],
    ["no end", (text: string) => text.slice(0, -1)],
    ["something after the end", (text: string) => `${text}1`],
    ["a byte order mark before an item", (text: string) => text.replaceAll('},{"code":"C-', '},\ufeff{"code":"C-')],
  ] as const)("is no JSON with %s", async ([, change]) => {
    const text = change(JSON.stringify(json));
    expect(text).not.toBe(JSON.stringify(json));
    expect(() => JSON.parse(text)).toThrow();
    const read = await readJson(UploadCodesRequestSchema, Buffer.from(text), bounds);
    expect((read as Refusal).violations).toEqual([{ field: "", description: "the body is not JSON in UTF-8" }]);
  });

  test("set twice is refused, as fromJsonString refuses it", async () => {
    for (const text of ['{"lines":[{}],"lines":[]}', '{"lines":[{}],"l\\u0069nes":[]}']) {
      const read = await readJson(UploadCodesRequestSchema, Buffer.from(text), bounds);
      expect((read as Refusal).violations[0]?.field).toBe("lines");
    }
  });
});

describe("what is more than a message can need", () => {
  const bytesOf = (unit: number[], times: number) => Buffer.alloc(unit.length * times, Uint8Array.from(unit));
  const binary: [string, DescMethodUnary, Buffer, string][] = [
    ["choices", UsageService.method.useCoupons, bytesOf([0x12, 0], 21), "coupons"],
    ["users", IssuanceService.method.batchIssueCoupons, bytesOf([0x12, 0], 1_001), "user_ids"],
    ["lines", CatalogService.method.uploadCodes, bytesOf([0x1a, 0], 50_001), "lines"],
    ["coupons", CatalogService.method.batchCreateCoupons, bytesOf([0x0a, 0], 1_001), "coupons"],
    ["unknown fields", UsageService.method.useCoupons, bytesOf([0x78, 0], maxParts + 1), ""],
    ["the same field", UsageService.method.useCoupons, bytesOf([0x0a, 0], maxParts + 1), "user_id"],
    ["labels", UsageService.method.useCoupons, bytesOf([0x3a, 0], 17), "labels"],
    [
      "labels of a coupon",
      CatalogService.method.createCoupon,
      Buffer.from([0x0a, 51, ...bytesOf([0xfa, 0x01, 0], 17)]),
      "coupon.labels",
    ],
    [
      "labels of one of many coupons",
      CatalogService.method.batchCreateCoupons,
      Buffer.from([0x0a, 0, 0x0a, 0x83, 0x03, ...bytesOf([0xfa, 0x01, 0], 129)]),
      "coupons[1]",
    ],
    ["statuses", UserCouponService.method.listUserCoupons, bytesOf([0x30, 1], 7), "statuses"],
    [
      "packed statuses",
      UserCouponService.method.listUserCoupons,
      Buffer.from([0x32, 7, ...bytesOf([1], 7)]),
      "statuses",
    ],
    [
      "paths of a mask",
      CatalogService.method.updateCoupon,
      Buffer.from([0x12, 0xd2, 0x0f, ...bytesOf([0x0a, 0], 1_001)]),
      "update_mask.paths",
    ],
    [
      "parts of a line",
      CatalogService.method.uploadCodes,
      Buffer.from([0x1a, 0, 0x1a, 66, ...bytesOf([0x78, 0], 33)]),
      "lines[1]",
    ],
    ["groups in each other", UsageService.method.useCoupons, bytesOf([0x7b], 20), ""],
  ];
  test.for(binary)("binary: too many %s", async ([, method, bytes, field]) => {
    const read = await readBinary(method.input, bytes, boundsOf(method));
    expect((read as Refusal).violations.map((one) => one.field)).toEqual([field]);
  });

  const list = (item: string, times: number) => `[${Array(times).fill(item).join(",")}]`;
  const labels = (count: number) =>
    JSON.stringify(Object.fromEntries(Array.from({ length: count }, (_, n) => [`k${n}`, ""])));
  const json: [string, DescMethodUnary, string, string][] = [
    ["choices", UsageService.method.useCoupons, `{"coupons":${list("{}", 21)}}`, "coupons"],
    ["users", IssuanceService.method.batchIssueCoupons, `{"user_ids":${list('""', 1_001)}}`, "user_ids"],
    ["lines", CatalogService.method.uploadCodes, `{"l\\u0069nes":${list("1", 50_001)}}`, "lines"],
    ["coupons", CatalogService.method.batchCreateCoupons, `{"coupons":${list("[]", 1_001)}}`, "coupons"],
    ["numbers in a text's place", UsageService.method.useCoupons, `{"userId":${list("1", maxParts)}}`, "user_id"],
    [
      "unknown names",
      UsageService.method.useCoupons,
      `{${Array.from({ length: maxParts + 1 }, (_, n) => `"k${n}":0`).join(",")}}`,
      "k999",
    ],
    ["parts of a line", CatalogService.method.uploadCodes, `{"lines":[{},{"terms":${list("1", 33)}}]}`, "lines[1]"],
    ["labels", UsageService.method.useCoupons, `{"l\\u0061bels":${labels(17)}}`, "labels"],
    [
      "labels of one of many coupons",
      CatalogService.method.batchCreateCoupons,
      `{"coupons":[{"labels":${labels(16)}},{"labels":${labels(128)}}]}`,
      "coupons[1]",
    ],
    ["lists in each other", UsageService.method.useCoupons, "[".repeat(20), ""],
    ["lists in a line", CatalogService.method.uploadCodes, `{"lines":${"[".repeat(20)}`, ""],
  ];
  test.for(json)("JSON: too many %s", async ([, method, text, field]) => {
    const read = await readJson(method.input, Buffer.from(text), boundsOf(method));
    expect((read as Refusal).violations.map((one) => one.field)).toEqual([field]);
  });

  test.for([
    ["text", `"${"x".repeat(70_000)}"`],
    ["text with escapes", `"${"\\n".repeat(40_000)}"`],
    ["number", "1".repeat(70_000)],
  ])("JSON: a %s of more than 64 KiB", async ([, value]) => {
    const bounds = boundsOf(CatalogService.method.uploadCodes);
    const read = await readJson(UploadCodesRequestSchema, Buffer.from(`{"lines":[{"code":${value}}]}`), bounds);
    expect((read as Refusal).violations[0]?.field).toBe("lines[0]");
  });

  test("binary: a text of more than 64 KiB", async () => {
    const request = create(BatchIssueCouponsRequestSchema, { userIds: ["a", "x".repeat(70_000)] });
    const bounds = boundsOf(IssuanceService.method.batchIssueCoupons);
    const read = await readBinary(
      BatchIssueCouponsRequestSchema,
      toBinary(BatchIssueCouponsRequestSchema, request),
      bounds,
    );
    expect((read as Refusal).violations[0]?.field).toBe("user_ids[1]");
  });

  test("is said of labels in the words of the rule", async () => {
    const labels = Object.fromEntries(Array.from({ length: 17 }, (_, n) => [`k${n}`, "v"]));
    const request = create(UseCouponsRequestSchema, { labels });
    const bounds = boundsOf(UsageService.method.useCoupons);
    const said = violationsIn(validator, UseCouponsRequestSchema, request);
    const fromBytes = await readBinary(UseCouponsRequestSchema, toBinary(UseCouponsRequestSchema, request), bounds);
    const fromText = await readJson(UseCouponsRequestSchema, Buffer.from(JSON.stringify({ labels })), bounds);
    for (const read of [fromBytes, fromText]) expect(said).toContainEqual((read as Refusal).violations[0]);
  });

  test("16 labels of the greatest length are not", async () => {
    const labels = Object.fromEntries(Array.from({ length: 16 }, (_, n) => [`k${n}`.padEnd(63, "-"), "v".repeat(256)]));
    const coupons = Array.from({ length: 1_000 }, () => ({ labels }));
    const request = create(BatchCreateCouponsRequestSchema, { coupons });
    const bounds = boundsOf(CatalogService.method.batchCreateCoupons);
    expect(
      await readBinary(BatchCreateCouponsRequestSchema, toBinary(BatchCreateCouponsRequestSchema, request), bounds),
    ).toEqual(request);
  });

  test("is said in the words of the rule", async () => {
    const request = create(UseCouponsRequestSchema, { coupons: Array(21).fill({}) });
    const read = await readBinary(
      UseCouponsRequestSchema,
      toBinary(UseCouponsRequestSchema, request),
      boundsOf(UsageService.method.useCoupons),
    );
    expect(violationsIn(validator, UseCouponsRequestSchema, request)).toContainEqual((read as Refusal).violations[0]);
  });
});
