import { once } from "node:events";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { issueMethod } from "../../rows/coupons.js";
import { callHeaders, flag, frame, frameType, RawConnection } from "../frames.js";
import type { Field, Weapon } from "../weapon.js";

const slowCalls = 500;
const slowByteMs = 1_000;
const streamsPerConnection = 50;
const messageBytes = 1_000;
const envelope = Buffer.alloc(5 + messageBytes);
envelope.writeUInt32BE(messageBytes, 1);

export const slowBody: Weapon = {
  name: "slow-body",
  what: `${slowCalls} calls, half over HTTP/1.1 and half over native gRPC, whose messages come a byte a second`,
  // Long enough to see calls end that have had ten seconds for their message.
  seconds: 12,
  async fire(field) {
    await field.begin();
    const http1 = Array.from({ length: slowCalls / 2 }, () => slowHttp1(field));
    const grpc = Array.from({ length: slowCalls / 2 / streamsPerConnection }, () => slowGrpc(field));
    const standing = (await Promise.all([...http1, ...grpc])).reduce((sum, one) => sum + one, 0);
    field.note(`${standing} of ${slowCalls} were still sending after ${this.seconds} s`);
  },
};

/** Answers how many were still open at the end. */
async function slowHttp1(field: Field): Promise<number> {
  // They do not all send in the same moment.
  await sleep(Math.random() * slowByteMs);
  const socket = connect({ port: field.httpPort, host: "127.0.0.1", noDelay: true });
  socket.on("error", () => {});
  socket.on("data", () => {});
  await Promise.race([once(socket, "connect"), once(socket, "close")]).catch(() => {});
  const headers = `host: x\r\ncontent-type: application/json\r\ncontent-length: ${messageBytes}`;
  socket.write(`POST ${issueMethod} HTTP/1.1\r\n${headers}\r\n\r\n`);
  while (socket.writable && Date.now() < field.untilMs) {
    socket.write(" ");
    await sleep(slowByteMs);
  }
  const standing = socket.writable;
  field.tally.add(standing ? "STANDING" : "ENDED");
  socket.destroy();
  return standing ? 1 : 0;
}

/** The same for the streams of one connection. */
async function slowGrpc(field: Field): Promise<number> {
  await sleep(Math.random() * slowByteMs);
  const headers = callHeaders(issueMethod, "application/grpc");
  const open = new Set(Array.from({ length: streamsPerConnection }, (_, index) => 1 + 2 * index));
  const connection = await RawConnection.open(field.grpcPort, ({ type, flags, streamId }) => {
    const ends = type === frameType.rstStream || (type <= frameType.headers && (flags & flag.endStream) !== 0);
    if (ends && open.delete(streamId)) field.tally.add("ENDED");
  }).catch(() => undefined);
  for (const id of open) connection?.write(frame(frameType.headers, flag.endHeaders, id, headers));
  for (let sent = 0; connection?.isOpen && Date.now() < field.untilMs; sent += 1) {
    const byte = envelope.subarray(sent, sent + 1);
    for (const id of open) connection.write(frame(frameType.data, 0, id, byte));
    await sleep(slowByteMs);
  }
  const standing = connection?.isOpen ? open.size : 0;
  for (let left = open.size; left > 0; left -= 1) field.tally.add(standing > 0 ? "STANDING" : "ENDED");
  connection?.destroy();
  return standing;
}
