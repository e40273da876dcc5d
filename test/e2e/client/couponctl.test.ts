import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { run } from "../../../clients/typescript/src/ctl/program.js";
import { atEndOfFile } from "../../support/at-end.js";
import { Authority } from "../../support/certificates.js";
import { type Replica, runService } from "../../support/replica.js";
import { type Backing, backing, startReplicas } from "../../support/service.js";
import { until } from "../../support/until.js";

let replica: Replica;
/** One that asks nobody who they are. */
let open: Replica;
let stores: Backing["stores"];
let folder: string;
/** Of somebody who may do everything, and of somebody who may read coupons. */
const keys = { all: "", reader: "" };
let env: Record<string, string>;

const atEnd = atEndOfFile();
beforeAll(async () => {
  ({ stores } = await backing(atEnd));
  folder = await mkdtemp(join(tmpdir(), "couponctl-"));
  atEnd(() => rm(folder, { recursive: true, force: true }));
  const scopes =
    "catalog.read,catalog.write,codes.read,codes.write,issue,use,user_coupons.read,usage.read,events.read,admin";
  const create = ["keys", "create", "--caller", "ops", "--scopes", scopes];
  keys.all = (await runService({ DATABASE_URL: stores.databaseUrl }, ...create)).out.trim();
  [replica, open] = await startReplicas(atEnd, stores, { AUTH: "keys" }, { AUTH: "off" });
  env = { COUPON_URL: `http://127.0.0.1:${replica.grpcPort}`, COUPON_KEY: keys.all };
  keys.reader = (await ok("keys", "create", "--caller", "reader", "--scopes", "catalog.read")).out.trim();
  // A key holds as soon as the replicas have heard of it.
  await until(
    "the key holds",
    async () => (await couponctl(["coupons", "list"], { env: { COUPON_KEY: keys.reader } })).code === 0,
  );
});

interface Ended {
  readonly code: number;
  readonly out: string;
  readonly errors: string;
}

async function couponctl(args: string[], io: { env?: object; signal?: AbortSignal; terminal?: boolean } = {}) {
  let out = "";
  let errors = "";
  const { signal = new AbortController().signal, terminal = false } = io;
  const code = await run(["--timeout", "25s", ...args], {
    out: (text) => (out += text),
    say: (text) => (errors += text),
    env: { ...env, ...io.env },
    terminal,
    sayTerminal: terminal,
    columns: 80,
    signal,
  });
  return { code, out, errors } as Ended;
}

async function ok(...args: string[]): Promise<Ended> {
  const ended = await couponctl(args);
  expect(ended.code, ended.errors).toBe(0);
  return ended;
}

// biome-ignore lint/suspicious/noExplicitAny: what JSON has is looked at by each test
const json = async (...args: string[]): Promise<any> => JSON.parse((await ok("--json", ...args)).out);
// biome-ignore lint/suspicious/noExplicitAny: the same
const lines = async (...args: string[]): Promise<any[]> =>
  (await ok("--json", ...args)).out
    .trimEnd()
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line));

async function createCoupon(...args: string[]): Promise<string> {
  return (await json("coupons", "create", "--name", "Ten off", "--off", "10.00USD", "--ends", "30d", ...args)).id;
}

describe("coupons", () => {
  test("are created, shown, paused, resumed, listed, found and deleted", async () => {
    const options = ["--quantity", "5", "--minimum", "50USD", "--stackable", "--label", "team=spring"];
    const created = await json(
      "coupons",
      "create",
      "--name",
      "Rucksack",
      "--off",
      "12.5%",
      "--ends",
      "30d",
      ...options,
    );
    expect(created).toMatchObject({
      ...{ name: "Rucksack", quantity: "5", stackable: true, labels: { team: "spring" } },
      discount: { percentageBasisPoints: 1250, minimumOrderAmount: { minorUnits: "5000", currencyCode: "USD" } },
    });
    const shown = (await ok("coupons", "get", created.id)).out;
    expect(shown).toMatch(/^off +12\.5%, from 50\.00 USD$/m);
    expect(shown).toMatch(/^issued +0 of 5$/m);
    expect(shown).toMatch(/^ends +20\d\d-\d\d-\d\dT[\d:.]+Z$/m);
    expect(await json("coupons", "pause", created.id)).toMatchObject({ state: "COUPON_STATE_PAUSED" });
    expect(await json("coupons", "resume", created.id)).toMatchObject({ state: "COUPON_STATE_ACTIVE" });
    expect((await lines("coupons", "list")).map(({ id }) => id)).toContain(created.id);
    expect((await lines("coupons", "search", "rucksack")).map(({ id }) => id)).toEqual([created.id]);
    const limited = await ok("coupons", "list", "--limit", "1");
    expect(limited.out.trimEnd().split("\n")).toHaveLength(2);
    expect(await json("coupons", "delete", created.id)).toMatchObject({ state: "COUPON_STATE_DELETED" });
  });

  test("with long names are listed with as much of them as fits, and no half of a character", async () => {
    const { id } = await json("coupons", "create", "--name", `${"x".repeat(38)}😀😀😀`, "--off", "1%", "--ends", "1d");
    const line = (await ok("coupons", "list")).out.split("\n").find((one) => one.startsWith(id));
    expect(line).toContain(`${"x".repeat(38)}😀…`);
  });

  test("come from files, too", async () => {
    const file = join(folder, "coupon.json");
    await writeFile(file, JSON.stringify({ throttle: { maxConcurrent: 2, maxPerSecond: 3 } }));
    const created = await json("coupons", "create", "--file", file, "--name", "Slow", "--off", "1%", "--ends", "1d");
    expect(created).toMatchObject({ name: "Slow", throttle: { maxPerSecond: 3 } });
  });
});

