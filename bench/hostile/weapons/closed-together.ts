import { setTimeout as sleep } from "node:timers/promises";
import { issueMethod } from "../../rows/coupons.js";
import { callHeaders, flag, frame, frameType, RawConnection } from "../frames.js";
import { cut } from "../outcomes.js";
import type { Field, Weapon } from "../weapon.js";

/** Connections with many open streams that are closed at the same moment, as when a proxy or a machine of clients dies. */

const connections = 60;
/** As many as a new connection may have. */
const streamsEach = 100;
/** New ones on each connection in each round: what is to be seen is how they end, not how they begin. */
const burst = 4;
const roundMs = 20;
/** For the last ones to be read, and between the end of one crowd and the beginning of the next. */
const settleMs = 400;

export const closedTogether: Weapon = {
  name: "closed-together",
  what: `native gRPC: ${connections} connections with ${streamsEach} open streams each are closed at once, again and again`,
  async fire(field) {
    await field.begin();
    let crowds = 0;
    while (Date.now() < field.untilMs) {
      const crowd = await Promise.all(Array.from({ length: connections }, () => open(field)));
      await sleep(settleMs);
      for (const connection of crowd) {
        if (!connection?.isOpen) field.tally.add(cut);
        connection?.destroy();
      }
      crowds += 1;
      await sleep(settleMs);
    }
    field.note(`${crowds} times all connections were closed`);
  },
};

async function open(field: Field): Promise<RawConnection | undefined> {
  const headers = callHeaders(issueMethod, "application/grpc");
  const connection = await RawConnection.open(field.grpcPort).catch(() => undefined);
  for (let sent = 0; connection?.isOpen && sent < streamsEach; sent += burst) {
    const ids = Array.from({ length: burst }, (_, index) => 1 + 2 * (sent + index));
    connection.write(Buffer.concat(ids.map((id) => frame(frameType.headers, flag.endHeaders, id, headers))));
    await sleep(roundMs);
  }
  return connection;
}
