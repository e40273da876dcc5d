import { inspect } from "node:util";
import { expect } from "vitest";
import { countedStats, miscounted } from "../support/counted-stats.js";
import type { Answer, Call } from "./call.js";
import { reads } from "./commands.js";
import type { EventStream } from "./event-stream.js";
import { differences, factsOf, storedOf } from "./facts.js";
import type { Model } from "./model.js";
import { readCall } from "./reads.js";
import type { Replica, Service } from "./service.js";
import { type EventFollower, filters, listEvents, wrongEvents } from "./told-events.js";
import { listRecords, recordFilters, wrongRecords } from "./told-records.js";

/** A coupon that could not be loaded again for a moment can be after this long. */
const reloadPauseMs = 260;
/** How often two sweeps are tried. */
const maxSweepAttempts = 3;

/** A life when all has been done. */
export interface Lived {
  readonly service: Service;
  readonly model: Model;
  /** How many calls there were: chooses what is looked at. */
  readonly turn: number;
  readonly caller: string;
  readonly follower: EventFollower;
  readonly stream: EventStream | null;
  nextReplica(): Replica;
  /** Makes a call, and holds the answer against the model. */
  call(call: Call): Promise<void>;
}

/** Postgres has what callers were told, no more and no less, and the gate counts the same. */
export async function checkBooks(life: Lived): Promise<void> {
  const { sql } = life.service.clocked;
  const differing = differences(await storedOf(sql, life.model.state.now, life.caller), factsOf(life.model));
  if (differing.length > 0) throw new Error(`what is stored differs:\n${differing.join("\n")}`);
  const miscounts = await miscounted(sql);
  if (miscounts.length > 0) throw new Error(`counters differ from what they count: ${inspect(miscounts)}`);
  await checkReports(life);
  await checkEvents(life);
  await checkRecords(life);
  await life.service.settled();
  await checkGate(life, false);
  for (let attempt = 0; attempt < maxSweepAttempts; attempt++) {
    for (let round = 0; round < 2; round++) await life.service.replicas[0].keeper.sweep();
    await life.service.settled();
    if (await isGateExact(life)) break;
    await new Promise((resolve) => setTimeout(resolve, reloadPauseMs));
  }
  await checkGate(life, true);
  expect(life.service.reported, inspect(life.service.reported)).toEqual([]);
}

/** What is told of codes and in numbers is what happened, and the numbers are those of the rows. */
async function checkReports(life: Lived): Promise<void> {
  const { coupons } = life.model.state;
  for (const { id } of coupons) {
    await life.call({ method: "listCodes", couponId: id, statuses: [] });
    await life.call({ method: "getStats", scope: { couponId: id } });
    const { readAt: _, ...said } = life.model.apply({ method: "getStats", scope: { couponId: id } }, {});
    expect(await countedStats(life.service.clocked.sql, id), "rows").toEqual(said);
  }
  const call = readCall(
    { kind: "read", what: reads[life.turn % reads.length] as (typeof reads)[0], pick: life.turn },
    life.model,
  );
  if (call) await life.call(call);
  for (const type of ["FREE", "STANDARD", "MEGADEAL"] as const)
    await life.call({ method: "getStats", scope: { type } });
  await life.call({ method: "getStats", scope: null });
}

/** Readers are told of each change once, and in order. */
async function checkEvents(life: Lived): Promise<void> {
  const all = await listEvents(life.nextReplica());
  await life.follower.follow(life.nextReplica());
  expect(life.follower.ids, "who reads while events come misses none").toEqual(idsOf(all));
  if (life.stream) {
    const { asked, isMet } = life.stream.wanted;
    const wanted = idsOf(all.filter(isMet));
    await life.stream.hasTold(wanted.length);
    expect(life.stream.ids, `who watches events misses none: ${inspect(asked)}`).toEqual(wanted);
  }
  const wrong = wrongEvents(all, life.model);
  if (wrong.length > 0) throw new Error(`what is told of events is wrong:\n${wrong.join("\n")}`);
  const { coupons, userCoupons } = life.model.state;
  const wanted = filters(coupons.at(-1)?.id ?? "", userCoupons.at(-1)?.userId ?? "nobody");
  const pick = wanted[life.turn % wanted.length] as (typeof wanted)[0];
  const found = await listEvents(life.nextReplica(), pick.asked);
  expect(idsOf(found), inspect(pick.asked)).toEqual(idsOf(all.filter(pick.isMet)));
}

/** Each change by an administrator is on record once, with what was before and after. */
async function checkRecords(life: Lived): Promise<void> {
  const principal = life.caller;
  const all = await listRecords(life.nextReplica(), { principal });
  const wrong = wrongRecords(all, life.model);
  if (wrong.length > 0) throw new Error(`what is on record is wrong:\n${wrong.join("\n")}`);
  const some = all[life.turn % Math.max(1, all.length)];
  if (!some) return;
  const wanted = recordFilters(some);
  const { asked, isMet } = wanted[life.turn % wanted.length] as (typeof wanted)[0];
  const found = await listRecords(life.nextReplica(), { ...asked, principal });
  expect(idsOf(found), inspect(asked)).toEqual(idsOf(all.filter(isMet)));
}

async function isGateExact(life: Lived): Promise<boolean> {
  return await checkGate(life, true).then(
    () => true,
    () => false,
  );
}

/**
 * At rest nothing is pending. Stock is exact. Of places it may know more than there are, until it is swept, but never
 * fewer; and those of an earlier revision, which nobody gets.
 */
async function checkGate(life: Lived, exact: boolean): Promise<void> {
  // Looking goes on where the last look ended; the second one begins at the beginning.
  await life.service.gate.survey(10_000, 10);
  for (const survey of await life.service.gate.survey(10_000, 10)) {
    const target = life.model.state.coupons.find(({ id }) => id === survey.couponId);
    if (!target) continue;
    expect([survey.pendingCount, survey.takenCount], "pending at rest").toEqual([0, 0]);
    const quantity = life.model.quantityOf(target);
    const stock = quantity === null ? null : quantity - target.issuedCount;
    // What comes back with a code that has expired is in no stock any more; the gate learns that from a sweep.
    const isBehind = !exact && target.book !== null && survey.loaded?.revision !== target.revision;
    const { deletedCount, releasedCount } = life.model.apply(
      { method: "getStats", scope: { couponId: target.id } },
      {},
    ) as Answer & Record<"deletedCount" | "releasedCount", number>;
    const facts = { revision: target.revision, updatedAt: new Date(target.updatedAt), stock };
    if (survey.loaded && !isBehind)
      expect(survey.loaded, `coupon in the gate: ${inspect(survey.loaded)}`).toEqual({
        ...facts,
        givenBackTo: deletedCount + releasedCount,
      });
    if (!survey.places) continue;
    const left = life.model.placesLeft(target);
    if (!exact && survey.places.revision !== target.revision) continue;
    expect(survey.places.revision, "revision of the places in the gate").toBe(target.revision);
    if (exact) expect(survey.places.remaining, "places in the gate after sweeps").toBe(left);
    else expect(survey.places.remaining, "places in the gate").toBeGreaterThanOrEqual(left);
  }
}

function idsOf(told: readonly { id: string }[]): string[] {
  return told.map(({ id }) => id);
}