test("a coupon is issued, locked, used and cancelled, and the user and the counts show it", async () => {
  const coupon = await createCoupon("--quantity", "1");
  const { userCoupon } = await json("issue", "ann", "--coupon", coupon);
  const { locks } = await json("lock", "ann", userCoupon.id);
  const order = ["--product", "p", "--order", "o-1", "--amount", "80USD", "--lock-version", locks[0].lockVersion];
  const used = await ok("use", "ann", userCoupon.id, ...order);
  expect(used.out).toMatch(/^off +10\.00 USD$/m);
  expect(used.out).toMatch(/^to pay +70\.00 USD$/m);
  const [held] = await lines("user", "ann");
  expect(held).toMatchObject({ id: userCoupon.id, status: "USER_COUPON_STATUS_USED", useCount: 1 });
  expect((await ok("user", "ann")).out).toMatch(/Ten off +USED +10\.00 USD/);
  const { usage } = await json("cancel", "ann", held.usages[0].id);
  expect(usage.cancelTime).toBeTruthy();
  const { stats } = await json("stats", "--coupon", coupon);
  expect(stats).toMatchObject({ issuedCount: "1", usedCount: "1", cancelledCount: "1" });
});

describe("codes", () => {
  test("of a file are added once, however often it is sent, and come back as CSV", async () => {
    const book = await createCoupon("--code-book");
    const file = join(folder, "codes.csv");
    await writeFile(file, "code,off,max_uses\nSPRING-1,5USD,\nSPRING-2,,3\n!!!,,\nSPRING-1,,\n");
    const first = await ok("--json", "codes", "upload", file, "--coupon", book);
    expect(JSON.parse(first.out)).toMatchObject({
      ...{ couponId: book, lines: 4, added: 2, duplicates: 1, invalid: 1 },
      rejected: [
        { line: 4, problem: "INVALID" },
        { line: 5, problem: "DUPLICATE" },
      ],
    });
    // The same answer again: it comes by the request ids, for by the codes there would be four that are not added.
    expect((await ok("--json", "codes", "upload", file, "--coupon", book)).out).toBe(first.out);
    expect(await lines("codes", "list", book)).toHaveLength(2);
    const exported = (await ok("codes", "export", book, "--csv")).out;
    expect(exported.split("\n")).toEqual([
      "code,off,minimum,maximum,expire_time,max_uses,max_holders,status,holders",
      "SPRING-1,5.00 USD,,,,,1,FREE,0",
      "SPRING-2,,,,,3,1,FREE,0",
      "",
    ]);
    // What was exported can be read again.
    await writeFile(file, exported);
    expect(await json("codes", "upload", file, "--coupon", book)).toMatchObject({ added: 0, duplicates: 2 });
  });

  test("of a bad file are not sent at all, and the line is named", async () => {
    const book = await createCoupon("--code-book");
    const file = join(folder, "bad.csv");
    await writeFile(file, "code,off\nA-1,5USD\nA-2,much\n");
    const ended = await couponctl(["codes", "upload", file, "--coupon", book]);
    expect([ended.code, ended.out]).toEqual([2, ""]);
    expect(ended.errors).toContain("bad.csv:3: off:");
    expect((await ok("codes", "list", book)).out).toBe("none\n");
  });

  test("are generated, and waited for with a bar", async () => {
    const book = await createCoupon("--code-book");
    const args = ["codes", "generate", "--coupon", book, "--pattern", "G-#{6}", "--count", "25"];
    const ended = await couponctl(args, { terminal: true });
    expect(ended.out).toMatch(/^state +DONE$/m);
    expect(ended.out).toMatch(/^codes +25 of 25$/m);
    expect((await lines("codes", "list", book, "--status", "free"))[0].code).toMatch(/^G-\d{6}$/);
  });
});

