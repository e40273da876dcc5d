import { type Authenticator, Composed, off, type Way } from "../auth/authenticator.js";
import { type AuthWay, authWays } from "../config.js";
import { type JwtParts, openJwt } from "./jwt.js";

const open: Partial<Record<AuthWay, (parts: JwtParts) => Promise<Way>>> = { jwt: openJwt };

/** Who may call. Throws when it cannot be known at the start. */
export async function openAuth(parts: JwtParts): Promise<Authenticator> {
  const wanted = parts.config.AUTH ?? [];
  if (wanted.length === 0) return off;
  // In the order of the list, whatever the order in AUTH.
  const ways = authWays.filter((way) => wanted.includes(way)).map((way) => [way, open[way]] as const);
  const opened = ways.map(([way, openWay]) => {
    if (!openWay) throw new Error(`AUTH: ${way} cannot be asked for yet`);
    return openWay(parts);
  });
  return new Composed(await Promise.all(opened), parts.failures);
}
