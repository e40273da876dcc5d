import {
  type AnyDesc,
  create,
  createFileRegistry,
  createRegistry,
  type DescExtension,
  type DescField,
  type DescMessage,
  getExtension,
  getOption,
  type MessageInitShape,
  setExtension,
} from "@bufbuild/protobuf";
import { WireType } from "@bufbuild/protobuf/wire";
import {
  FieldDescriptorProto_Label,
  FieldDescriptorProto_Type,
  FieldOptionsSchema,
  FileDescriptorProtoSchema,
} from "@bufbuild/protobuf/wkt";
import { createValidator, type Validator } from "@bufbuild/protovalidate";
import {
  type FieldRules,
  FieldRulesSchema,
  field as fieldRules,
  type StringRules,
  StringRulesSchema,
} from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import * as contract from "../../clients/typescript/src/contract.js";
import { caller, file_coupon_v1_rules, key_id, request_id } from "../../gen/coupon/v1/rules_pb.js";
import { constraintsOf } from "../../scripts/openapi/rules.js";
import { violationsIn } from "../../src/transport/pipeline.js";
import { messageValidator } from "../../src/transport/validator.js";

const id = "abcdefgh2345";
type Written = MessageInitShape<typeof StringRulesSchema>;

/** What the shared rules stand for, written out in the rules that protovalidate has itself. */
const written: [DescExtension, Written, (text: string) => boolean][] = [
  [
    request_id,
    { maxLen: 64n, pattern: "^[!-~]*$" },
    (text) => text.length <= 64 && [...text].every((one) => one > " " && one < "\u007f"),
  ],
  [
    caller,
    { maxLen: 64n, pattern: "^[A-Za-z0-9][A-Za-z0-9._-]*$" },
    (text) => text !== "" && text.length <= 64 && !/[^A-Za-z0-9._-]/.test(text) && !".-_".includes(text.charAt(0)),
  ],
  [key_id, { pattern: "^[a-z2-7]{12}$" }, (text) => text === id],
];

/** A message `Any` with a field `value` that has these rules. */
function messageWith(rules: FieldRules): DescMessage {
  const options = create(FieldOptionsSchema);
  setExtension(options, fieldRules, rules);
  const value = { name: "value", number: 1, jsonName: "value", options };
  const type = { type: FieldDescriptorProto_Type.STRING, label: FieldDescriptorProto_Label.OPTIONAL };
  const file = create(FileDescriptorProtoSchema, {
    ...{ name: "any.proto", syntax: "proto3" },
    messageType: [{ name: "Any", field: [{ ...value, ...type }] }],
  });
  return createFileRegistry(file, () => undefined).getMessage("Any") as DescMessage;
}

const ofString = (rules: Written) => withRules(create(StringRulesSchema, rules));

function ofShared(rule: DescExtension, value: unknown = true): DescMessage {
  const rules = create(StringRulesSchema);
  setExtension(rules, rule, value as never);
  return withRules(rules);
}

function withRules(value: StringRules): DescMessage {
  return messageWith(create(FieldRulesSchema, { type: { case: "string", value } }));
}

function accepts(validator: Validator, message: DescMessage, value: string): boolean {
  const result = validator.validate(message, create(message, { value } as never));
  if (result.kind === "error") throw result.error;
  return result.kind === "valid";
}

const texts = [
  ...["", "a", "-", ".a", "a.b_c-d", "!~", id, `${id}a`, id.slice(1), id.toUpperCase(), "a".repeat(64), "a".repeat(65)],
  ...["!".repeat(64), "!".repeat(65), `${"a".repeat(63)}😀`, " ", "a b", " a", "a ", "\u00a0", "\u0000", "a\u0000b"],
  ...["a\u007f", "a\u001f", "\t", "a\n", "\na", "a\nb", "a\r\n", "a\u2028", "\u2028a"],
  ...[`${id}\n`, `\n${id}`, `${id}\n${id}`],
  ...["é", "e\u0301", "😀", "😀".repeat(64), "\ud83d", "a\udc00", "\ufeffa", "а", "K", "ſ", "１"],
];