test("keys are made, listed, rotated, and end", async () => {
  const made = await ok("keys", "create", "--caller", "shop", "--scopes", "issue,use", "--expires", "90d");
  // So that `couponctl keys create > file` works.
  expect(made.out).toMatch(/^ck_[a-z2-7]{12}_\w+\n$/);
  const [key] = await lines("keys", "list", "--caller", "shop");
  expect(key).toMatchObject({ caller: "shop", scopes: ["issue", "use"] });
  const rotated = await json("keys", "rotate", key.id, "--overlap", "1h");
  expect(rotated).toMatchObject({ key: { replacedKeyId: key.id }, replacedKey: { id: key.id } });
  await ok("keys", "expire", rotated.key.id, "--expires", "1h");
  expect((await json("keys", "revoke", rotated.key.id)).revokeTime).toBeTruthy();
});

describe("a sale is watched", () => {
  test("line by line, where there is no terminal", async () => {
    const coupon = await createCoupon("--quantity", "10");
    await ok("issue", "watched", "--coupon", coupon);
    const watched = await ok("watch", coupon, "--count", "2", "--interval", "1ms");
    expect(watched.out).toMatch(/^(20\S+Z {2}ACTIVE {2}1 of 10 issued {2}0\.0\/s\n){2}$/);
    const [look] = await lines("watch", coupon, "--count", "1");
    expect(look).toMatchObject({ state: "ACTIVE", issued: "1", remaining: "9" });
    const drawn = await couponctl(["watch", coupon, "--count", "2", "--interval", "1ms"], { terminal: true });
    expect(drawn.out).toContain("9 left");
  });

  test("until it is interrupted, or the coupon is deleted", async () => {
    const coupon = await createCoupon();
    const stop = new AbortController();
    const watching = couponctl(["watch", coupon, "--interval", "1h"], { signal: stop.signal });
    stop.abort();
    expect(await watching).toMatchObject({ code: 130, errors: "" });
    await ok("coupons", "delete", coupon);
    expect((await ok("watch", coupon)).out).toContain("DELETED");
  });
});

describe("how a command ends", () => {
  const nowhere = "0198c3f0-0000-7000-8000-000000000000";
  const cases: [string, string[], object, number, RegExp][] = [
    ["a coupon that is not there", ["coupons", "get", nowhere], {}, 1, /COUPON_NOT_FOUND/],
    ["a field that is wrong", ["coupons", "get", "x"], {}, 1, /INVALID_FIELD[\s\S]*coupon_id: /],
    ["an unknown command", ["buy"], {}, 2, /unknown command/],
    ["an option that is wrong", ["coupons", "create", "--off", "much"], {}, 2, /--off[\s\S]*12\.50USD/],
    ["a file that is not there", ["--key-file", "/nonexistent", "stats"], {}, 2, /\/nonexistent: ENOENT/],
    ["an address that is none", ["stats", "-s", "localhost"], {}, 2, /--server/],
    ["no target", ["issue", "ann"], {}, 2, /--coupon/],
    ["nobody there", ["stats", "-s", "http://127.0.0.1:1"], {}, 3, /Unavailable[\s\S]*doctor/],
    ["no key", ["coupons", "list"], { COUPON_KEY: "" }, 4, /UNAUTHENTICATED/],
    ["help", ["--help"], {}, 0, /^$/],
  ];
  test.for(cases)("%s", async ([, args, set, code, said]) => {
    const ended = await couponctl(args, { env: set });
    expect(ended.errors).toMatch(said);
    expect(ended.code).toBe(code);
    if (code !== 0) expect(ended.out).toBe("");
  });

  test("a key that does not allow it", async () => {
    const file = join(folder, "key");
    await writeFile(file, `${keys.reader}\n`);
    const ended = await couponctl(["--key-file", file, "issue", "ann", "--coupon", nowhere]);
    expect(ended).toMatchObject({ code: 4, out: "" });
    expect(ended.errors).toMatch(/PERMISSION_DENIED[\s\S]*scope: issue/);
  });
});

