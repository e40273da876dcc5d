import type { EventPosition } from "../domain/event.js";

/** The form of a cursor, for a release that has another one. */
const form = "1";
const text = /^1 (0|[1-9][0-9]{0,15}) ((?:[1-9][0-9]{0,19})?)$/;

/** A position as callers have it. It says nothing of the server that made it: they may go on with any replica. */
export function cursorOf({ seq, xid }: EventPosition): string {
  return Buffer.from(`${form} ${seq} ${xid}`, "latin1").toString("base64url");
}

/** undefined: it is no cursor. */
export function positionOf(cursor: string): EventPosition | undefined {
  const found = text.exec(Buffer.from(cursor, "base64url").toString("latin1"));
  return found ? { seq: Number(found[1]), xid: found[2] as string } : undefined;
}
