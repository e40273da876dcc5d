import { setTimeout as sleep } from "node:timers/promises";
import { Channels } from "../load/channels.js";
import type { Replica } from "../support/replica.js";

/** How long a service may take to come to itself. */
const limitMs = 5_000;
const quickAnswers = 10;
const quickMs = 10;
const lookEveryMs = 40;
/** A HealthCheckResponse with status SERVING. */
const serving = Buffer.from([0x08, 0x01]);

/** Whether both ports answer a new connection, and say that the service is ready, within the time. */
export async function isAlive(replica: Replica): Promise<boolean> {
  const untilMs = Date.now() + limitMs;
  while (Date.now() < untilMs && replica.ended() === undefined) {
    const both = Promise.all([health(replica), ready(replica)]).then((answers) => answers.every(Boolean));
    const leftMs = untilMs - Date.now();
    if (await Promise.race([both, sleep(leftMs, false, { ref: false })])) return true;
    await sleep(lookEveryMs);
  }
  return false;
}

/** Whether what a weapon left behind is done with: answers come at once again, many times in a row. */
export async function isCalm({ target }: Replica): Promise<boolean> {
  const channels = new Channels({ targets: [target], connectionsPerTarget: 1 });
  const untilMs = Date.now() + limitMs;
  let quick = 0;
  while (quick < quickAnswers && Date.now() < untilMs) {
    const sentAtMs = performance.now();
    const answer = await check(channels);
    quick = answer && performance.now() - sentAtMs < quickMs ? quick + 1 : 0;
    await sleep(lookEveryMs);
  }
  channels.close();
  return quick === quickAnswers;
}

async function health({ target }: Replica): Promise<boolean> {
  const channels = new Channels({ targets: [target], connectionsPerTarget: 1 });
  const answer = await check(channels);
  channels.close();
  return answer?.equals(serving) ?? false;
}

function check(channels: Channels): Promise<Buffer | undefined> {
  return new Promise((resolve) => {
    channels.send("/grpc.health.v1.Health/Check", Buffer.alloc(0), limitMs, (_, response) => resolve(response));
  });
}

async function ready({ httpPort }: Replica): Promise<boolean> {
  const answer = fetch(`http://127.0.0.1:${httpPort}/readyz`, { signal: AbortSignal.timeout(limitMs) });
  return await answer.then(
    ({ status }) => status === 200,
    () => false,
  );
}
