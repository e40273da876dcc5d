import { randomUUID } from "node:crypto";
import { expect, onTestFinished, test } from "vitest";
import { anybody, type Principal } from "../../src/domain/principal.js";
import { Refusal } from "../../src/domain/refusal.js";
import { issueCoupon } from "../../src/services/issuance/issue-coupon.js";
import { PostgresTargetStore } from "../../src/storage/postgres/issuing/target-store.js";
import { callContext } from "../support/call-context.js";
import { openClockedDatabase } from "./clocked-database.js";
import { insertBook } from "./code-world.js";

test("who may not read codes is told the same of a code that others hold as of none, by as many queries", async () => {
  const noon = new Date("2026-11-21T12:00:00.000Z");
  const clocked = await openClockedDatabase(noon);
  onTestFinished(() => clocked.close());
  const { sql } = clocked;
  const couponId = await insertBook(sql, noon);
  const insert = async (code: string, holder: string | null, seats = 1) => {
    const [row] = await sql`
      INSERT INTO codes (coupon_id, code, code_key, pick_key, max_holders, holder_count, created_at)
      VALUES (${couponId}, ${code}, ${code}, 1, ${seats}, ${holder ? 1 : 0}, ${noon}) RETURNING id`;
    if (holder)
      await sql`
        INSERT INTO user_coupons (id, coupon_id, user_id, slot, issued_at, max_uses, use_count, place_count, code_id, code)
        VALUES (${randomUUID()}, ${couponId}, ${holder}, 1, ${noon}, 1, 0, 0, ${row!.id}, ${code})`;
  };
  await insert("TAKEN", "holder");
  await insert("FREE", null);
  await insert("HALFTAKEN", "holder of one seat", 2);

  let queries = 0;
  const counting = {
    ...clocked.database,
    reads: {
      run: (...query: Parameters<typeof clocked.database.reads.run>) => {
        queries += 1;
        return clocked.database.reads.run(...query);
      },
    },
  } as unknown as typeof clocked.database;
  const targets = new PostgresTargetStore(counting);
  let decided = new Refusal("SOLD_OUT");
  const asked: object[] = [];
  const issuer = {
    issue: async (request: object) => {
      asked.push(request);
      return decided;
    },
  };
  const handle = issueCoupon(issuer as never, {} as never, targets);
  const shop: Principal = { id: "key:shop", scopes: new Set(["issue"]) };
  const ask = async (principal: Principal, code: string, userId = "guesser") => {
    queries = 0;
    asked.splice(0);
    const request = { target: { case: "code", value: code }, userId, requestId: "", labels: {} } as never;
    const answer = await handle(request, callContext(Number.POSITIVE_INFINITY, { principal }));
    return [(answer as Refusal).reason, queries, asked.length];
  };
  for (const code of ["TAKEN", "taken", "NONE", "TAKEN"])
    expect(await ask(shop, code)).toEqual(["CODE_NOT_FOUND", 1, 0]);
  // Whose code it is, who finds a free one, and who may read codes hear what the issuer says.
  for (const [who, code, userId] of [
    [shop, "TAKEN", "holder"],
    [shop, "FREE", "guesser"],
    [shop, "HALFTAKEN", "guesser"],
    [anybody, "TAKEN", "guesser"],
  ] as const)
    expect([code, await ask(who, code, userId)]).toMatchObject([code, ["SOLD_OUT", expect.anything(), 1]]);
  // Also when it was remembered for somebody who may read codes, and when it was taken between the look and the issue.
  expect(await ask(shop, "TAKEN")).toEqual(["CODE_NOT_FOUND", 1, 0]);
  decided = new Refusal("CODE_TAKEN");
  expect((await ask(shop, "FREE"))[0]).toBe("CODE_NOT_FOUND");
  expect((await ask(anybody, "FREE"))[0]).toBe("CODE_TAKEN");
});
