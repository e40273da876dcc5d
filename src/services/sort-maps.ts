import type { DescField, DescMessage, Message } from "@bufbuild/protobuf";

type Fields = Record<string, unknown>;

/**
 * Puts the entries of all maps in a message into the order of their keys. Clients write a map in any order, many in another
 * one each time: without this a repeated request would look like another one.
 */
export function sortMaps(schema: DescMessage, message: Message): void {
  const fields = message as unknown as Fields;
  for (const field of fieldsWithMaps(schema)) {
    const { localName } = field;
    if (field.fieldKind === "map") {
      const entries = Object.entries(fields[localName] as Fields);
      if (entries.length > 1) fields[localName] = Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)));
      continue;
    }
    const value = field.oneof ? ofCase(fields[field.oneof.localName] as OneofValue, localName) : fields[localName];
    const inner = field.message as DescMessage;
    if (field.fieldKind === "list") for (const item of value as Message[]) sortMaps(inner, item);
    else if (value !== undefined) sortMaps(inner, value as Message);
  }
}

interface OneofValue {
  readonly case: string | undefined;
  readonly value?: unknown;
}

function ofCase(chosen: OneofValue, name: string): unknown {
  return chosen.case === name ? chosen.value : undefined;
}

const known = new Map<DescMessage, readonly DescField[]>();

/** Those that are maps, or messages in which there is one. */
function fieldsWithMaps(schema: DescMessage): readonly DescField[] {
  let fields = known.get(schema);
  if (!fields) {
    // A type may contain itself; it has no map for that alone.
    known.set(schema, []);
    fields = schema.fields.filter(
      (field) => field.fieldKind === "map" || (field.message !== undefined && fieldsWithMaps(field.message).length > 0),
    );
    known.set(schema, fields);
  }
  return fields;
}
