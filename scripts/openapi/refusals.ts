import type { DescEnum, DescMethod } from "@bufbuild/protobuf";
import { Code as ConnectCode } from "@connectrpc/connect";
import { codeToHttpStatus } from "@connectrpc/connect/protocol-connect";
import { type Reason, Refusal, reasons } from "../../src/domain/refusal.js";
import { errorTable, failureOf } from "../../src/transport/error-table.js";
import { restFailure } from "../../src/transport/rest/rest-answer.js";
import type { Contract } from "./descriptors.js";
import { oneLine } from "./schemas.js";

/** What any call may be refused with: the comments of the methods do not repeat these. */
export const always: readonly Reason[] = [
  ...(["INVALID_FIELD", "MESSAGE_TOO_LARGE", "UNAUTHENTICATED", "PERMISSION_DENIED", "RATE_LIMITED"] as const),
  ...(["OVERLOADED", "STORE_UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL"] as const),
];

/** How a call is made over HTTP. */
export type Form = "rest" | "connect";

const prefix = "ERROR_REASON_";

function isReason(word: string): word is Reason {
  return (reasons as readonly string[]).includes(word);
}

/** Why calls of a method are refused, as its comment says it: in the order of the enum. Throws at a word that is no reason. */
export function refusalsOf(contract: Contract, method: DescMethod): Reason[] {
  const named = new Set<Reason>([...always, ...namedBy(contract, method, new Set())]);
  // An end user is told so of what is another user's, whatever the method.
  if (method.input.fields.some(({ name }) => name === "user_id")) named.add("USER_COUPON_NOT_FOUND");
  return reasons.filter((reason) => named.has(reason));
}

function namedBy(contract: Contract, method: DescMethod, seen: Set<DescMethod>): Reason[] {
  seen.add(method);
  const comment = contract.commentOf(method);
  const list = /\b(?:[Ee]rrors?|refusals)\b[^:.]*:([\s\S]*)$/.exec(comment)?.[1];
  if (list === undefined)
    throw new Error(`${method.name}: its comment does not say with what it is refused ("Errors: ...")`);
  const others = [...list.matchAll(/\bas ([A-Z]\w+)\b/g)].flatMap(([, name]) => {
    const other = method.parent.methods.find((one) => one.name === name);
    return other && !seen.has(other) ? namedBy(contract, other, seen) : [];
  });
  const words = [...list.matchAll(/\b[A-Z][A-Z]+(?:_[A-Z]+)+\b/g)].map(([word]) => word);
  const unknown = words.filter((word) => !isReason(word));
  if (unknown.length > 0) throw new Error(`${method.name}: its comment names ${unknown}, which no ErrorReason is`);
  const single = [...list.matchAll(/\b[A-Z]{4,}\b/g)].map(([word]) => word).filter(isReason);
  return [...others, ...(words as Reason[]), ...single];
}

/** As each of the front ends has it. */
export function httpStatusOf(reason: Reason, form: Form): number {
  if (form === "rest") return restFailure(failureOf(new Refusal(reason))).status;
  return codeToHttpStatus(errorTable[reason].code as number as ConnectCode);
}

/** The code of gRPC in capitals: FAILED_PRECONDITION. */
export function codeNameOf(reason: Reason): string {
  return String(ConnectCode[errorTable[reason].code])
    .replace(/(?<=[a-z])(?=[A-Z])/g, "_")
    .toUpperCase();
}

/** What the enum says of a reason, behind the code that its comment begins with. */
export function meaningOf(contract: Contract, reason: Reason): string {
  const desc = contract.registry.getEnum("coupon.v1.ErrorReason") as DescEnum;
  const value = desc.values.find(({ name }) => name === `${prefix}${reason}`);
  if (!value) throw new Error(`coupon.v1.ErrorReason has no ${reason}`);
  const [, code, meaning] = /^([A-Z_]+)(?:, with RetryInfo)?\. ([\s\S]*)$/.exec(contract.commentOf(value)) ?? [];
  if (code !== codeNameOf(reason) || !meaning)
    throw new Error(`${value.name}: its comment says ${code}, and it is sent as ${codeNameOf(reason)}`);
  return oneLine(meaning);
}

/** Reasons by the status that they are sent with. */
export function byStatus(all: readonly Reason[], form: Form): [number, Reason[]][] {
  const groups = new Map<number, Reason[]>();
  for (const reason of all) {
    const status = httpStatusOf(reason, form);
    groups.set(status, [...(groups.get(status) ?? []), reason]);
  }
  return [...groups].sort(([one], [other]) => one - other);
}
