import { parseArgs } from "node:util";
import { UsageError, wholeNumber } from "./support/numbers.js";

export const usage = `Usage: npm run bench -- [options]

  --rounds N             rounds; each runs every row once, the medians count (5)
  --seconds N            how long each row runs in a round (3)
  --rows a,b             only these rows; "hostile" and "holders" run only when named, without rounds
  --auth a,b             who calls, of off, traced, jwt, keys, limits: each row once for each of them, in turn; with off among
                         them, what of its issuing is left with the others (off)
  --weapons a,b          only these of the row "hostile"
  --generator own|ghz    what makes the load (ghz when it is on PATH, else own)
  --json                 ends with one JSON object on stdout; everything else goes to stderr`;

export interface BenchOptions {
  readonly rounds: number;
  readonly seconds: number;
  /** Undefined: all. */
  readonly rows: readonly string[] | undefined;
  /** Ways to prove who calls; at least one. */
  readonly auth: readonly string[];
  /** Of the row "hostile". Undefined: all. */
  readonly weapons: readonly string[] | undefined;
  /** Undefined: the best one there is. */
  readonly generator: "own" | "ghz" | undefined;
  readonly json: boolean;
}

const maxRounds = 100;
const maxSeconds = 30;

/** Undefined: help was asked for. */
export function parseOptions(
  args: readonly string[],
  rowNames: readonly string[],
  weaponNames: readonly string[],
  authNames: readonly string[],
): BenchOptions | undefined {
  const given = parse(args);
  if (given.help) return undefined;
  const { generator } = given;
  if (generator !== undefined && generator !== "own" && generator !== "ghz") {
    throw new UsageError(`--generator must be own or ghz; it is "${generator}".`);
  }
  return {
    rounds: wholeNumber("rounds", given.rounds ?? "5", 1, maxRounds),
    seconds: wholeNumber("seconds", given.seconds ?? "3", 1, maxSeconds),
    rows: listOf("rows", given.rows, rowNames),
    auth: listOf("auth", given.auth, authNames) ?? ["off"],
    weapons: listOf("weapons", given.weapons, weaponNames),
    generator,
    json: given.json === true,
  };
}

/** Undefined: the option was not given. */
function listOf(option: string, text: string | undefined, known: readonly string[]): string[] | undefined {
  const names = text?.split(",");
  const unknown = names?.find((name) => !known.includes(name));
  if (unknown !== undefined) throw new UsageError(`--${option} has "${unknown}"; there are: ${known.join(", ")}.`);
  return names;
}

function parse(args: readonly string[]) {
  const text = { type: "string" } as const;
  const flag = { type: "boolean" } as const;
  const options = {
    ...{ rounds: text, seconds: text, rows: text, auth: text, weapons: text, generator: text },
    ...{ json: flag, help: flag },
  };
  try {
    return parseArgs({ args: [...args], options, strict: true, allowPositionals: false }).values;
  } catch (error) {
    throw new UsageError(`${(error as Error).message}\n\n${usage}`);
  }
}
