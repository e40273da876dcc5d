import { createHash } from "node:crypto";
import { create, type DescMessage, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { inSlices } from "../../platform/slices.js";
import type { RequestKey } from "../../storage/ports/page.js";
import { sortMaps } from "../sort-maps.js";

/** As requestKey() makes it, but in slices: 8 MiB at once would hold up other calls. What is not in the list comes first. */
export async function bulkRequestKey<D extends DescMessage, L extends string>(
  method: string,
  schema: D,
  request: MessageShape<D> & { requestId: string } & Record<L, unknown[]>,
  list: L,
): Promise<RequestKey | null> {
  const { requestId } = request;
  if (requestId === "") return null;
  const hash = createHash("sha256");
  hash.update(toBinary(schema, { ...request, requestId: "", [list]: [] }));
  const items = request[list];
  const empty = create(schema);
  await inSlices(items.length, (from, to) => {
    const slice = { ...empty, [list]: items.slice(from, to) };
    sortMaps(schema, slice);
    hash.update(toBinary(schema, slice));
  });
  return { method, requestId, inputHash: hash.digest() };
}
