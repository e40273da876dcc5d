import { afterAll, describe, expect, test } from "vitest";
import { KeyCopy, type KeyCopyOptions } from "../../src/auth/keys/key-copy.js";
import { freshKey } from "../../src/auth/keys/key-text.js";
import { runKeysCommand } from "../../src/commands/keys.js";
import type { CallerKey } from "../../src/domain/caller-key.js";
import type { Scope } from "../../src/domain/principal.js";
import { Refusal } from "../../src/domain/refusal.js";
import { steadyMs } from "../../src/platform/clock.js";
import type { RequestKey } from "../../src/storage/ports/page.js";
import { PostgresCallerStore } from "../../src/storage/postgres/keys/caller-store.js";
import { PostgresKeyStore } from "../../src/storage/postgres/keys/key-store.js";
import { callContext } from "../support/call-context.js";
import { openClockedDatabase } from "./clocked-database.js";

const start = new Date("2027-03-01T12:00:00.000Z");
const { database, sql, setClock, close } = await openClockedDatabase(start, 4);
afterAll(close);
const store = new PostgresKeyStore(database);
const callers = new PostgresCallerStore(database);

const day = 86_400_000;
const at = (ms: number) => new Date(start.getTime() + ms);
const soon = () => callContext(Date.now() + 60_000);
const request = (method: string, requestId: string, input = "x"): RequestKey => ({
  ...{ method, requestId },
  inputHash: Buffer.from(input.padEnd(32)),
});

interface Wish {
  readonly caller?: string;
  readonly scopes?: Scope[];
  readonly expiresAt?: Date | null;
  readonly request?: RequestKey;
}

const wish = ({ caller = "shop", scopes = ["issue", "use"], expiresAt = null }: Wish = {}) => {
  const { id, hash } = freshKey();
  return { id, hash, caller, scopes, expiresAt };
};

async function make(of: Wish = {}): Promise<CallerKey> {
  return accepted(await store.create(wish(of), of.request ?? null, soon())).key;
}

function accepted<T>(answer: T | Refusal): T {
  if (answer instanceof Refusal) throw new Error(answer.reason);
  return answer;
}

const reasonOf = (answer: unknown) =>
  answer instanceof Refusal ? [answer.reason, ...answer.violations.map(({ field }) => field)].join(" ") : "none";

const rotation = (overlapMs: number, expiresAt: Date | null = null) => {
  const { id, hash } = freshKey();
  return { id, hash, overlapMs, expiresAt };
};

describe("a key is made", () => {
  test("of a caller, who may have others", async () => {
    const key = wish({ caller: "maker", expiresAt: at(90 * day) });
    const made = accepted(await store.create(key, null, soon()));
    const { hash, ...described } = key;
    const expected = { ...described, createdAt: start, revokedAt: null, replacedId: null };
    expect(made).toEqual({ key: expected, isReplay: false });
    await make({ caller: "maker", scopes: ["admin"] });
    const [first] = (await store.readPage(null, "0", 100)).keys.filter(({ caller }) => caller === "maker");
    const { createdAt: _, replacedId: __, ...held } = expected;
    expect(first).toEqual({ ...held, hash: Buffer.from(hash), limits: null });
  });

  test("once for one request, whose repetition gets no other one", async () => {
    const same = request("CreateKey", "once");
    const first = await make({ request: same });
    const again = accepted(await store.create(wish(), same, soon()));
    expect(again).toEqual({ key: first, isReplay: true });
    expect(reasonOf(await store.create(wish(), request("CreateKey", "once", "y"), soon()))).toBe(
      "REQUEST_ID_REUSED request_id",
    );
    // Two at once, of which one has to wait for the other.
    const both = await Promise.all(
      [1, 2].map(() => store.create(wish(), request("CreateKey", "at once"), soon()).then(accepted)),
    );
    expect(both[0]?.key).toEqual(both[1]?.key);
    expect(both.map(({ isReplay }) => isReplay).sort()).toEqual([false, true]);
  });

  test("and what is remembered of the request cannot be turned into one", async () => {
    const [row] = await sql`SELECT answer::text AS kept FROM requests WHERE request_id = 'once'`;
    expect(row?.kept).toContain('"caller": "shop"');
    expect(row?.kept).not.toContain("hash");
  });

  test("that ends in the future only", async () => {
    for (const ms of [0, -1]) {
      expect(reasonOf(await store.create(wish({ expiresAt: at(ms) }), null, soon()))).toBe("INVALID_FIELD expire_time");
    }
    expect((await make({ expiresAt: at(1) })).expiresAt).toEqual(at(1));
  });
});

