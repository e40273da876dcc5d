import type { IncomingHttpHeaders } from "node:http";
import { Refusal } from "../../domain/refusal.js";
import { type Failure, failureOf } from "../error-table.js";
import type { Cors } from "./cors.js";

/** Built once: whoever floods the port with these is not known, and pays for none of it. */
const otherOrigin = foreignPage(
  "origin",
  "pages of this origin may not call: it is not the service's own, and CORS_ORIGINS does not name it",
);
const otherName = foreignPage(
  "host",
  "without AUTH only this machine may call, by the name localhost or an address of its own",
);

/** They change nothing. */
const readingMethods: readonly (string | undefined)[] = ["GET", "HEAD", "OPTIONS"];
const loopbackHost = /^(([\w-]+\.)*localhost\.?|127(\.\d{1,3}){3}|\[::1\])(:\d*)?$/i;

/** Why a request is refused, and what they are told. */
export interface ForeignPage {
  /** What of the request is another one than the service's own. */
  readonly why: "origin" | "host";
  readonly failure: Failure;
}

/**
 * What pages of others must not have a browser do. CORS keeps them from reading answers, and from most calls, but not from a POST
 * without a body or a content type of its own. A browser says with every call that may change something whose page it is
 * (Origin); who is no browser does not say that, and is not meant.
 */
export class ForeignPages {
  /** `isOfThisMachine`: nobody is asked who they are, for all who come are at this machine. */
  constructor(
    private readonly cors: Cors | undefined,
    private readonly isOfThisMachine: boolean,
  ) {}

  /** undefined: it is not refused. */
  refusalOf(method: string | undefined, headers: IncomingHttpHeaders): ForeignPage | undefined {
    const host = (headers[":authority"] as string | undefined) ?? headers.host;
    // Whoever owns a name can have it lead to this machine: to the browser, the page is the service's own then.
    if (this.isOfThisMachine && isForeign(host)) return otherName;
    const { origin } = headers;
    if (origin === undefined || readingMethods.includes(method)) return undefined;
    // A proxy may have put another host in its place, and a page of the same host that came without TLS may be anybody's; browsers that say
    // this know better, and no page can have them say something else.
    const site = headers["sec-fetch-site"];
    if (site === undefined ? isOwn(origin, host) : site === "same-origin") return undefined;
    return this.cors?.allows(origin) ? undefined : otherOrigin;
  }
}

function foreignPage(why: ForeignPage["why"], message: string): ForeignPage {
  return { why, failure: failureOf(new Refusal("PERMISSION_DENIED", [], message)) };
}

/** What is no host at all comes from no browser, and is refused elsewhere. */
function isForeign(host = ""): boolean {
  return !loopbackHost.test(host) && URL.canParse(`http://${host}`);
}

/** Not by the scheme: a proxy may have ended TLS. */
function isOwn(origin: string, host: string | undefined): boolean {
  const [scheme] = /^https?:\/\//.exec(origin) ?? [];
  const own = `${scheme}${host}`;
  if (!scheme || !URL.canParse(origin) || !URL.canParse(own)) return false;
  return new URL(origin).host === new URL(own).host;
}
