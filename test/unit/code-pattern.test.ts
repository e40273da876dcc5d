import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { codeKey } from "../../src/domain/code.js";
import {
  type CodePattern,
  checkPattern,
  codeAt,
  PatternError,
  parsePattern,
  randomCode,
} from "../../src/domain/code-pattern.js";
import { randomBelow } from "../../src/platform/random-numbers.js";

function parsed(text: string): CodePattern {
  const pattern = parsePattern(text);
  if (pattern instanceof PatternError) throw new Error(pattern.description);
  return pattern;
}

describe("a pattern is read", () => {
  const good: [string, RegExp, number][] = [
    ["#", /^[0-9]$/, 10],
    ["?", /^[A-Z]$/, 26],
    ["*", /^[A-Z0-9]$/, 36],
    ["RIDE-*{4}-*{4}", /^RIDE-[A-Z0-9]{4}-[A-Z0-9]{4}$/, 36 ** 8],
    ["[2-9A-HJ-NP-Z]{2}", /^[2-9A-HJ-NP-Z]{2}$/, 32 ** 2],
    ["a b_c./-1#", /^a b_c\.\/-1[0-9]$/, 10],
    ["[a-c]", /^[abc]$/, 3],
    ["x[-a]", /^x[-a]$/, 2],
    ["x[a-]", /^x[-a]$/, 2],
    ["x[a-c-]", /^x[abc-]$/, 4],
    ["A[ ./_]#", /^A[ ./_][0-9]$/, 40],
    ["[A]{3}", /^AAA$/, 1],
    ["[5-5]", /^5$/, 1],
    ["\\#\\\\\\[#", /^#\\\[[0-9]$/, 10],
    ["\\A{1}".slice(0, 2), /^A$/, 1],
    ["#{64}", /^[0-9]{64}$/, 10 ** 64],
    ["a".repeat(64), /^a{64}$/, 1],
    ["#{10}".repeat(6), /^[0-9]{60}$/, 10 ** 60],
  ];
  test.for(good)("%s", ([text, shape, capacity]) => {
    const pattern = parsed(text);
    expect(pattern.capacity / capacity).toBeCloseTo(1);
    for (let n = 0; n < 50; n++) expect(randomCode(pattern, randomBelow)).toMatch(shape);
    expect(codeAt(pattern, capacity < 2 ** 53 ? capacity - 1 : 0)).toMatch(shape);
  });

  const bad: [string, string][] = [
    ["", "is required"],
    ["A!", "at 2:"],
    ["é", "at 1:"],
    ["AB\n", "at 3:"],
    ["A\u0000", "at 2:"],
    ["A]", "at 2:"],
    ["A}", "at 2:"],
    ["[A", 'at 1: "[" has no "]"'],
    ["AB[]", "at 3: [...] is empty"],
    ["[Z-A]", "at 2: Z-A is no range"],
    ["[A-z]", "at 2: A-z is no range"],
    ["[0-Z]", "at 2: 0-Z is no range"],
    ["[.-/]", "at 2: .-/ is no range"],
    ["[AB#]", "at 4:"],
    ["[^A]", "at 2:"],
    ["[\\A]", "at 2:"],
    ["[A-CB]", "at 1: [...] has a character twice"],
    ["A{2}", "at 2: {n} must stand after"],
    ["\\#{2}", "at 3: {n} must stand after"],
    ["{2}", "at 1:"],
    ["#{2}{2}", "at 5:"],
    ["#{}", "at 2:"],
    ["#{0}", "at 2:"],
    ["#{65}", "at 2:"],
    ["#{99999}", "at 2:"],
    ["#{1,2}", "at 2:"],
    ["#{-1}", "at 2:"],
    ["#{4", "at 2:"],
    ["AB\\", "at 3:"],
    ["\\é", "at 1:"],
    ["#{64}A", "makes codes of more than 64 characters"],
    ["a".repeat(65), "makes codes of more than 64 characters"],
    ["#{64}".repeat(40), "makes codes of more than 64 characters"],
  ];
  test.for(bad)("%s is none", ([text, description]) => {
    const error = parsePattern(text);
    expect(error).toBeInstanceOf(PatternError);
    expect((error as PatternError).description).toContain(description);
  });
});

describe("a pattern fits a book", () => {
  const rows: [string, boolean, number, string | null][] = [
    ["[a-zA-Z]{4}", true, 1, null],
    ["[a-zA-Z]{4}", false, 1, "at 1: [...] has a letter twice"],
    ["#[aA]", false, 1, "at 2: [...] has a letter twice"],
    ["#[-_]", false, 1, "at 2: the code book ignores separators"],
    ["#[-A]", false, 1, "at 2: the code book ignores separators"],
    ["#[-A]#", true, 200, null],
    ["#[-]#", false, 100, null],
    ["#-#", false, 100, null],
    ["#[/A]", false, 20, null],
    ["aB#", false, 10, null],
    ["##", false, 100, null],
    ["##", false, 101, "can make only 100 different codes"],
    ["##", true, 101, "can make only 100 different codes"],
    ["ABC", false, 2, "can make only 1 different codes"],
    ["*{64}", false, 1_000_000, null],
    [" #", false, 1, "at 1: a code cannot begin or end with a space"],
    ["#[ A]", true, 1, "at 2: a code cannot begin or end with a space"],
    ["#\\ ", true, 1, "at 2: a code cannot begin or end with a space"],
    ["# #", true, 1, null],
    ["-_-", false, 1, "needs a character that is always a letter or a digit"],
    ["\\#[-A]", true, 1, "needs a character that is always a letter or a digit"],
  ];
  test.for(rows)("%s, told apart exactly: %s, %i of them: %s", ([text, exactMatch, count, expected]) => {
    const said = checkPattern(parsed(text), exactMatch, count);
    if (expected === null) expect(said).toBeNull();
    else expect(said).toContain(expected);
  });
});

test("what passes has as many different codes as it says, where the book looks at them", () => {
  const part = fc.constantFrom(
    "#",
    "?",
    "[A-C]",
    "[ab]",
    "[aB9]",
    "[A-]",
    "[/_]",
    "-",
    "x",
    "\\.",
    "[a-cA]",
    "[XY]{2}",
    "_",
  );
  const patterns = fc.array(part, { minLength: 1, maxLength: 4 }).map((parts) => parts.join(""));
  fc.assert(
    fc.property(patterns, fc.boolean(), (text, exactMatch) => {
      const pattern = parsed(text);
      fc.pre(pattern.capacity <= 3_000 && checkPattern(pattern, exactMatch, 1) === null);
      const codes = Array.from({ length: pattern.capacity }, (_, index) => codeAt(pattern, index));
      expect(new Set(codes.map((code) => codeKey(code, exactMatch))).size).toBe(pattern.capacity);
    }),
  );
});

test("each code is drawn about as often as any other", () => {
  const pattern = parsed("[A-G]#");
  const draws = 70_000;
  const counts = new Map<string, number>();
  for (let n = 0; n < draws; n++) {
    const code = randomCode(pattern, randomBelow);
    counts.set(code, (counts.get(code) ?? 0) + 1);
  }
  const expected = draws / pattern.capacity;
  const chiSquare = [...counts.values()].reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
  expect(counts.size).toBe(70);
  // 69 degrees of freedom: once in a million runs it is past 141.
  expect(chiSquare).toBeLessThan(141);
});
