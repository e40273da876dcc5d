import fc from "fast-check";
import { expect, test } from "vitest";
import { cut } from "../../src/platform/cut.js";

const pair = "\u{1f600}";

test.for([
  ["", 0, ""],
  ["abc", 3, "abc"],
  ["abc", 2, "ab"],
  ["abc", 0, ""],
  ["aé", 3, "aé"],
  ["aé", 2, "a"],
  ["a€", 3, "a"],
  [`a${pair}b`, 5, `a${pair}`],
  [`a${pair}b`, 4, "a"],
  [`a${pair}b`, 2, "a"],
  ["a\ud83d", 9, "a\ufffd"],
  ["a\ud83d", 4, "a\ufffd"],
  ["a\ud83d", 3, "a"],
  ["\ude00a", 4, "\ufffda"],
  ["a\0", 4, "a\ufffd"],
  ["a\0", 3, "a"],
] as const)("%j cut to %i bytes is %j", ([text, maxBytes, expected]) => {
  expect(cut(text, maxBytes)).toBe(expected);
});

test("is well formed, within its bytes, and the longest such beginning", () => {
  const unit = fc.constantFrom("a", "é", "€", pair, "\ud83d", "\ude00", "%", "\0");
  const text = fc.array(unit, { maxLength: 40 }).map((units) => units.join(""));
  fc.assert(
    fc.property(text, fc.nat(60), (whole, maxBytes) => {
      const kept = cut(whole, maxBytes);
      const told = whole.toWellFormed().replaceAll("\0", "\ufffd");
      expect(kept.isWellFormed()).toBe(true);
      expect(told.startsWith(kept)).toBe(true);
      expect(Buffer.byteLength(kept)).toBeLessThanOrEqual(maxBytes);
      const [next] = told.slice(kept.length);
      if (next !== undefined) expect(Buffer.byteLength(kept + next)).toBeGreaterThan(maxBytes);
    }),
    { numRuns: 2_000 },
  );
});
