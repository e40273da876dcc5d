/** Causes that are looked through: an error may be its own cause. */
const maxCauses = 5;

/** The code of an error or of what has caused it: an SQLSTATE, or what the driver or the network calls it. */
export function errorCode(error: unknown): string | undefined {
  let at = error;
  for (let depth = 0; depth < maxCauses && at instanceof Error; depth += 1) {
    const { code } = at as { code?: unknown };
    if (typeof code === "string") return code;
    at = at.cause;
  }
  return undefined;
}
