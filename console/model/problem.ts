/** Why a call did not do what it was to do, in words for an operator. */
export class Problem extends Error {
  override readonly name = "Problem";

  constructor(
    /** An ErrorReason without its prefix, or NO_ANSWER, or HTTP and a status. */
    readonly reason: string,
    /** What the service has said. */
    readonly said: string,
    readonly facts: Readonly<Record<string, string>> = {},
  ) {
    super(said || reason);
  }

  /** Whether the service was not reached, or cannot serve at the moment: what is shown is old, and soon it may go on. */
  get isAway(): boolean {
    return ["NO_ANSWER", "OVERLOADED", "STORE_UNAVAILABLE", "DEADLINE_EXCEEDED", "RATE_LIMITED"].includes(this.reason);
  }

  get needsKey(): boolean {
    return this.reason === "UNAUTHENTICATED";
  }

  /** The state of the page, in two words. */
  get label(): string {
    if (this.needsKey) return "Key needed";
    return this.reason === "NO_ANSWER" ? "No connection" : "Not live";
  }

  /** What it means, and what to do. */
  get words(): string {
    if (this.reason === "PERMISSION_DENIED" && this.facts.scope)
      return `This key may not do that: it lacks the scope ${this.facts.scope}. Use a key that has it.`;
    const known = words[this.reason];
    if (known) return known;
    return this.said
      ? `The service refused this: ${this.said} (${this.reason}).`
      : `The service answered ${this.reason}.`;
  }
}

const words: Readonly<Record<string, string>> = {
  NO_ANSWER: "The service does not answer. What you see is what was read last; the page goes on trying.",
  OVERLOADED: "The service has more to do than it can, and puts selling before pages like this one. It is tried again.",
  STORE_UNAVAILABLE: "The service does not reach its database. Nothing is issued until it does. It is tried again.",
  DEADLINE_EXCEEDED: "The answer took too long. It is tried again.",
  RATE_LIMITED: "This key has made too many calls. The page waits, and then tries again.",
  UNAUTHENTICATED: "The service wants a key, and does not know this one, or it has ended. Enter one that holds.",
  PERMISSION_DENIED: "This key may not do that. Use a key with the scope that it asks for.",
  COUPON_NOT_FOUND: "There is no such coupon. Look whether the link is complete.",
  INTERNAL: "The service has made a fault. Its log has more about it, under the request's id.",
};

/** What refuses requests for a coupon, as an operator would say it. */
const refusals: Readonly<Record<string, string>> = {
  ALREADY_ISSUED: "Holds it already",
  SOLD_OUT: "Sold out",
  COUPON_PAUSED: "Paused",
  COUPON_NOT_STARTED: "Not begun yet",
  COUPON_ENDED: "Ended",
  COUPON_NOT_FOUND: "Deleted",
  QUOTA_REACHED: "Daily quota reached",
  THROTTLED: "Queue too long (throttle)",
  USAGE_CAP_REACHED: "Usage cap reached",
  CODE_TAKEN: "Code taken",
  CODE_EXPIRED: "Code expired",
  CODE_NOT_FOUND: "No such code",
  REQUEST_ID_REUSED: "Request id used before",
  OVERLOADED: "Service overloaded",
  STORE_UNAVAILABLE: "Database away",
  DEADLINE_EXCEEDED: "Took too long",
  INTERNAL: "Fault of the service",
};

/** Refusals that are not the sale's own rules, but trouble. */
const troubles = new Set(["OVERLOADED", "STORE_UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL"]);

export function refusalWords(reason: string): string {
  return refusals[reason] ?? sentence(reason);
}

export function isTrouble(reason: string): boolean {
  return troubles.has(reason);
}

/** MIXED_WORDS becomes "Mixed words". */
export function sentence(name: string): string {
  const text = name.toLowerCase().replaceAll("_", " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

interface ErrorBody {
  readonly code?: unknown;
  readonly message?: unknown;
  readonly details?: readonly { readonly type?: unknown; readonly value?: unknown }[];
}

/** What the Connect protocol says of a refused call. */
export function problemFrom(status: number, body: unknown): Problem {
  const { code, message, details } = (typeof body === "object" && body !== null ? body : {}) as ErrorBody;
  const said = typeof message === "string" ? message : "";
  const list = Array.isArray(details) ? details : [];
  const info = list.find((one) => one?.type === "google.rpc.ErrorInfo" && typeof one.value === "string");
  if (info) {
    const { reason, facts } = errorInfo(info.value as string);
    if (reason) return new Problem(reason, said, facts);
  }
  // A proxy has answered, or nobody at all.
  if (status >= 502 && status <= 504) return new Problem("NO_ANSWER", said);
  return new Problem(typeof code === "string" ? code.toUpperCase() : `HTTP ${status}`, said);
}

/** google.rpc.ErrorInfo: the reason is field 1, the map of facts is field 3. All of its fields are texts or messages. */
function errorInfo(base64: string): { reason: string; facts: Record<string, string> } {
  const fields = fieldsOf(bytesOf(base64));
  const facts: Record<string, string> = {};
  for (const [number, bytes] of fields) {
    if (number !== 3) continue;
    const entry = new Map(fieldsOf(bytes));
    facts[textOf(entry.get(1))] = textOf(entry.get(2));
  }
  return { reason: textOf(fields.find(([number]) => number === 1)?.[1]), facts };
}

function bytesOf(base64: string): Uint8Array {
  try {
    return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  } catch {
    return new Uint8Array();
  }
}

const textOf = (bytes: Uint8Array | undefined) => (bytes ? new TextDecoder().decode(bytes) : "");

/** The fields of a message that has only such as say how long they are; anything else ends the list. */
function fieldsOf(bytes: Uint8Array): [number, Uint8Array][] {
  const fields: [number, Uint8Array][] = [];
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let shift = 0; shift < 28 && at < bytes.length; shift += 7) {
      const byte = bytes[at++] as number;
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    return -1;
  };
  while (at < bytes.length) {
    const tag = varint();
    if (tag < 0 || (tag & 7) !== 2) break;
    const length = varint();
    if (length < 0 || at + length > bytes.length) break;
    fields.push([tag >> 3, bytes.subarray(at, at + length)]);
    at += length;
  }
  return fields;
}
