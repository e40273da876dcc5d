import { grouped } from "../bench/support/numbers.js";
import type { Audit } from "./audit.js";
import type { CrowdReport } from "./crowd.js";
import type { Paint } from "./paint.js";

export interface Check {
  readonly passed: boolean;
  readonly question: string;
  readonly found: number;
  readonly expected: number;
}

/** Every single one must pass for the run to count. */
export function checksOf(quantity: number, crowd: CrowdReport, audit: Audit): Check[] {
  const check = (question: string, found: number, expected: number): Check => ({
    passed: found === expected,
    question,
    found,
    expected,
  });
  return [
    check("coupons that users were told they have", crowd.issued, quantity),
    check("rows in Postgres", audit.rowsInPostgres, quantity),
    check("users who hold more than one", audit.duplicateHolders, 0),
    check("coupons promised but not in Postgres", audit.acknowledgedButMissing, 0),
    check("issued after somebody was told SOLD_OUT", audit.issuedAfterSoldOut, 0),
    check("issued count that Postgres keeps", audit.issuedCountInPostgres, audit.rowsInPostgres),
    check("issued count that the API shows", audit.issuedCountInApi, audit.rowsInPostgres),
    check("issue events in Postgres", audit.issueEventsInPostgres, audit.rowsInPostgres),
    check(`wrong answers in ${grouped(audit.listsRead)} lists of users`, audit.wrongLists, 0),
    check("requests without a clear answer", crowd.errors + crowd.offered - crowd.completed, 0),
    check("answers that contradict each other", crowd.contradictions, 0),
  ];
}

export function drawVerdict(quantity: number, crowd: CrowdReport, checks: readonly Check[], paint: Paint): string {
  const widest = Math.max(...checks.map(({ question }) => question.length));
  const lines = checks.map(({ passed, question, found, expected }) => {
    const numbers = `${grouped(found).padStart(9)}   must be ${grouped(expected).padStart(6)}`;
    return `  ${passed ? paint.green("✓") : paint.red("✗")} ${question.padEnd(widest)} ${passed ? numbers : paint.red(numbers)}`;
  });
  const reasons = Object.entries(crowd.errorsByReason).map(([reason, count]) => `${reason} ${grouped(count)}`);
  const verdict = checks.every(({ passed }) => passed)
    ? `${paint.green(paint.bold("PASS"))}  ${grouped(quantity)} coupons went to ${grouped(quantity)} different users, every yes is in Postgres, everybody else got a clear no.`
    : `${paint.red(paint.bold("FAIL"))}  Something above is not what it must be.`;
  return [
    paint.bold("Audit, read back from Postgres and through the API:"),
    "",
    ...lines,
    ...(reasons.length > 0 ? ["", `  Errors: ${reasons.join(", ")}`] : []),
    "",
    verdict,
    "",
  ].join("\n");
}
