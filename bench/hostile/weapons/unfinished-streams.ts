import { setTimeout as sleep } from "node:timers/promises";
import { issueMethod } from "../../rows/coupons.js";
import { callHeaders, code, type Frame, flag, frame, frameType, RawConnection } from "../frames.js";
import { cut } from "../outcomes.js";
import type { Field, Weapon } from "../weapon.js";

/** Streams that begin and never end. Each waits for its message, and its state with it. */

const connections = 10;
const streamsEach = 9_900;
/** New ones on each connection in each round. All are open after five seconds: more at once would measure how fast streams are opened, not what they hold. */
const burst = 20;
const roundMs = 10;
const seconds = 6;

export const unfinishedStreams: readonly Weapon[] = [
  weaponOf("unfinished-grpc", "native gRPC", "application/grpc", (field) => field.grpcPort),
  weaponOf("unfinished-http", "the HTTP port", "application/json", (field) => field.httpPort),
];

function weaponOf(name: string, where: string, contentType: string, portOf: (field: Field) => number): Weapon {
  return {
    name,
    what: `${where}: ${connections * streamsEach} streams that send headers and no end, over ${connections} connections`,
    seconds,
    async fire(field) {
      await field.begin();
      const open = Array.from({ length: connections }, () => hold(field, portOf(field), contentType));
      const standing = (await Promise.all(open)).reduce((sum, one) => sum + one, 0);
      field.note(`${standing} streams stood at the end`);
    },
  };
}

/** Opens the streams of one connection, and keeps them until the time is up. Answers how many stood then. */
async function hold(field: Field, port: number, contentType: string): Promise<number> {
  const headers = callHeaders(issueMethod, contentType);
  let ended = 0;
  const end = (outcome: string) => {
    ended += 1;
    field.tally.add(outcome);
  };
  const connection = await RawConnection.open(port, (heard) => {
    if (endsStream(heard)) end(endingOf(heard));
  }).catch(() => undefined);
  const beganAtMs = Date.now();
  let sent = 0;
  while (connection?.isOpen && Date.now() < field.untilMs) {
    const due = Math.ceil((Date.now() - beganAtMs) / roundMs) * burst;
    const now = Math.max(0, Math.min(due, streamsEach) - sent);
    const streams = Array.from({ length: now }, (_, index) => 1 + 2 * (sent + index));
    connection.write(Buffer.concat(streams.map((id) => frame(frameType.headers, flag.endHeaders, id, headers))));
    sent += now;
    await sleep(roundMs);
  }
  const standing = connection?.isOpen ? sent - ended : 0;
  if (!connection?.isOpen) field.tally.add(cut);
  connection?.destroy();
  return standing;
}

function endsStream({ type, flags }: Frame): boolean {
  if (type === frameType.rstStream) return true;
  return (type === frameType.headers || type === frameType.data) && (flags & flag.endStream) !== 0;
}

function endingOf({ type, payload }: Frame): string {
  if (type !== frameType.rstStream) return "ANSWERED";
  return payload.readUInt32BE() === code.refusedStream ? "REFUSED_STREAM" : `RESET ${payload.readUInt32BE()}`;
}
