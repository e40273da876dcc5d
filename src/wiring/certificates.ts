import type { Way } from "../auth/authenticator.js";
import { Certificates, readCertificateNames } from "../auth/certificates.js";
import type { Job } from "../jobs/job-loop.js";
import type { JwtParts } from "./jwt.js";
import { reloading } from "./reloading.js";

const maxLoggedNames = 5;

/** Callers that show a certificate whose name a file has. */
export function openCertificates(
  { config, log, failures }: Pick<JwtParts, "config" | "log" | "failures">,
  jobs: Job[],
): Way {
  const certificates = new Certificates(new Map(), (why, names) => {
    failures.authFailed("certificates", why);
    log.debug({ way: "certificates", why, names: names.slice(0, maxLoggedNames) }, "a certificate is nobody's");
  });
  const setting = "AUTH_CERTIFICATES_FILE";
  const files = [{ setting, path: config.AUTH_CERTIFICATES_FILE as string }];
  jobs.push(reloading("reload callers", log, files, ([text = ""]) => certificates.use(callersIn(setting, text))));
  return certificates;
}

function callersIn(setting: string, text: string) {
  try {
    return readCertificateNames(text);
  } catch (error) {
    throw new Error(`${setting}: ${(error as Error).message}`);
  }
}
