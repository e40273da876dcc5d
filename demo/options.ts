import { parseArgs } from "node:util";
import { grouped, UsageError, wholeNumber } from "../bench/support/numbers.js";

export const usage = `Usage: npm run demo -- [options]

  --rate N       requests offered per second (1,500)
  --requests N   requests offered in all (20,000, or twice --quantity)
  --quantity N   coupons to give away (10,000)
  --replicas N   processes of the service (2)
  --restart      restarts the replicas one by one in the middle of the sale
  --restore      restores a backup after the sale, and audits what was restored as well
  --seed N       repeats a former run's crowd (random)
  --json         ends with one JSON object on stdout; everything else goes to stderr`;

export interface DemoOptions {
  readonly requestsPerSecond: number;
  readonly requests: number;
  readonly quantity: number;
  readonly replicas: number;
  readonly restart: boolean;
  readonly restore: boolean;
  readonly seed: number;
  readonly json: boolean;
}

const defaultRequests = 20_000;
const maxRequestsPerSecond = 20_000;
const maxRequests = 1_000_000;
const maxReplicas = 8;
const maxSeed = 2 ** 32 - 1;

/** Undefined: help was asked for. */
export function parseOptions(args: readonly string[]): DemoOptions | undefined {
  const given = parse(args);
  if (given.help) return undefined;
  const number = (option: string, text: string | undefined, fallback: number, max: number, min = 1) =>
    text === undefined ? fallback : wholeNumber(option, text, min, max);
  const quantity = number("quantity", given.quantity, 10_000, maxRequests / 2);
  const requests = number("requests", given.requests, Math.max(defaultRequests, quantity * 2), maxRequests);
  if (requests <= quantity) {
    throw new UsageError(
      `--requests (${grouped(requests)}) must be above --quantity (${grouped(quantity)}): somebody has to go away empty.`,
    );
  }
  return {
    requestsPerSecond: number("rate", given.rate, 1_500, maxRequestsPerSecond),
    requests,
    quantity,
    replicas: number("replicas", given.replicas, 2, maxReplicas),
    seed: number("seed", given.seed, Math.floor(Math.random() * (maxSeed + 1)), maxSeed, 0),
    restart: given.restart === true,
    restore: given.restore === true,
    json: given.json === true,
  };
}

function parse(args: readonly string[]) {
  const text = { type: "string" } as const;
  const flag = { type: "boolean" } as const;
  const options = {
    rate: text,
    requests: text,
    quantity: text,
    replicas: text,
    seed: text,
    restart: flag,
    restore: flag,
    json: flag,
    help: flag,
  };
  try {
    return parseArgs({ args: [...args], options, strict: true, allowPositionals: false }).values;
  } catch (error) {
    throw new UsageError(`${(error as Error).message}\n\n${usage}`);
  }
}
