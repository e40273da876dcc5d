import { grouped, rounded } from "../support/numbers.js";
import type { BystanderResult } from "./bystander.js";
import { cut, internalIn, spelled, sum, total, unanswered } from "./outcomes.js";
import { longestStall, mostRssBytes, type Sample } from "./samples.js";
import type { Fired, Weapon } from "./weapon.js";

/** What no weapon may do. */
const maxStallMs = 50;
const maxP99Ratio = 3;
/** Refused and cancelled uses, beside the rate of accepted ones. */
const leastRateRatio = 0.5;

const bytesPerMb = 1_024 * 1_024;

export interface Outcome {
  readonly weapon: string;
  /** The longest time that the service's event loop was held, and the same before the weapon was fired. */
  readonly stallMs: number;
  readonly stallQuietMs: number;
  /** How much processor the service had in its longest stall: what is missing, it waited for a core. */
  readonly stallCpuMs: number;
  /** Of the bystander's calls, with the weapon and before. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly p50QuietMs: number;
  readonly p99QuietMs: number;
  /** INTERNAL and UNKNOWN, told to weapon or bystander. */
  readonly internal: number;
  /** Calls of both that heard nothing in time, and those of the bystander that were cut off. */
  readonly unanswered: number;
  /** Calls of the bystander that were answered, but not with OK. */
  readonly bystanderRefused: number;
  readonly rssGrowthMb: number;
  /** Whether both ports answered afterwards. */
  readonly alive: boolean;
  /** How often health did not say SERVING. */
  readonly notServing: number;
  readonly weaponPerSecond: number;
  /** The weapon's rate beside that of accepted calls. */
  readonly rateRatio?: number;
  readonly weaponOutcomes: Readonly<Record<string, number>>;
  readonly bystanderOutcomes: Readonly<Record<string, number>>;
  readonly notes: readonly string[];
  /** What this weapon alone must not do, and did. */
  readonly ownMisses: readonly string[];
}

interface Measured {
  readonly weapon: Weapon;
  readonly bystander: BystanderResult;
  readonly fired: Fired;
  readonly before: readonly Sample[];
  readonly during: readonly Sample[];
  readonly alive: boolean;
  readonly referencePerSecond: number | undefined;
}

export function outcomeOf({ weapon, bystander, fired, before, during, alive, referencePerSecond }: Measured): Outcome {
  const { quiet, during: disturbed, notServing } = bystander;
  const perSecond = total(fired.outcomes) / fired.seconds;
  const stall = longestStall(during);
  const grownBytes = mostRssBytes(during) - (before.at(-1)?.rssBytes ?? 0);
  return {
    weapon: weapon.name,
    stallMs: rounded(stall.stallMs, 1),
    stallQuietMs: rounded(longestStall(before).stallMs, 1),
    stallCpuMs: rounded(stall.stallCpuMs, 1),
    p50Ms: disturbed.p50Ms,
    p99Ms: disturbed.p99Ms,
    p50QuietMs: quiet.p50Ms,
    p99QuietMs: quiet.p99Ms,
    internal: internalIn(fired.outcomes) + internalIn(disturbed.outcomes),
    unanswered: sum(fired.outcomes, [unanswered]) + sum(disturbed.outcomes, [unanswered, cut]),
    bystanderRefused: total(disturbed.outcomes) - sum(disturbed.outcomes, ["OK", unanswered, cut]),
    rssGrowthMb: rounded(Math.max(0, grownBytes) / bytesPerMb, 0),
    alive,
    notServing,
    weaponPerSecond: rounded(perSecond, 1),
    ...(referencePerSecond !== undefined && { rateRatio: rounded(perSecond / referencePerSecond, 3) }),
    weaponOutcomes: fired.outcomes,
    bystanderOutcomes: disturbed.outcomes,
    notes: [weapon.what, ...fired.notes],
    ownMisses: fired.misses,
  };
}

/** Which bounds a weapon makes the service miss. */
export function missesOf(outcome: Outcome): string[] {
  const { stallMs, internal, unanswered, bystanderRefused, alive, notServing, rateRatio, ownMisses } = outcome;
  const misses: (string | false)[] = [
    stallMs > maxStallMs && `stall of ${grouped(stallMs)} ms (at most ${maxStallMs})`,
    ratioOf(outcome) > maxP99Ratio && `p99 ${ratioOf(outcome).toFixed(1)} times the quiet one (at most ${maxP99Ratio})`,
    internal > 0 && `${grouped(internal)} times INTERNAL`,
    unanswered > 0 && `${grouped(unanswered)} calls without an answer`,
    bystanderRefused > 0 && `${grouped(bystanderRefused)} calls of the bystander were refused`,
    !alive && "the service did not answer afterwards",
    notServing > 0 && `health was not SERVING ${notServing} times`,
    rateRatio !== undefined &&
      rateRatio < leastRateRatio &&
      `${rateRatio} of the accepted rate (at least ${leastRateRatio})`,
  ];
  return [...misses.filter((miss) => miss !== false), ...ownMisses];
}

export function progressLine(outcome: Outcome, index: number, count: number): string {
  const { weapon, stallMs, stallCpuMs, p99Ms, p99QuietMs, weaponOutcomes } = outcome;
  const answers = spelled(weaponOutcomes) || "nothing was counted";
  const p99 = `p99 ${p99QuietMs.toFixed(1)} -> ${p99Ms.toFixed(1)} ms`;
  return `${`${index}/${count}`.padStart(5)} ${weapon.padEnd(18)} stall ${grouped(stallMs)} ms (${grouped(stallCpuMs)} of processor), ${p99}; the weapon heard: ${answers}`;
}

/** For people: one line a weapon, and what each is. */
export function drawTable(outcomes: readonly Outcome[]): string {
  const head = `  ${"".padEnd(18)}  stall ms  p50 ms   quiet   p99 ms   quiet   ratio  internal  unanswered  rss MB  alive  ok`;
  const lines = outcomes.map((outcome) => {
    const cells = [
      grouped(outcome.stallMs).padStart(8),
      outcome.p50Ms.toFixed(1).padStart(7),
      outcome.p50QuietMs.toFixed(1).padStart(6),
      outcome.p99Ms.toFixed(1).padStart(8),
      outcome.p99QuietMs.toFixed(1).padStart(6),
      ratioOf(outcome).toFixed(1).padStart(6),
      grouped(outcome.internal).padStart(8),
      grouped(outcome.unanswered).padStart(10),
      grouped(outcome.rssGrowthMb).padStart(6),
      (outcome.alive ? "yes" : "NO").padStart(5),
      missesOf(outcome).length === 0 ? "yes" : " NO",
    ];
    return `  ${outcome.weapon.padEnd(18)}  ${cells.join("  ")}`;
  });
  const explained = outcomes.map(({ weapon, notes, weaponOutcomes, bystanderOutcomes, rateRatio }) => {
    const rate = rateRatio === undefined ? [] : [`${rateRatio} of the rate of accepted uses`];
    const heard = [`it heard ${spelled(weaponOutcomes) || "nothing"}`, `others heard ${spelled(bystanderOutcomes)}`];
    return `  ${weapon}: ${[...notes, ...rate, ...heard].join("; ")}`;
  });
  return `${[head, ...lines].join("\n")}\n\n${explained.join("\n")}`;
}

function ratioOf({ p99Ms, p99QuietMs }: Outcome): number {
  return p99Ms / p99QuietMs;
}
