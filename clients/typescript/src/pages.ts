import type { CallOptions } from "@connectrpc/connect";

interface PageRequest {
  pageToken?: string;
}

interface Page {
  readonly nextPageToken: string;
}

type Items<A> = { [K in Exclude<keyof A, `$${string}`>]: A[K] extends readonly (infer T)[] ? T : never };
/** What the list in an answer is of. */
export type ItemOf<A> = Items<A>[Exclude<keyof A, `$${string}`>];

/**
 * Goes through all pages of a list method, item by item. The next page is read when the one before has been gone through; whoever
 * leaves the loop reads no more. Each page is a call of its own, with a deadline of its own.
 *
 *     for await (const coupon of pages(client.catalog.listCoupons, { pageSize: 200 })) ...
 */
export async function* pages<Q extends object, A extends Page>(
  list: (request: Q, options?: CallOptions) => Promise<A>,
  request: Q & PageRequest,
  options?: CallOptions,
): AsyncGenerator<ItemOf<A>, void, undefined> {
  let pageToken = request.pageToken ?? "";
  for (;;) {
    const page = await list({ ...request, pageToken }, options);
    // A page may be empty and still not be the last one.
    yield* itemsOf(page);
    if (page.nextPageToken === "") return;
    if (page.nextPageToken === pageToken) throw new Error("the page names itself as the next one");
    pageToken = page.nextPageToken;
  }
}

function itemsOf<A extends Page>(page: A): ItemOf<A>[] {
  const list = Object.entries(page).find(([name, value]) => !name.startsWith("$") && Array.isArray(value));
  if (!list) throw new TypeError("the method answers no list");
  return list[1] as ItemOf<A>[];
}
