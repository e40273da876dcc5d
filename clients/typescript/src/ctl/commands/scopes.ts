/** Which scopes a caller has, found out by trying: a method says PERMISSION_DENIED before it looks at what it is asked. */
import { getOption } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { type CouponClient, refusalOf, scope, services } from "../../node.js";

/** Changes nothing with an empty request, for each of them names what it is about: the answer is INVALID_FIELD where it is allowed. */
const harmless: ReadonlySet<string> = new Set(["pauseCoupon", "cancelCodeJob", "issueCoupon", "unlockCoupons"]);

export type ScopeAnswer = "allowed" | "denied" | { readonly error: unknown };

type Call = (request: object, options: { signal: AbortSignal }) => Promise<unknown>;

/** Each scope of the contract with a method that tells it. */
function probes(client: CouponClient): Map<string, Call> {
  const found = new Map<string, Call>();
  for (const [name, service] of Object.entries(services) as [keyof typeof services, { methods: readonly Method[] }][]) {
    for (const method of service.methods) {
      const reads = method.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS;
      if (method.methodKind !== "unary" || !(reads || harmless.has(method.localName))) continue;
      const needed = getOption(method, scope);
      const calls = client[name] as unknown as Record<string, Call>;
      if (!found.has(needed)) found.set(needed, calls[method.localName] as Call);
    }
  }
  return found;
}

type Method = (typeof services)[keyof typeof services]["methods"][number];

export async function tryScopes(client: CouponClient, signal: AbortSignal): Promise<Map<string, ScopeAnswer>> {
  const answers = new Map<string, ScopeAnswer>();
  for (const [name, call] of [...probes(client)].sort(([a], [b]) => a.localeCompare(b))) {
    const error = await call({}, { signal }).then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    const reason = refusalOf(error)?.reason;
    if (error === undefined || reason === "INVALID_FIELD") answers.set(name, "allowed");
    else answers.set(name, reason === "PERMISSION_DENIED" ? "denied" : { error });
  }
  return answers;
}
