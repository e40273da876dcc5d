import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { readConfig } from "../../../src/config.js";
import { anybody } from "../../../src/domain/principal.js";
import { openAuth } from "../../../src/wiring/auth.js";
import { audience, Issuer, issuerName } from "../../support/issuer.js";

const folder = await mkdtemp(join(tmpdir(), "coupon-keys-"));
afterAll(() => rm(folder, { recursive: true, force: true }));
const file = join(folder, "jwks.json");

const openWith = async (settings: Record<string, string>) => {
  const { authenticator } = await openAuth({
    config: readConfig(settings),
    log: { debug: () => {} },
    failures: { authFailed: () => {} },
    clock: { nowMs: Date.now },
  } as never);
  return authenticator;
};
const jwt = { AUTH: "jwt", JWT_ISSUER: issuerName, JWT_AUDIENCE: audience, JWT_JWKS_FILE: file };

test("with AUTH=off, or without AUTH, nobody is asked", async () => {
  for (const settings of [{ AUTH: "off" }, {}]) {
    const authenticator = await openWith(settings as Record<string, string>);
    expect(authenticator.authenticate({ header: () => undefined })).toBe(anybody);
  }
});

test("keys of a file are read at the start, which is refused when they are none", async () => {
  const wrong = (text: string) => ({
    name: "WrongSetting",
    message: expect.stringContaining(`  JWT_JWKS_FILE: ${text}`),
  });
  await expect(openWith(jwt)).rejects.toMatchObject(wrong("ENOENT"));
  for (const text of ["", "{}", '{"keys":[]}', '{"keys":[{"kty":"oct","k":"AA"}]}']) {
    await writeFile(file, text);
    await expect(openWith(jwt)).rejects.toMatchObject(wrong(""));
  }
  const issuer = await Issuer.create();
  await writeFile(file, JSON.stringify(await issuer.jwks()));
  const authenticator = await openWith(jwt);
  const token = await issuer.sign();
  expect(await authenticator.authenticate({ header: () => `Bearer ${token}` })).toMatchObject({
    id: `jwt:${issuerName}#shop`,
  });
  expect(authenticator.authenticate({ header: () => undefined })).toMatchObject({ reason: "UNAUTHENTICATED" });
});
