import { stat } from "node:fs/promises";
import { dirname } from "node:path";

const anyoneMayEnter = 0o001;

/**
 * The first folder on the way to `path`, itself included, that an account without rights of its own cannot enter.
 * Undefined: it can get there. Told from the permission bits, since root may enter everything and so cannot just try.
 */
export async function barredFolder(path: string): Promise<string | undefined> {
  const parent = dirname(path);
  const above = parent === path ? undefined : await barredFolder(parent);
  return above ?? (((await stat(path)).mode & anyoneMayEnter) === 0 ? path : undefined);
}
