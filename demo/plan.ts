import { seededRandom } from "./seeded-random.js";

/** The shares of requests that come from somebody who has asked before. */
const secondAskShare = 0.05;
const retryShare = 0.05;
/** How long after the first request such a one comes. */
const earliestEchoMs = 200;
const latestEchoMs = 1_000;
/** How often a random earlier user is looked for who has not come back yet. */
const maxPicks = 8;

export interface PlanOptions {
  readonly seed: number;
  readonly requests: number;
  readonly requestsPerSecond: number;
}

/** Who sends what when: a pure function of its options, so every process that knows them has the same plan. */
export interface Plan {
  readonly count: number;
  /** Request n comes from the user whose first request has this number; his own number for a first request. */
  readonly userOf: Uint32Array;
  /** Request n repeats the request with this number: the same request id. Its own number when it is a new request. */
  readonly intentOf: Uint32Array;
  readonly users: number;
  dueMs(request: number): number;
}

export function makePlan({ seed, requests, requestsPerSecond }: PlanOptions): Plan {
  const random = seededRandom(seed);
  const userOf = new Uint32Array(requests);
  const intentOf = new Uint32Array(requests);
  const cameBack = new Set<number>();
  const earliest = Math.ceil((earliestEchoMs * requestsPerSecond) / 1_000);
  const latest = Math.floor((latestEchoMs * requestsPerSecond) / 1_000);

  const earlierUser = (request: number): number | undefined => {
    for (let pick = 0; pick < maxPicks; pick += 1) {
      const candidate = request - earliest - Math.floor(random() * (latest - earliest + 1));
      if (candidate >= 0 && userOf[candidate] === candidate && !cameBack.has(candidate)) return candidate;
    }
    return undefined;
  };

  let users = 0;
  for (let request = 0; request < requests; request += 1) {
    const draw = random();
    const user = draw < secondAskShare + retryShare ? earlierUser(request) : undefined;
    if (user === undefined) users += 1;
    else cameBack.add(user);
    userOf[request] = user ?? request;
    intentOf[request] = draw < retryShare ? (user ?? request) : request;
  }
  return { count: requests, userOf, intentOf, users, dueMs: (request) => (request * 1_000) / requestsPerSecond };
}

/** The name of a user, as a platform would hand it over. */
export function userIdOf(seed: number, user: number): string {
  return `rider-${seed}-${user}`;
}