describe("a key is replaced", () => {
  test("by one of the same caller with the same scopes and as much time, and holds for the overlap", async () => {
    const old = await make({ caller: "rotating", scopes: ["use"], expiresAt: at(30 * day) });
    await setClock(at(10 * day));
    const next = rotation(3_600_000);
    const same = request("RotateKey", "once");
    const made = accepted(await store.rotate(old.id, next, same, soon()));
    await setClock(start);
    expect(made.key).toEqual({
      ...old,
      id: next.id,
      createdAt: at(10 * day),
      expiresAt: at(40 * day),
      replacedId: old.id,
    });
    expect(made.replaced).toEqual({ ...old, expiresAt: at(10 * day + 3_600_000) });
    expect(made.isReplay).toBe(false);
    const again = accepted(await store.rotate(old.id, rotation(0), same, soon()));
    expect(again).toEqual({ ...made, isReplay: true });
    expect((await store.list("rotating", { size: 10, before: null }, soon().deadlineMs)).rows).toEqual([
      made.key,
      made.replaced,
    ]);
  });

  test("by one that does not expire, when it does not itself, or by one that does", async () => {
    const old = await make();
    expect(accepted(await store.rotate(old.id, rotation(1), null, soon())).key.expiresAt).toBeNull();
    expect(accepted(await store.rotate(old.id, rotation(0, at(5)), null, soon())).key.expiresAt).toEqual(at(5));
  });

  test("and does not get more time by that", async () => {
    const old = await make({ expiresAt: at(1_000) });
    expect(accepted(await store.rotate(old.id, rotation(day), null, soon())).replaced.expiresAt).toEqual(at(1_000));
    const none = accepted(await store.rotate(old.id, rotation(0), null, soon()));
    expect(none.replaced.expiresAt).toEqual(start);
  });

  test("only while it holds", async () => {
    const old = await make();
    await store.rotate(old.id, rotation(0), null, soon());
    expect(reasonOf(await store.rotate(old.id, rotation(0), null, soon()))).toBe("KEY_ENDED");
    const revoked = await make();
    await store.revoke(revoked.id, null, soon());
    expect(reasonOf(await store.rotate(revoked.id, rotation(0), null, soon()))).toBe("KEY_ENDED");
    expect(reasonOf(await store.rotate("a".repeat(12), rotation(0), null, soon()))).toBe("KEY_NOT_FOUND");
    const other = await make();
    expect(reasonOf(await store.rotate(other.id, rotation(0, start), null, soon()))).toBe("INVALID_FIELD expire_time");
  });
});

describe("a key ends", () => {
  test("earlier than it would, never later", async () => {
    const { id } = await make({ expiresAt: at(1_000) });
    for (const ms of [0, 1_000, 2_000]) {
      expect(reasonOf(await store.expire(id, at(ms), null, soon())), `${ms}`).toBe("INVALID_FIELD expire_time");
    }
    const same = request("ExpireKey", "once");
    const first = accepted(await store.expire(id, at(500), same, soon()));
    expect(first.expiresAt).toEqual(at(500));
    expect(await store.expire(id, at(500), same, soon())).toEqual(first);
    const endless = await make();
    expect(accepted(await store.expire(endless.id, at(500), null, soon())).expiresAt).toEqual(at(500));
    await setClock(at(500));
    expect(reasonOf(await store.expire(id, at(600), null, soon()))).toBe("KEY_ENDED");
    await setClock(start);
  });

  test("for ever when it is revoked, once", async () => {
    const { id } = await make();
    const same = request("RevokeKey", "once");
    expect(accepted(await store.revoke(id, same, soon())).revokedAt).toEqual(start);
    await setClock(at(1));
    for (const one of [same, null]) expect(accepted(await store.revoke(id, one, soon())).revokedAt).toEqual(start);
    await setClock(start);
    expect(reasonOf(await store.expire(id, at(500), null, soon()))).toBe("KEY_ENDED");
    expect(reasonOf(await store.revoke("a".repeat(12), null, soon()))).toBe("KEY_NOT_FOUND");
  });
});

