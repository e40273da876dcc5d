import { type Command, InvalidArgumentError, Option } from "commander";
import {
  type CreateKeyResponse,
  CreateKeyResponseSchema,
  durationFromMs,
  type Key,
  KeySchema,
  pages,
  type RotateKeyResponse,
  RotateKeyResponseSchema,
  type timestampFromDate,
} from "../../node.js";
import { durationOf, timeOf } from "../parse.js";
import { type Cell, fields, timeText } from "../render.js";
import type { Act, Session } from "../session.js";
import { limitOption, pageSize } from "./coupons.js";

type Time = ReturnType<typeof timestampFromDate>;

export function addKeysCommands(program: Command, act: Act): void {
  const keys = program.command("keys").description("API keys of callers; they need the scope admin");
  const expires = () => new Option("--expires <when>", "in 90d, or 2035-01-31T00:00:00Z").argParser(timeOf);

  keys
    .command("create")
    .description("creates a key, and prints it: once, and nothing else on standard output")
    .requiredOption("--caller <name>", "whose key it is")
    .requiredOption("--scopes <list>", "what it allows, with commas between", scopesOf)
    .addOption(expires())
    .action(
      ({ caller, scopes, expires: end }: { caller: string; scopes: string[]; expires?: Time }, command: Command) =>
        act(async (session) => {
          const request = { caller, scopes, ...(end && { expireTime: end }) };
          const answer = await session.client.auth.createKey(request, session.call);
          tell(session, answer, () => session.output.one(CreateKeyResponseSchema, answer, () => `${answer.keyText}\n`));
        }, command),
    );

  keys
    .command("list")
    .description("lists keys, the newest first")
    .option("--caller <name>", "only those of one caller")
    .addOption(limitOption())
    .action(({ caller = "", limit }: { caller?: string; limit: number }, command: Command) =>
      act(async ({ client, output, call }) => {
        const found = pages(client.auth.listKeys, { caller, pageSize: pageSize(limit) }, call);
        const heads = ["id", "caller", "scopes", "created", "expires", "revoked"];
        await output.many(KeySchema, found, limit, heads, (key): Cell[] => [
          ...[key.id, key.caller, key.scopes.join(",")],
          ...[timeText(key.createTime), timeText(key.expireTime), timeText(key.revokeTime)],
        ]);
      }, command),
    );

  keys
    .command("rotate")
    .description("creates a key of the same caller, prints it, and lets the old one expire")
    .argument("<key>", "id of the old key")
    .addOption(new Option("--overlap <time>", "for how long the old one still holds").argParser(durationOf))
    .addOption(expires())
    .action((keyId: string, options: { overlap?: number; expires?: Time }, command: Command) =>
      act(async (session) => {
        const { overlap, expires: end } = options;
        const request = {
          keyId,
          ...(overlap !== undefined && { overlap: durationFromMs(overlap) }),
          ...(end && { expireTime: end }),
        };
        const answer = await session.client.auth.rotateKey(request, session.call);
        tell(session, answer, () => session.output.one(RotateKeyResponseSchema, answer, () => `${answer.keyText}\n`));
      }, command),
    );

  keys
    .command("expire")
    .description("has a key expire earlier than it would")
    .argument("<key>", "its id")
    .addOption(expires().makeOptionMandatory())
    .action((keyId: string, { expires: expireTime }: { expires: Time }, command: Command) =>
      act(async (session) => {
        show(session, (await session.client.auth.expireKey({ keyId, expireTime }, session.call)).key);
      }, command),
    );

  keys
    .command("revoke")
    .description("ends a key for ever, within 5 seconds on every replica")
    .argument("<key>", "its id")
    .action((keyId: string, _: object, command: Command) =>
      act(async (session) => {
        show(session, (await session.client.auth.revokeKey({ keyId }, session.call)).key);
      }, command),
    );
}

function scopesOf(text: string): string[] {
  const scopes = text.split(",").map((one) => one.trim());
  if (scopes.includes("")) throw new InvalidArgumentError("Write scopes with commas between.");
  return scopes;
}

function tell({ output }: Session, { key, keyText }: CreateKeyResponse | RotateKeyResponse, print: () => void): void {
  print();
  if (key && !output.json) output.note(keyFields(key).trimEnd());
  output.note(
    keyText ? "This is the only time that the key is shown." : "An earlier call has made this key, and was told it.",
  );
}

function show({ output }: Session, key: Key | undefined): void {
  if (key) output.one(KeySchema, key, () => keyFields(key));
}

function keyFields(key: Key): string {
  return fields([
    ["id", key.id],
    ["caller", key.caller],
    ["scopes", key.scopes.join(",")],
    ["created", timeText(key.createTime)],
    ["expires", timeText(key.expireTime)],
    ["revoked", timeText(key.revokeTime)],
    ["replaces", key.replacedKeyId],
  ]);
}
