import { expect, test } from "vitest";
import { LargeMessages } from "../../src/transport/messages/large-messages.js";

const kib = 1_024;

const one = {};
const two = {};

test("small messages do not count, however many there are", () => {
  const messages = new LargeMessages(100 * kib);
  const all = Array.from({ length: 1_000 }, () => messages.open(one).add(4 * kib));
  expect(all).not.toContain(false);
});

test("what is past a small message counts until the call is over", () => {
  const messages = new LargeMessages(100 * kib);
  const first = messages.open(one);
  const second = messages.open(two);
  expect([first.add(4 * kib), first.add(50 * kib), second.add(54 * kib), second.add(1)]).toEqual([
    true,
    true,
    true,
    false,
  ]);
  first.close();
  first.close();
  const rest = messages.open(one);
  expect([rest.add(54 * kib), rest.add(1)]).toEqual([true, false]);
  second.close();
  expect(messages.open(two).add(54 * kib)).toBe(true);
});

test("one connection gets half of the memory at most, and has it again when its calls are over", () => {
  const messages = new LargeMessages(100 * kib);
  const calls = Array.from({ length: 5 }, () => messages.open(one));
  expect(calls.map((call) => call.add(14 * kib))).toEqual([true, true, true, true, true]);
  expect(messages.open(one).add(5 * kib)).toBe(false);
  expect(messages.open(two).add(54 * kib)).toBe(true);
  for (const call of calls) call.close();
  expect(messages.open(one).add(54 * kib)).toBe(true);
});

test("a message that has not arrived takes no memory, whatever it may become", () => {
  const messages = new LargeMessages(100 * kib);
  for (let call = 0; call < 1_000; call += 1) messages.open(one).add(1);
  expect(messages.open(one).add(54 * kib)).toBe(true);
});

test("what comes of a message whose call is over does not count any more, and is of no use", () => {
  const messages = new LargeMessages(100 * kib);
  for (let call = 0; call < 100; call += 1) {
    const message = messages.open({});
    message.close();
    expect(message.add(50 * kib)).toBe(false);
    message.close();
  }
  expect(messages.open(one).add(54 * kib)).toBe(true);
});
