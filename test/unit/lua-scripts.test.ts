import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { packageRoot } from "../../src/platform/package-root.js";
import { admissionOutcomes } from "../../src/reservation/port.js";
import { missingRight } from "../../src/reservation/redis/client.js";
import { Keys, slotTextOf } from "../../src/reservation/redis/keys.js";
import { outcomeOf, type Script, scripts, sourceOf } from "../../src/reservation/redis/scripts.js";
import { redisUserLine } from "../support/redis-processes.js";

const all = Object.values(scripts).map((script: Script) => ({ name: script.name, script, lua: sourceOf(script) }));

/** The code, with its comments blanked. Strings of these scripts contain no hyphens in pairs. */
const codeOf = (lua: string) => lua.replace(/--[^\n]*/g, "");

/** The text between the parentheses of every `redis.call(...)`, and the code without them. */
function callsOf(code: string): { calls: string[]; rest: string } {
  const calls: string[] = [];
  let rest = "";
  let at = 0;
  for (;;) {
    const begin = code.indexOf("redis.call(", at);
    if (begin === -1) return { calls, rest: rest + code.slice(at) };
    rest += code.slice(at, begin);
    let depth = 1;
    let end = begin + "redis.call(".length;
    for (; depth > 0; end++) {
      if (code[end] === "(") depth += 1;
      if (code[end] === ")") depth -= 1;
    }
    calls.push(code.slice(begin + "redis.call(".length, end - 1));
    at = end;
  }
}

/** Splits arguments at the commas that are not inside parentheses or strings. */
function argumentsOf(call: string): string[] {
  const found = call.match(/(?:'[^']*'|\((?:[^()]|\([^()]*\))*\)|[^,'(])+/g) ?? [];
  return found.map((one) => one.trim());
}

/** How many of a command's arguments, from the first on, are keys. */
const keyCounts: Record<string, number> = { TIME: 0, RENAME: 2, UNLINK: Number.POSITIVE_INFINITY };

test("every file in lua/ has a row in the table, and the other way round", () => {
  const files = readdirSync(join(packageRoot(), "src/reservation/redis/lua"));
  expect(files.filter((name) => name !== "parts").sort()).toEqual(all.map(({ name }) => `${name}.lua`).sort());
});

test("admit answers the outcomes of the port, in their order", () => {
  expect(scripts.admit.outcomes).toEqual(admissionOutcomes);
});

test("the Redis user of deploy/redis-acl.conf may call what the scripts call, and what is sent as it is, and nothing else", () => {
  const asItIs = ["eval", "evalsha", "zadd", "zrange", "unlink", "hset", "pexpire"];
  // rate-limiter-flexible has a script of its own.
  const ofLimits = ["set", "incrby", "pttl", "expire"];
  const ofTheDriver = ["info", "select", "asking", "cluster|slots"];
  const called = all.flatMap(({ lua }) =>
    callsOf(codeOf(lua)).calls.map((call) => call.slice(1, call.indexOf("'", 1))),
  );
  const rights = redisUserLine("shop", "secret", ["x"]).matchAll(/ \+(\S+)/g);
  expect([...rights].map(([, right]) => right).sort()).toEqual(
    [...new Set([...asItIs, ...ofTheDriver, ...ofLimits, ...called.map((name) => name.toLowerCase())])].sort(),
  );
});

test.for([
  [
    "ERR The user executing the script can't run this command or subcommand script: f0, on @user_script:2.",
    "HGET or HSET",
  ],
  [
    "ERR Error running script (call to f_0): @user_script:1: @user_script: 1: The user executing the script can't run this command",
    "GET",
  ],
  ["ERR The user executing the script can't run this command or subcommand script: f0, on @user_script:3.", undefined],
  ["NOPERM this user has no permissions to run the 'get' command", undefined],
])("of a right that a script has not it is said which one it is: %s", ([message, right]) => {
  const lua = "local a = redis.call('GET', KEYS[1])\nreturn redis.call('HGET', 'a', redis.call('HSET'))\nend";
  expect(missingRight(message as string, lua)).toBe(right ? ` (its Redis user lacks the right to ${right})` : "");
});

