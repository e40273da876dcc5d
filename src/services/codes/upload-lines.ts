import type { CodeLine } from "../../../gen/coupon/v1/catalog_service_pb.js";
import { codeKey, pickKey } from "../../domain/code.js";
import { checkCode, checkTerms, type TermRules } from "../../domain/code-line.js";
import type { Coupon } from "../../domain/coupon.js";
import type { FieldViolation } from "../../domain/refusal.js";
import { randomFraction } from "../../platform/random-numbers.js";
import { inSlices } from "../../platform/slices.js";
import type { CheckedLines, GoodLine, RejectedLine } from "../../storage/ports/codes.js";
import { termsOf } from "./code-terms.js";

/**
 * Characters of messages in one answer: clients take 4 MiB, and 50,000 lines may be wrong. When they are used up, a line gets
 * the path of its first wrong field only.
 */
const maxMessageCharacters = 512 * 1024;

/** Checks each line on its own. Of lines with the same code the first good one is taken. */
export async function checkLines(lines: readonly CodeLine[], book: Coupon, now: Date): Promise<CheckedLines> {
  const rules: TermRules = { isTypePool: book.isTypePool, now };
  const good: GoodLine[] = [];
  const rejected: RejectedLine[] = [];
  const keys = new Set<string>();
  let charactersLeft = maxMessageCharacters;
  const check = (line: number) => {
    const { code, terms: message } = lines[line - 1]!;
    const violations: FieldViolation[] = [];
    const wrong = (field: string, description: string) => violations.push({ field, description });
    checkCode(code, wrong);
    const terms = termsOf(message, violations);
    checkTerms(terms, rules, wrong);
    if (violations.length > 0) {
      const whole = violations.map(({ field, description }) => `${field}: ${description}`).join("; ");
      charactersLeft -= whole.length;
      rejected.push({ line, message: charactersLeft >= 0 ? whole : violations[0]!.field });
      return;
    }
    const key = codeKey(code, book.codeBook?.exactMatch ?? false);
    if (keys.has(key)) {
      rejected.push({ line, message: null });
      return;
    }
    keys.add(key);
    const picked = pickKey(randomFraction(), book.isTypePool ? terms.expiresAt : null);
    good.push({ line, code, key, pickKey: picked, terms });
  };
  await inSlices(lines.length, (from, to) => {
    for (let index = from; index < to; index++) check(index + 1);
  });
  return { good, rejected };
}
