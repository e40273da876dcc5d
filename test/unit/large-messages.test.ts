import { expect, test } from "vitest";
import { LargeMessages } from "../../src/transport/large-messages.js";

const kib = 1_024;

test("small messages do not count, however many there are", () => {
  const messages = new LargeMessages(100 * kib);
  const all = Array.from({ length: 1_000 }, () => messages.open(false, 8_192 * kib).add(4 * kib));
  expect(all).not.toContain(false);
});

test("what is past a small message counts until the call is over", () => {
  const messages = new LargeMessages(100 * kib);
  const one = messages.open(false, 8_192 * kib);
  const two = messages.open(false, 8_192 * kib);
  expect([one.add(4 * kib), one.add(60 * kib), two.add(44 * kib), two.add(1)]).toEqual([true, true, true, false]);
  one.close();
  one.close();
  const rest = messages.open(false, 8_192 * kib);
  expect([two.add(61 * kib), rest.add(4 * kib + 1)]).toEqual([false, true]);
  two.close();
  expect(messages.open(false, 8_192 * kib).add(103 * kib)).toBe(true);
});

test("what is compressed counts as what it may become, up to the limit", () => {
  const messages = new LargeMessages(8_192 * kib);
  const ordinary = messages.open(true, 64 * kib);
  const large = messages.open(true, 8_192 * kib);
  expect([ordinary.add(4), large.add(100 * kib), messages.open(true, 8_192 * kib).add(kib)]).toEqual([
    true,
    true,
    false,
  ]);
});