test.for([
  ["coupon:{id}:holders", "id"],
  ["coupon:{q:a}b}:quota", "q:a"],
  ["coupon:{q:{a}:quota", "q:{a"],
  ["coupon:coupons", "coupon:coupons"],
  ["{}{id}", "{}{id}"],
  ["{id", "{id"],
])("the slot of %s is that of %s", ([key, text]) => {
  expect(slotTextOf(key as string)).toBe(text);
});

describe.for(all)("$name", ({ script, lua }) => {
  test.for([
    { couponId: "11111111-1111-7111-8111-111111111111", quotaGroup: null, day: "" },
    { couponId: "11111111-1111-7111-8111-111111111111", quotaGroup: "drivers", day: "2026-11-25" },
    { couponId: "11111111-1111-7111-8111-111111111111", quotaGroup: "}{a}b{", day: "2026-11-25" },
  ])("touches one slot of a Cluster: $quotaGroup", (owner) => {
    for (const prefix of ["coupon", "shop-1:coupon.x"]) {
      const keys = new Keys(prefix);
      expect(new Set(script.keys.map((name) => slotTextOf(keys[name](owner)))).size).toBe(1);
    }
  });

  const code = codeOf(lua);
  const { calls, rest } = callsOf(code);
  const keyNames = script.keys.map((key) => `${key}Key`);

  test("opens with a sentence, then its keys, arguments and outcomes as the table has them", () => {
    const lines = lua.split("\n");
    expect(lines[0]).toMatch(/^-- [A-Z].{20,}/);
    const header = (name: string) => lines.filter((line) => line.startsWith(`-- ${name}: `));
    expect(header("KEYS")).toEqual([`-- KEYS: ${script.keys.join(" ")}`]);
    expect(header("ARGV")).toEqual([`-- ARGV: ${script.args}`]);
    expect(header("OUTCOMES")).toEqual([`-- OUTCOMES: ${script.outcomes.join(" ")}`]);
  });

  test("takes its keys from KEYS, once, under the names of the table", () => {
    const numbers = keyNames.map((_, index) => `KEYS[${index + 1}]`);
    expect(code).toContain(`local ${keyNames.join(", ")} = ${numbers.join(", ")}\n`);
    expect(code.match(/\bKEYS\b/g)).toHaveLength(keyNames.length);
    for (const name of keyNames) {
      const assignments = code.match(new RegExp(`\\b${name}\\b(?:\\s*,\\s*\\w+)*\\s*=(?!=)`, "g")) ?? [];
      expect(assignments, `${name} is assigned once`).toHaveLength(1);
    }
  });

  test("builds no key: commands touch only what came in KEYS", () => {
    expect(calls.length).toBeGreaterThan(0);
    for (const call of calls) {
      const [command, ...rest] = argumentsOf(call);
      const name = /^'([A-Z]+)'$/.exec(command as string)?.[1];
      expect(name, `redis.call(${call}): the command is written out`).toBeDefined();
      const keys = rest.slice(0, keyCounts[name as string] ?? 1);
      expect(
        keys.filter((key) => !keyNames.includes(key)),
        `redis.call(${call})`,
      ).toEqual([]);
    }
    expect(code).not.toMatch(/redis\.pcall|redis\s*\[|=\s*redis\b(?!\.call\()/);
  });

  test("answers the outcomes of the table and no others", () => {
    // Words that are compared are what came in, not what goes out.
    const outcomes = [...rest.matchAll(/([=~]= *)?'([A-Z][A-Z_]+) ?'/g)].filter(([, compared]) => !compared);
    expect(new Set(outcomes.map(([, , outcome]) => outcome))).toEqual(new Set(script.outcomes));
  });

  test("uses no clock, chance or global of its own", () => {
    expect(code).not.toMatch(/\bos\.|\bmath\.random|\bloadstring\b|\b_G\b/);
  });
});

test.for([[undefined], [null], [1], [""], ["RESERVE"], ["reserved"], [["RESERVED"]]])(
  "an answer that the table does not know is an error: %s",
  ([answer]) => {
    expect(() => outcomeOf(scripts.admit, answer)).toThrow("script admit answered");
  },
);

test("an answer of the table is passed on", () => {
  for (const { script } of all) for (const outcome of script.outcomes) expect(outcomeOf(script, outcome)).toBe(outcome);
});
