import { expect, test } from "vitest";
import { TurnBatch } from "../../src/storage/postgres/turn-batch.js";

function doubling(maxAsks: number) {
  const batches: (readonly number[])[] = [];
  const batch = new TurnBatch<number, number>(maxAsks, async (asks) => {
    batches.push(asks);
    if (asks.includes(13)) throw new Error("thirteen");
    return asks.map((ask) => ask * 2);
  });
  return { batch, batches };
}

test("asks of one turn go together, at most as many as are allowed, each with its own answer", async () => {
  const { batch, batches } = doubling(3);
  const asks = [1, 2, 3, 4, 5, 6, 7];
  expect(await Promise.all(asks.map((ask) => batch.add(ask)))).toEqual(asks.map((ask) => ask * 2));
  expect(batches).toEqual([[1, 2, 3], [4, 5, 6], [7]]);
});

test("an ask of a later turn goes with others", async () => {
  const { batch, batches } = doubling(3);
  await batch.add(1);
  await batch.add(2);
  expect(batches).toEqual([[1], [2]]);
});

test("a failure reaches everybody in the batch, and nobody else", async () => {
  const { batch } = doubling(2);
  const answers = await Promise.allSettled([1, 13, 2].map((ask) => batch.add(ask)));
  expect(answers.map(({ status }) => status)).toEqual(["rejected", "rejected", "fulfilled"]);
});