describe("the doctor", () => {
  const at = () => {
    const { grpcPort, httpPort } = replica;
    return ["--grpc", `http://127.0.0.1:${grpcPort}`, "--http", `http://127.0.0.1:${httpPort}`];
  };

  test("finds that all is well, and what a key does not allow", async () => {
    const well = await lines("doctor", ...at());
    const states = Object.fromEntries(well.map(({ check, state }) => [check, state]));
    const fine = { "grpc port": "ok", "http port": "ok", ready: "ok", clock: "ok", gRPC: "ok", Connect: "ok" };
    expect(states).toMatchObject({ ...fine, credentials: "ok" });
    const reader = await couponctl(["doctor", ...at()], { env: { COUPON_KEY: keys.reader } });
    expect(reader.code).toBe(0);
    expect(reader.out).toMatch(/credentials +key [a-z2-7]{12} may: catalog\.read$/m);
    expect(reader.out).toMatch(/scopes +not: admin catalog\.write .*issue/);
  });

  test("says what is closed while the service asks nobody who they are", async () => {
    const { grpcPort, httpPort } = open;
    const ports = ["--grpc", `http://127.0.0.1:${grpcPort}`, "--http", `http://127.0.0.1:${httpPort}`];
    for (const COUPON_KEY of ["", keys.reader]) {
      const found = await couponctl(["doctor", ...ports], { env: { COUPON_KEY } });
      expect(found.code).toBe(0);
      expect(found.out).toMatch(/scopes +not: admin$/m);
      expect(found.errors).toContain("AUTH=keys");
      expect(found.errors).not.toContain("keys create");
    }
    expect((await couponctl(["doctor", ...at()], { env: { COUPON_KEY: keys.reader } })).errors).toContain(
      "keys create",
    );
  });

  test("says what to do with no key, and with no service", async () => {
    const stranger = await couponctl(["doctor", ...at()], { env: { COUPON_KEY: "" } });
    expect(stranger.code).toBe(4);
    expect(stranger.errors).toContain("COUPON_KEY");
    const closed = createServer();
    await new Promise<void>((resolve) => closed.listen(0, "127.0.0.1", resolve));
    const url = `http://127.0.0.1:${(closed.address() as AddressInfo).port}`;
    await new Promise((resolve) => closed.close(resolve));
    const away = await couponctl(["doctor", "-s", url]);
    expect(away.code).toBe(3);
    expect(away.out).toContain("ECONNREFUSED");
    expect(away.errors).toContain("nothing listens at");
  });

  test("looks at TLS, and says where it is missing, or whose certificate is not believed", async () => {
    const authority = new Authority("servers");
    const files = { TLS_CERT_FILE: join(folder, "cert.pem"), TLS_KEY_FILE: join(folder, "key.pem") };
    const { certificate, key } = authority.issue({ names: ["IP:127.0.0.1"] });
    const ca = join(folder, "ca.pem");
    await Promise.all([writeFile(files.TLS_CERT_FILE, certificate), writeFile(files.TLS_KEY_FILE, key)]);
    await writeFile(ca, authority.certificate);
    const [{ grpcPort, httpPort }] = await startReplicas(atEnd, stores, { AUTH: "off", ...files });
    const doctor = (scheme: string, ...args: string[]) =>
      couponctl([
        "doctor",
        "--grpc",
        `${scheme}://127.0.0.1:${grpcPort}`,
        "--http",
        `${scheme}://127.0.0.1:${httpPort}`,
        ...args,
      ]);
    const well = await doctor("https", "--ca-file", ca);
    expect(well.code, well.errors).toBe(0);
    expect(well.out).toMatch(/^(ok|!) +grpc port .*TLSv1\.3, certificate for \d+ more days$/m);
    const unknown = await doctor("https");
    expect(unknown.code).toBe(3);
    expect(unknown.out).toMatch(/^X +http port .*certificate for \d+ more days: \w+$/m);
    expect(unknown.errors).toContain("--ca-file");
    expect((await doctor("http")).out).toMatch(/^! +ready +HTTP 400: This port speaks TLS: use https/m);
  });

  test("says which port is missing where only that for gRPC is named", async () => {
    const half = await couponctl(["doctor", "-s", `http://127.0.0.1:${replica.grpcPort}`]);
    expect(half.code).toBe(3);
    expect(half.out).toMatch(/^ok +gRPC /m);
    expect(half.errors).toContain("name the other one by --http");
  });
});
