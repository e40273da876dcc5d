import { create, type DescField, type DescMessage, type Message, ScalarType } from "@bufbuild/protobuf";
import fc from "fast-check";

const maxDepth = 6;

const text = fc.oneof(
  fc.constantFrom(
    "",
    "a",
    "\u0000",
    "\u007f",
    "\u0080",
    "é",
    "€",
    "😀",
    "x".repeat(64),
    "x".repeat(65),
    "é".repeat(64),
  ),
  // Any code points. fast-check's own strings of these begin with a table of all of them, which takes seconds.
  fc
    .array(fc.integer({ min: 0, max: 0x10ffff }), { maxLength: 300 })
    .map((points) => String.fromCodePoint(...points.filter((point) => point < 0xd800 || point > 0xdfff))),
  // Halves of surrogate pairs, too.
  fc.array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 5 }).map((codes) => String.fromCharCode(...codes)),
);
const int32 = fc.oneof(fc.constantFrom(0, 1, 127, 128, 16_383, 16_384, 2 ** 31 - 1, -1, -(2 ** 31)), fc.integer());
const edges = [0n, 127n, 128n, 2n ** 31n, 2n ** 32n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 63n - 1n, -1n, -(2n ** 63n)];
const int64 = fc.oneof(fc.constantFrom(...edges), fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }));

/** No object has a property of that name. */
const mapKey = fc.string({ minLength: 1, maxLength: 70 }).filter((key) => key !== "__proto__");

function scalar(field: DescField): fc.Arbitrary<unknown> {
  switch (field.scalar) {
    case ScalarType.STRING:
      return text;
    case ScalarType.BOOL:
      return fc.boolean();
    case ScalarType.INT64:
      return int64;
    default:
      return int32;
  }
}

/** Messages with any of their fields set, as `create` makes them. Lists have up to `maxItems` items. */
export function messageOf(schema: DescMessage, maxItems = 3, depth = 0): fc.Arbitrary<Message> {
  const one = (field: DescField): fc.Arbitrary<unknown> =>
    field.message ? messageOf(field.message, maxItems, depth + 1) : scalar(field);
  const fields: Record<string, fc.Arbitrary<unknown>> = {};
  for (const member of schema.members) {
    if (member.kind === "oneof") {
      const cases = member.fields.map((field) => fc.record({ case: fc.constant(field.localName), value: one(field) }));
      fields[member.localName] = fc.option(fc.oneof(...cases), { nil: undefined });
      continue;
    }
    if (member.message && depth >= maxDepth) continue;
    if (member.fieldKind === "map") {
      const entries = fc.dictionary(mapKey, scalar(member), { maxKeys: maxItems });
      fields[member.localName] = fc.option(entries, { nil: undefined });
      continue;
    }
    const values = member.fieldKind === "list" ? fc.array(one(member), { maxLength: maxItems }) : one(member);
    fields[member.localName] = fc.option(values, { nil: undefined });
  }
  return fc.record(fields, { requiredKeys: [] }).map((init) => create(schema, init as never) as Message);
}
