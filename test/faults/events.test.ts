import { randomUUID } from "node:crypto";
import { expect, onTestFinished, test } from "vitest";
import { EventService } from "../../gen/coupon/v1/event_service_pb.js";
import { createSample, issue } from "../e2e/samples.js";
import { CallError } from "../support/clients.js";
import { twoReplicas } from "../support/service.js";

const scale = Number(process.env.FAULT_SCALE ?? 0.1);
/** Streams that are cut off, one after the other. */
const cuts = Math.max(5, Math.round(100 * scale));
const writers = 4;
const { watchEvents } = EventService.method;

test("a watcher that is cut off again and again, and goes on with any replica, gets every event once and in order", async () => {
  const { clients, sql } = await twoReplicas(onTestFinished);
  const coupon = await createSample(clients[0], { quantity: 1_000_000n });
  let isWriting = true;
  const writing = Promise.all([
    ...Array.from({ length: writers }, async (_, writer) => {
      while (isWriting) await issue(clients[writer % 2] as never, coupon.id, randomUUID());
    }),
    // Its events have lower numbers than others that are committed before it.
    (async () => {
      while (isWriting)
        await sql.begin(async (tx) => {
          await tx`INSERT INTO events (kind, happened_at, coupon_id) VALUES ('COUPON_UPDATED', now(), ${coupon.id})`;
          await tx`SELECT pg_sleep(0.05)`;
        });
    })(),
  ]);

  const seen: string[] = [];
  let cursor = "";
  /** Reads so many messages that have events, and then cuts the stream off. */
  const watch = async (client: (typeof clients)[number], messages: number, until?: string) => {
    let left = messages;
    try {
      for await (const message of client.stream(watchEvents, cursor ? { cursor } : { fromBeginning: true })) {
        // What was read last but not dealt with is read again.
        if (left === 0) return;
        seen.push(...message.events.map(({ id }) => id));
        ({ cursor } = message);
        if (until !== undefined && seen.includes(until)) return;
        if (message.events.length > 0) left -= 1;
      }
    } catch (error) {
      if (!(error instanceof CallError && error.reason === "WATCH_ENDED")) throw error;
    }
  };
  for (let cut = 0; cut < cuts; cut++) await watch(clients[cut % 2] as never, 1 + (cut % 2));
  isWriting = false;
  await writing;
  const stored = await sql`SELECT seq || '-' || xid AS id FROM events ORDER BY seq`;
  await watch(clients[0], Number.POSITIVE_INFINITY, stored.at(-1)?.id);

  expect(stored.length).toBeGreaterThan(cuts);
  expect(seen).toEqual(stored.map(({ id }) => id));
});