test("a list has pages of one caller, the newest first", async () => {
  const made: string[] = [];
  for (let count = 0; count < 5; count++) made.unshift((await make({ caller: "lister" })).id);
  const seen: string[][] = [];
  for (let before: string | null = null; ; ) {
    const page: Awaited<ReturnType<typeof store.list>> = await store.list(
      "lister",
      { size: 2, before },
      soon().deadlineMs,
    );
    seen.push(page.rows.map(({ id }) => id));
    before = page.next;
    if (before === null) break;
  }
  expect(seen).toEqual([made.slice(0, 2), made.slice(2, 4), made.slice(4)]);
  const all = await store.list("", { size: 1_000, before: null }, soon().deadlineMs);
  expect(new Set(all.rows.map(({ caller }) => caller)).size).toBeGreaterThan(2);
});

describe("the copy of a replica", () => {
  // In small pages, so that there are several.
  const copyOf = async (options: KeyCopyOptions = {}) => {
    const copy = new KeyCopy(store, { pageSize: 3, ...options });
    await copy.run();
    return copy;
  };

  test("sees each change by its next look, and has only what holds to begin with", async () => {
    const [kept, revoked, expiring] = [await make(), await make(), await make({ expiresAt: at(10) })];
    await store.revoke(revoked.id, null, soon());
    await setClock(at(10));
    const copy = await copyOf();
    await setClock(start);
    expect([kept, revoked, expiring].map(({ id }) => copy.get(id) !== undefined)).toEqual([true, false, false]);
    const later = await make({ caller: "later", scopes: ["admin", "use"] });
    await store.revoke(kept.id, null, soon());
    expect(copy.get(later.id)).toBeUndefined();
    await copy.run();
    expect(copy.get(later.id)).toMatchObject({
      principal: { id: "key:later", scopes: new Set(["admin", "use"]) },
      expiresMs: Number.POSITIVE_INFINITY,
      isRevoked: false,
    });
    expect(copy.get(kept.id)?.isRevoked).toBe(true);
    await store.expire(later.id, at(77), null, soon());
    await copy.run();
    expect(copy.get(later.id)?.expiresMs).toBe(at(77).getTime());
  });

  test("misses nothing that is committed late", async () => {
    const { id, hash } = freshKey();
    const slow = await sql.reserve();
    try {
      await slow`BEGIN`;
      await slow`
        INSERT INTO caller_keys (id, caller, scopes, hash, created_at) VALUES (${id}, 'shop', 'use', ${hash}, ${start})`;
      // These have higher numbers, and are seen first.
      await make();
      const copy = await copyOf();
      await make();
      await copy.run();
      await slow`COMMIT`;
      expect(copy.get(id)).toBeUndefined();
      await copy.run();
      expect(copy.get(id)?.principal.id).toBe("key:shop");
    } finally {
      slow.release();
    }
  });

  test("reads keys that a dump has brought from an older server once, until they change", async () => {
    const key = await make();
    await sql`UPDATE caller_keys SET changed_xid = '9000000000000000000' WHERE id = ${key.id}`;
    const { mark } = await store.readPage(null, "0", 1);
    const changed = async () => (await store.readPage(mark, "0", 1_000)).keys.map(({ id }) => id);
    expect(await changed()).not.toContain(key.id);
    await store.revoke(key.id, null, soon());
    expect(await changed()).toContain(key.id);
  });

  test("sees many changes at once, and goes on to see others while it reads all again", async () => {
    const old = [await make(), await make(), await make(), await make()];
    const copy = await copyOf({ pagesOfRun: 1, readAllEveryMs: 0 });
    const { size } = copy;
    // Past the service, which nobody sees but who reads all.
    await sql`DELETE FROM caller_keys WHERE id = ${old[1]!.id}`;
    for (const { id } of [old[0]!, old[3]!]) await store.revoke(id, null, soon());
    const fresh = await Promise.all(Array.from({ length: 7 }, () => make()));
    await copy.run();
    expect(fresh.every(({ id }) => copy.get(id))).toBe(true);
    expect([copy.get(old[0]!.id)?.isRevoked, copy.get(old[3]!.id)?.isRevoked]).toEqual([true, true]);
    // And such as have ended before, where a transaction is open that is older than their end.
    expect(copy.size).toBeGreaterThanOrEqual(size + 7);
    // Each once: no more than the table has, and the one that was deleted past the service.
    const [rows] = await sql<{ count: number }[]>`SELECT count(*)::int AS count FROM caller_keys`;
    expect(copy.size).toBeLessThanOrEqual(rows!.count + 1);
    for (let runs = 0; copy.get(old[1]!.id); runs++) {
      expect(runs).toBeLessThan(size);
      const [revoked, made] = [fresh.pop()!, await make()];
      await store.revoke(revoked.id, null, soon());
      await copy.run();
      expect([copy.get(revoked.id)?.isRevoked ?? true, copy.get(made.id)?.isRevoked]).toEqual([true, false]);
      fresh.unshift(made);
    }
    expect([copy.get(old[2]!.id)?.isRevoked, ...fresh.map(({ id }) => copy.get(id)?.isRevoked)]).toEqual(
      Array.from({ length: fresh.length + 1 }, () => false),
    );
  });

  test("is caught up with what was committed before, also by many who ask at once", async () => {
    const copy = await copyOf();
    const made = await Promise.all(
      Array.from({ length: 5 }, async () => {
        const { id } = await make();
        await copy.catchUp(steadyMs() + 60_000);
        return copy.get(id) !== undefined;
      }),
    );
    expect(made).toEqual([true, true, true, true, true]);
  });

  test("keeps nobody who waits for it for too long, and does not tell them what went wrong", async () => {
    let answer = (): Promise<never> => Promise.reject(new Error("postgres is away"));
    const copy = new KeyCopy({ readPage: () => answer() });
    await copy.catchUp(steadyMs() + 60_000);
    answer = () => new Promise(() => {});
    for (const leftMs of [100, 0, -1]) await copy.catchUp(steadyMs() + leftMs);
  });

  test("knows as many as it may, and says so when there are more", async () => {
    const copy = new KeyCopy(store, { pageSize: 3, maxKeys: 5 });
    await expect(copy.run()).rejects.toThrow("more than 5 keys");
    expect(copy.size).toBe(5);
    const [known] = (await store.readPage(null, "0", 1)).keys;
    const unknown = await make();
    await store.revoke(known!.id, null, soon());
    await expect(copy.run()).rejects.toThrow("more than 5 keys");
    expect([copy.get(known!.id)?.isRevoked, copy.get(unknown.id)]).toEqual([true, undefined]);
  });

  test("has the limits of its callers, and finds them when they change", async () => {
    const [one, other] = [await make({ caller: "busy" }), await make({ caller: "busy", scopes: ["use"] })];
    const [copy] = [await copyOf()];
    const known = () => [one, other].map(({ id }) => copy.get(id)?.principal.limits);
    expect(known()).toEqual([undefined, undefined]);
    const limits = { issue: { perSecond: 7 }, use: { perSecond: 5, atOnce: 2 } };
    expect(await callers.setLimits("busy", limits, null, soon())).toEqual({ limits });
    await copy.run();
    expect(known()).toEqual([limits, limits]);
    expect((await copyOf()).get(one.id)?.principal.limits).toEqual(limits);
    expect(accepted(await callers.getLimits("busy", Infinity))).toEqual({ limits });
    expect(await callers.setLimits("busy", null, null, soon())).toEqual({ limits: null });
    await copy.run();
    expect(known()).toEqual([undefined, undefined]);
  });

  test("has none of a caller for whom there never was a key", async () => {
    expect(reasonOf(await callers.setLimits("nobody", null, null, soon()))).toBe("CALLER_NOT_FOUND");
    expect(reasonOf(await callers.getLimits("nobody", Infinity))).toBe("CALLER_NOT_FOUND");
  });

  test("leaves out scopes that only a later release knows", async () => {
    const { id } = await make();
    await sql`UPDATE caller_keys SET scopes = 'use future.read' WHERE id = ${id}`;
    expect((await copyOf()).get(id)?.principal.scopes).toEqual(new Set(["use"]));
  });
});

