import { readFile } from "node:fs/promises";
import type { AuthFailures, Way } from "../auth/authenticator.js";
import { fixedKeys, type IssuerKeys, RemoteKeys } from "../auth/jwt/issuer-keys.js";
import { JwtAuthenticator } from "../auth/jwt/jwt-authenticator.js";
import { type Config, WrongSetting } from "../config.js";
import type { Clock } from "../platform/clock.js";
import type { FailureLog } from "../platform/failure-log.js";
import type { Logger } from "../platform/logger.js";

export interface JwtParts {
  readonly config: Config;
  readonly log: Logger;
  readonly failures: AuthFailures;
  readonly failureLog: FailureLog;
  readonly clock: Clock;
}

/** Callers that bring a JWT of the issuer that the settings name. */
export async function openJwt(parts: JwtParts): Promise<Way> {
  const { config, log, failures, failureLog, clock } = parts;
  return new JwtAuthenticator({
    issuer: config.JWT_ISSUER as string,
    audience: config.JWT_AUDIENCE as string,
    algorithms: config.JWT_ALGORITHMS,
    clockToleranceS: config.JWT_CLOCK_TOLERANCE_S,
    claims: { scopes: config.JWT_SCOPES_CLAIM, user: config.JWT_USER_CLAIM },
    keys: await openIssuerKeys(parts),
    clock,
    onRefused: (why) => {
      failures.authFailed("jwt", why);
      log.debug({ way: "jwt", why }, "a token does not hold");
    },
    onError: (error) => failureLog.failed("verify tokens", error),
  });
}

async function openIssuerKeys({ config, failureLog }: JwtParts): Promise<IssuerKeys> {
  if (config.JWT_JWKS_URL === undefined) {
    try {
      return fixedKeys(JSON.parse(await readFile(config.JWT_JWKS_FILE as string, "utf8")));
    } catch (error) {
      throw new WrongSetting([`JWT_JWKS_FILE: ${(error as Error).message}`]);
    }
  }
  const work = "fetch the keys of JWT_JWKS_URL";
  const keys = new RemoteKeys({
    url: new URL(config.JWT_JWKS_URL),
    onFetched: () => failureLog.succeeded(work),
    onFailed: (error) => failureLog.failed(work, error),
  });
  // So that no call has to wait for it. While the issuer is away the service starts all the same.
  await keys.fetchNow();
  return keys;
}
