import { randomInt } from "node:crypto";
import { createServer } from "node:net";

/**
 * Below the range from which systems take ports for outgoing connections. A server that died must be able to come back
 * on its port, while its clients keep trying to connect to it: inside that range, one of them could be given the very
 * port that it calls, connect to itself and hold the port.
 */
const firstPort = 20_000;
const lastPort = 29_999;
const maxTries = 200;

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen({ host: "127.0.0.1", port, exclusive: true }, () => server.close(() => resolve(true)));
  });
}

/** A port of 127.0.0.1 that is free now. Another process can take it before its user does, so the user must retry. */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < maxTries; tries++) {
    const port = randomInt(firstPort, lastPort + 1);
    if (await isFree(port)) {
      return port;
    }
  }
  throw new Error(`Found no free port between ${firstPort} and ${lastPort} in ${maxTries} tries.`);
}