describe("the command", () => {
  const run = async (...args: string[]) => {
    const out: string[] = [];
    const errors: string[] = [];
    const code = await runKeysCommand(args, {
      freshKey,
      withKeys: (work) => work(store),
      withCallers: (work) => work(callers),
      out: (text) => void out.push(text),
      say: (text) => void errors.push(text),
    });
    return { code, out: out.join(""), errors: errors.join("") };
  };
  const form = /^ck_([a-z2-7]{12})_[a-z2-7]{32}\n$/;

  test("makes keys, lists, replaces and ends them; what it prints is the key alone", async () => {
    await setClock(new Date());
    const made = await run("create", "--caller", "ops", "--scopes", "issue, use", "--expires", "90d");
    expect(made).toMatchObject({ code: 0, out: expect.stringMatching(form) });
    const [, id = ""] = form.exec(made.out) ?? [];
    const lines = async () =>
      (await run("list", "--caller", "ops")).out
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line));
    expect(await lines()).toMatchObject([{ id, caller: "ops", scopes: ["issue", "use"], revokedAt: null }]);
    const next = await run("rotate", id, "--overlap", "0m");
    expect(next).toMatchObject({ code: 0, out: expect.stringMatching(form) });
    const [, nextId = ""] = form.exec(next.out) ?? [];
    expect(await run("expire", nextId, "--expires", "1h")).toMatchObject({ code: 0, out: "" });
    expect(await run("revoke", nextId)).toMatchObject({ code: 0, out: "" });
    const [newest] = await lines();
    expect(newest).toMatchObject({ id: nextId, replacedId: id, revokedAt: expect.any(String) });
    const none = { code: 0, out: '{"caller":"ops","limits":null}\n' };
    expect(await run("limits", "ops")).toMatchObject(none);
    const limited = { code: 0, out: expect.stringMatching(/"issue":\{("perSecond":5|"atOnce":2|,){3}\}/) };
    expect(await run("limits", "ops", "--set", "issue=5/2")).toMatchObject(limited);
    expect(await run("limits", "ops")).toMatchObject(limited);
    expect(await run("limits", "ops", "--clear")).toMatchObject(none);
    expect(await run("limits", "nobody")).toMatchObject({ code: 1, errors: "coupon-service: CALLER_NOT_FOUND\n" });
    expect(await run("limits", "ops", "--set", "issue=5")).toMatchObject({ code: 2 });
    expect(await run("rotate", id)).toMatchObject({ code: 1, errors: "coupon-service: KEY_ENDED\n" });
    expect((await run("list")).out).not.toContain(made.out.slice(16, 48));
    await setClock(start);
  });

  test.for([
    [["create", "--caller", "ops"], 2, "--scopes"],
    [["create", "--caller", "o p", "--scopes", "use"], 2, "--caller"],
    [["create", "--caller", "ops", "--scopes", "use,fly"], 2, "There are: catalog.read"],
    [["create", "--caller", "ops", "--scopes", "use", "--expires", "soon"], 2, "--expires"],
    [["create", "--caller", "ops", "--scopes", "use", "--expires", "2020-01-01T00:00:00Z"], 1, "must be in the future"],
    [["rotate", "a".repeat(12), "--overlap", "91d"], 2, "--overlap"],
    [["expire", "a".repeat(12)], 2, "--expires"],
    [["revoke", "a".repeat(12)], 1, "KEY_NOT_FOUND"],
    [["steal"], 2, "unknown command"],
  ] as const)("says what is wrong with %j", async ([args, code, said]) => {
    expect(await run(...args)).toEqual({ code, out: "", errors: expect.stringContaining(said) });
  });

  test("does not say a key again that somebody takes for its id", async () => {
    const { text } = freshKey();
    const { code, out, errors } = await run("revoke", text);
    expect([code, out]).toEqual([1, ""]);
    expect(errors).toContain("the 12 characters");
    expect(errors).not.toContain(text.slice(16));
  });

  test("helps", async () => {
    const { code, out, errors } = await run("--help");
    expect([code, errors]).toEqual([0, ""]);
    for (const name of ["create", "list", "rotate", "expire", "revoke"]) expect(out).toContain(name);
  });
});
