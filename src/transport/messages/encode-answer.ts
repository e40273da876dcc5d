import { create, type DescField, type DescMessage, type MessageShape, toJson, toJsonString } from "@bufbuild/protobuf";
import { Slices } from "../../platform/slices.js";
import type { MaybePromise } from "./decode.js";
import { encode, remember, writtenBefore } from "./encode.js";

/** An answer with more items than this in a list is written in slices. */
const maxItemsAtOnce = 100;
/** Items that are written before the clock is looked at. */
const itemsPerPiece = 5;

interface Large {
  readonly field: DescField & { fieldKind: "list"; message: DescMessage };
  readonly items: readonly object[];
}

type Fields = Readonly<Record<string, unknown>>;

/** The bytes of an answer; a promise only for large ones. */
export function encodeAnswer<D extends DescMessage>(schema: D, answer: MessageShape<D>): MaybePromise<Buffer> {
  const large = largeList(schema, answer);
  if (!large) return encode(schema, answer);
  return writtenBefore(answer) ?? encodeLarge(schema, answer, large);
}

/** undefined: it is small, and connect-node may write it. */
export function largeList(schema: DescMessage, answer: object): Large | undefined {
  for (const field of listsOf(schema)) {
    const items = (answer as Fields)[field.localName] as readonly object[];
    if (items.length > maxItemsAtOnce) return { field, items };
  }
  return undefined;
}

/** The parts of a message may be written one after the other: whoever reads them puts the list together. */
export async function encodeLarge<D extends DescMessage>(
  schema: D,
  answer: MessageShape<D>,
  { field, items }: Large,
): Promise<Buffer> {
  const slices = new Slices();
  const parts = [encode(schema, { ...answer, [field.localName]: [] })];
  const empty = create(schema);
  for (let from = 0; from < items.length; from += itemsPerPiece) {
    await slices.next();
    const piece = { ...empty, [field.localName]: items.slice(from, from + itemsPerPiece) };
    parts.push(encode(schema, piece as unknown as MessageShape<D>));
  }
  const bytes = Buffer.concat(parts);
  if (Object.isFrozen(answer)) remember(answer, bytes);
  return bytes;
}

/** As toJsonString() would write it. */
export async function jsonOfLarge<D extends DescMessage>(
  schema: D,
  answer: MessageShape<D>,
  { field, items }: Large,
): Promise<Buffer> {
  const slices = new Slices();
  const frame = JSON.stringify(toJson(schema, { ...answer, [field.localName]: [] }));
  const parts = [Buffer.from(`${frame === "{}" ? "{" : `${frame.slice(0, -1)},`}${JSON.stringify(field.jsonName)}:[`)];
  for (let from = 0; from < items.length; from += itemsPerPiece) {
    await slices.next();
    const texts = items.slice(from, from + itemsPerPiece).map((item) => toJsonString(field.message, item as never));
    parts.push(Buffer.from(`${from > 0 ? "," : ""}${texts.join(",")}`));
  }
  parts.push(Buffer.from("]}"));
  return Buffer.concat(parts);
}

const lists = new WeakMap<DescMessage, Large["field"][]>();

function listsOf(schema: DescMessage): Large["field"][] {
  let known = lists.get(schema);
  if (!known) {
    known = schema.fields.filter((field) => field.fieldKind === "list" && field.message) as Large["field"][];
    lists.set(schema, known);
  }
  return known;
}
