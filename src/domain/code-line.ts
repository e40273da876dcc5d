import type { CodeTerms } from "./code.js";
import { maxCodeLength } from "./code.js";
import { checkDiscount } from "./coupon.js";

/** Says that a field is wrong. */
export type Wrong = (field: string, description: string) => void;

/** What a code of one book may be. */
export interface TermRules {
  /** The book is a type pool, whose codes have no coupon's terms to fall back on. */
  readonly isTypePool: boolean;
  readonly now: Date;
}

const visible = /^[!-~]([ -~]*[!-~])?$/;
const letterOrDigit = /[A-Za-z0-9]/;
const mostBasisPoints = 10_000;
const mostMinorUnits = 1e15;
const mostUses = 1_000;
const mostHolders = 1_000_000;

/** Checks a code's own text. */
export function checkCode(code: string, wrong: Wrong): void {
  if (code === "") wrong("code", "is required");
  else if (code.length > maxCodeLength) wrong("code", `must have at most ${maxCodeLength} characters`);
  else if (!visible.test(code)) wrong("code", "must be visible ASCII characters, and spaces between them");
  else if (!letterOrDigit.test(code)) wrong("code", "must have a letter or a digit");
}

/** Checks what a code has of its own, single fields too: lines are not checked with their request. */
export function checkTerms(terms: CodeTerms, { isTypePool, now }: TermRules, wrong: Wrong): void {
  const { discount, expiresAt, maxUses, maxHolders } = terms;
  const wrongTerm: Wrong = (field, description) => wrong(`terms.${field}`, description);
  if (discount) {
    checkDiscount(discount, wrongTerm);
    const { kind, maximumAmount, minimumOrderAmount } = discount;
    if (kind.case === "percentage" && !isWithin(kind.basisPoints, mostBasisPoints)) {
      wrongTerm("discount.percentage_basis_points", `must be from 1 to ${mostBasisPoints}`);
    }
    const amounts = {
      fixed_amount: kind.case === "fixedAmount" ? kind.amount : null,
      maximum_amount: maximumAmount,
      minimum_order_amount: minimumOrderAmount,
    };
    for (const [field, amount] of Object.entries(amounts)) {
      if (amount && amount.minorUnits > mostMinorUnits) {
        wrongTerm(`discount.${field}.minor_units`, "must be at most 10^15");
      }
    }
  } else if (isTypePool) {
    wrongTerm("discount", "is required in the pool of a type");
  }
  if (expiresAt && expiresAt <= now) wrongTerm("expire_time", "must be in the future");
  if (!expiresAt && isTypePool) wrongTerm("expire_time", "is required in the pool of a type");
  if (maxUses !== null && !isWithin(maxUses, mostUses)) wrongTerm("max_uses", `must be from 1 to ${mostUses}`);
  if (!isWithin(maxHolders, mostHolders)) wrongTerm("max_holders", `must be from 1 to ${mostHolders}`);
}

function isWithin(value: number, most: number): boolean {
  return value >= 1 && value <= most;
}
