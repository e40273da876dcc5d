import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { scopes } from "../src/domain/principal.js";
import { packageRoot } from "../src/platform/package-root.js";

/** What all calls of a run say of who they come from, and what the service must be told to believe it. */
export interface Callers {
  /** Of the service. */
  readonly settings: Readonly<Record<string, string>>;
  /** Of each call. */
  readonly headers: Readonly<Record<string, string>>;
}

export interface CallersContext {
  /** For files that the service reads. It is removed in the end. */
  readonly folder: string;
  readonly databaseUrl: string;
}

/** By their names in `--auth`. To add one, add it here. `traced` is as `off`, with one call of a hundred traced. */
export const callers: Readonly<Record<string, (context: CallersContext) => Promise<Callers>>> = {
  off: async () => ({ settings: { AUTH: "off" }, headers: {} }),
  traced,
  jwt,
  keys: (context) => keys(context),
  // The caller has limits of its own, far away, so that its calls are counted.
  limits: (context) => keys(context, { manage: "1000000/1000000", issue: "1000000/1000000", use: "1000000/1000000" }),
};

/** Somebody takes what is exported, as a collector would, and forgets it. */
async function traced(): Promise<Callers> {
  const collector = createServer((request, response) => request.resume().on("end", () => response.end()));
  await new Promise<void>((resolve) => collector.listen(0, "127.0.0.1", resolve));
  collector.unref();
  return {
    settings: {
      AUTH: "off",
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${(collector.address() as AddressInfo).port}`,
      OTEL_TRACES_SAMPLER: "traceidratio",
      OTEL_TRACES_SAMPLER_ARG: "0.01",
    },
    headers: {},
  };
}

async function keys({ databaseUrl }: CallersContext, limits?: Readonly<Record<string, string>>): Promise<Callers> {
  const command = promisify(execFile);
  const main = join(packageRoot(), "dist/src/main.js");
  const run = (...args: string[]) =>
    command(process.execPath, [main, "keys", ...args], { env: { ...process.env, DATABASE_URL: databaseUrl } });
  const caller = limits ? "limited-benchmark" : "benchmark";
  const { stdout } = await run("create", "--caller", caller, "--scopes", scopes.join(","));
  const list = Object.entries(limits ?? {}).map(([kind, limit]) => `${kind}=${limit}`);
  if (limits) await run("limits", caller, "--set", list.join(","));
  return {
    settings: { AUTH: "keys", CALLER_LIMITS: limits ? list.join(",") : "off" },
    headers: { authorization: `Bearer ${stdout.trim()}` },
  };
}

async function jwt({ folder }: CallersContext): Promise<Callers> {
  const { publicKey, privateKey } = await generateKeyPair("ES256", { extractable: true });
  const file = join(folder, "jwks.json");
  await writeFile(file, JSON.stringify({ keys: [{ ...(await exportJWK(publicKey)), kid: "1", alg: "ES256" }] }));
  const [issuer, audience] = ["https://issuer.example", "coupons"];
  const token = await new SignJWT({ scope: scopes.join(" ") })
    .setProtectedHeader({ alg: "ES256", kid: "1", typ: "at+jwt" })
    .setIssuer(issuer)
    .setAudience(audience)
    .setSubject("benchmark")
    .setIssuedAt()
    .setExpirationTime("1d")
    .sign(privateKey);
  return {
    settings: { AUTH: "jwt", CALLER_LIMITS: "off", JWT_ISSUER: issuer, JWT_AUDIENCE: audience, JWT_JWKS_FILE: file },
    headers: { authorization: `Bearer ${token}` },
  };
}
