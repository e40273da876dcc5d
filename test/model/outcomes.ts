import type { Answer, Call } from "./call.js";

/** How often each call had each outcome, over all lives. */
const outcomes = new Map<string, number>();

export function countOutcome(call: Call, answer: Answer, place = ""): void {
  const where = answer.isRetold ? `${place}asked again: ` : place;
  const count = (name: string) => outcomes.set(`${where}${name}`, (outcomes.get(`${where}${name}`) ?? 0) + 1);
  const outcome = answer.refused ?? (answer.replayed ? "replayed" : "done");
  switch (call.method) {
    case "issue":
      return void count(`issue by ${Object.keys(call.target)[0]}: ${outcome}`);
    case "use":
    case "lock":
    case "quote": {
      const isByCode = call.order.choices.some(({ code }) => code !== undefined);
      return void count(`${call.method}${isByCode ? " by code" : ""}: ${outcome}`);
    }
    case "purge": {
      const what = ["userCoupons", "codes"].filter((one) => Number(answer[one]) > 0).join(" and ");
      return void count(`purge${call.dryRun ? ", dry" : ""}: ${what || "nothing"}`);
    }
    case "listCodes":
      for (const { status } of (answer.codes ?? []) as { status: string }[]) count(`listCodes: ${status}`);
      return void count(`listCodes: ${outcome}`);
    case "runGenerator":
      for (const { state, failure } of answer.jobs as { state: string; failure: string }[])
        count(`runGenerator: ${state} ${failure}`);
      return;
    case "cancelJob":
      return void count(`cancelJob: ${answer.refused ?? answer.state}`);
    case "deleteCodes":
      for (const one of (answer.outcomes ?? []) as string[]) count(`deleteCodes: ${one}`);
      return void count(
        `deleteCodes${"id" in call.which ? ` of ${call.which.kind}` : ""}: ${answer.refused ?? `${answer.deleted} deleted`}`,
      );
    case "upload":
      for (const { problem } of (answer.rejected ?? []) as { problem: string }[]) count(`upload: ${problem}`);
      return void count(`upload${"type" in call.target ? " by type" : ""}: ${outcome}`);
    default:
      return void count(`${call.method}: ${outcome}`);
  }
}

export function countsOfOutcomes(): string {
  const lines = [...outcomes].sort().map(([name, count]) => `${String(count).padStart(7)} ${name}`);
  return lines.join("\n");
}
