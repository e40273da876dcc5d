import { expect, test } from "vitest";
import { StoreUnavailable } from "../../src/domain/refusal.js";
import { TurnBatch } from "../../src/storage/postgres/turn-batch.js";

function doubling(maxItems: number, maxWeight = Number.POSITIVE_INFINITY) {
  const batches: (readonly number[])[] = [];
  const batch = new TurnBatch<number, number>({
    maxItems,
    weight: { of: (item) => item, max: maxWeight },
    run: async (items) => {
      batches.push(items);
      if (items.includes(13)) throw new Error("thirteen");
      if (items.includes(14)) throw new StoreUnavailable("away");
      if (items.includes(15)) throw Object.assign(new Error("no answer"), { code: "ECONNRESET" });
      return items.map((item) => item * 2);
    },
  });
  return { batch, batches };
}

test("items of one turn go together, at most as many as are allowed, each with its own answer", async () => {
  const { batch, batches } = doubling(3);
  const items = [1, 2, 3, 4, 5, 6, 7];
  expect(await Promise.all(items.map((item) => batch.add(item)))).toEqual(items.map((item) => item * 2));
  expect(batches).toEqual([[1, 2, 3], [4, 5, 6], [7]]);
});

test("an item of a later turn goes with others", async () => {
  const { batch, batches } = doubling(3);
  await batch.add(1);
  await batch.add(2);
  expect(batches).toEqual([[1], [2]]);
});

test("asks go together only as long as they are not too much work, and what is too much by itself goes alone", async () => {
  const { batch, batches } = doubling(9, 10);
  const items = [4, 6, 1, 99, 5, 5, 1];
  expect(await Promise.all(items.map((item) => batch.add(item)))).toEqual(items.map((item) => item * 2));
  expect(batches).toEqual([[4, 6], [1], [99], [5, 5], [1]]);
});

test.for([[13, 1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 4, 5, 6, 7, 13], [1, 13, 2], [13, 1, 13, 2, 13], [13]])(
  "an item that makes a query fail leaves the others of the query alone: %s",
  async (items) => {
    const { batch } = doubling(8);
    const answers = await Promise.allSettled(items.map((item) => batch.add(item)));
    expect(answers.map((answer) => (answer.status === "fulfilled" ? answer.value : answer.reason.message))).toEqual(
      items.map((item) => (item === 13 ? "thirteen" : item * 2)),
    );
  },
);

test.for([14, 15])("a store that is away is not asked again, and everybody is told so: %s", async (away) => {
  const { batch, batches } = doubling(8);
  const answers = await Promise.allSettled([1, away, 2].map((item) => batch.add(item)));
  expect(answers.map(({ status }) => status)).toEqual(["rejected", "rejected", "rejected"]);
  expect(batches.length).toBe(1);
});