const validator = messageValidator();
/** Other programs read the rules with the engine of protovalidate, whose patterns are those of RE2. */
const engines: [string, Validator][] = [
  ["the service", validator],
  ["protovalidate", createValidator({ registry: createRegistry(file_coupon_v1_rules) })],
];

describe("a shared rule takes what it stands for, and nothing else", () => {
  const cases = written.flatMap(([rule, rules]) =>
    engines.map(([engine, validator]) => [String(rule), engine, validator, ofShared(rule), ofString(rules)] as const),
  );

  test.for(cases)("%s, as %s reads it", ([, , validator, shared, long]) => {
    const differing = texts.filter((text) => accepts(validator, shared, text) !== accepts(validator, long, text));
    expect(differing).toEqual([]);
    expect(texts.some((text) => accepts(validator, shared, text))).toBe(true);
    expect(texts.some((text) => !accepts(validator, shared, text))).toBe(true);
    const parts = fc.oneof(
      fc.string({ unit: "binary-ascii" }),
      fc.string({ unit: "binary" }),
      fc.constantFrom(...texts),
    );
    fc.assert(
      fc.property(fc.array(parts, { maxLength: 3 }), (some) => {
        const text = some.join("");
        expect(accepts(validator, shared, text)).toBe(accepts(validator, long, text));
      }),
    );
  });

  test("there are no others", () => {
    expect(written.map(([rule]) => rule)).toEqual(file_coupon_v1_rules.extensions);
  });

  test.for(written)("%s: no character more", ([rule, , isMeant]) => {
    const shared = ofShared(rule);
    expect(texts.filter((text) => accepts(validator, shared, text))).toEqual(texts.filter(isMeant));
  });
});

test("what is wrong is said once, in plain words", () => {
  const message = create(contract.RotateKeyRequestSchema, { keyId: "1", requestId: `a b${"c".repeat(64)}` });
  expect(violationsIn(validator, contract.RotateKeyRequestSchema, message)).toEqual([
    { field: "key_id", description: "must be 12 characters, each of a to z or 2 to 7" },
    { field: "request_id", description: "must be up to 64 visible ASCII characters, without blanks" },
  ]);
});

test("each request id and key id of a request has its rule", () => {
  const services = (Object.values(contract) as AnyDesc[]).filter((one) => one?.kind === "service");
  const fields = services.flatMap(({ methods }) => methods).flatMap(({ input }) => input.fields);
  const without = (rule: DescExtension) =>
    fields.filter(({ name }) => name === rule.name).filter((field) => !hasRule(field, rule));
  expect(fields.filter(({ name }) => name === "request_id").length).toBeGreaterThan(20);
  expect(fields.filter(({ name }) => name === "key_id").length).toBe(3);
  expect(without(request_id).map(String)).toEqual([]);
  expect(without(key_id).map(String)).toEqual([]);
});

function hasRule(field: DescField, rule: DescExtension): boolean {
  const { case: kind, value } = getOption(field, fieldRules).type;
  return kind === "string" && getExtension(value, rule) === true;
}

describe("in the schemas of OpenAPI", () => {
  const schemaOf = (message: DescMessage) => constraintsOf(message.fields[0] as DescField).schema;

  test.for(written)("%s is what it stands for", ([rule, rules]) => {
    expect(schemaOf(ofShared(rule))).toEqual(schemaOf(ofString(rules)));
  });

  test("a shared rule that is not known, or is switched off, stops the build", () => {
    const unknown = create(StringRulesSchema);
    unknown.$unknown = [{ no: 51_799, wireType: WireType.Varint, data: Uint8Array.of(1) }];
    expect(() => schemaOf(withRules(unknown))).toThrow("Any.value: what the rule 51799");
    expect(() => schemaOf(ofShared(request_id, false))).toThrow("Any.value: what the rule request_id");
  });
});
