import type { DescMethod } from "@bufbuild/protobuf";
import { reflect } from "@bufbuild/protobuf/reflect";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import type { Scope } from "../domain/principal.js";
import type { Reason, Refusal } from "../domain/refusal.js";
import { isUuid } from "../platform/new-id.js";
import type { AdminCall, RefusedCall } from "../storage/ports/audit.js";

const plain = /^[!-~]{1,128}$/;
const administrative: ReadonlySet<Scope> = new Set<Scope>(["catalog.write", "codes.write", "admin"]);

export type OnRefused = (refused: Omit<RefusedCall, "at" | "id">) => void;

/** What is to be done with each refusal of a method; undefined: its calls are not put on record. */
export function refusalsOf(method: DescMethod, scope: Scope, onRefused: OnRefused | undefined) {
  if (!onRefused || !isAdministrative(method, scope)) return undefined;
  return ({ request, ...call }: AdminCall & { request?: unknown }, { reason }: Refusal) => {
    if (!undecided.has(reason)) onRefused({ call, reason, targetId: targetOf(method, request) });
  };
}

export function isAdministrative(method: DescMethod, scope: Scope): boolean {
  return administrative.has(scope) && method.idempotency !== MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS;
}

/**
 * What is no decision about a call: nobody knows who called, it was one too many, or nobody knows what became of it. That it
 * was made is in the log and in the metrics.
 */
const undecided: ReadonlySet<Reason> = new Set<Reason>([
  ...(["UNAUTHENTICATED", "RATE_LIMITED", "OVERLOADED"] as const),
  ...(["STORE_UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL"] as const),
]);

/** The id of what a request is about; null: nothing that is there already, as far as is known. */
function targetOf({ input }: DescMethod, request: unknown): string | null {
  if (request === undefined) return null;
  const message = reflect(input, request as never);
  const named = input.fields.find(({ name }) => ["coupon_id", "job_id", "key_id"].includes(name));
  const id = named ? message.get(named) : updatedId(request);
  // What is no id at all is not kept: it may be of any length, and what Postgres does not take would be refused with all beside it.
  return typeof id === "string" && plain.test(id) ? (isUuid(id) ? id.toLowerCase() : id) : null;
}

/** An update names what it is about within the message that it brings. */
function updatedId(request: unknown): unknown {
  const { coupon, updateMask } = request as { coupon?: { id: string }; updateMask?: unknown };
  return updateMask ? coupon?.id : undefined;
}
