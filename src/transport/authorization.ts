import { createHash } from "node:crypto";
import { type DescField, type DescMethod, getOption, ScalarType } from "@bufbuild/protobuf";
import { scope as scopeOption } from "../../gen/coupon/v1/options_pb.js";
import type { CallKind } from "../domain/caller-limits.js";
import { isScope, type Principal, type Scope } from "../domain/principal.js";
import { Refusal } from "../domain/refusal.js";
import { callKindOf } from "./overload/call-kind.js";

/** What callers may do with one method. */
export class Authorization {
  readonly scope: Scope;
  readonly kind: CallKind;
  private readonly method: DescMethod;
  private readonly userId: DescField | undefined;
  private readonly requestId: DescField | undefined;
  private readonly closed: Refusal;

  /** Throws when the method does not say what it asks for. */
  constructor(method: DescMethod) {
    const scope = getOption(method, scopeOption);
    if (!isScope(scope)) throw new Error(`${method.parent.typeName}.${method.name} has no known (coupon.v1.scope)`);
    this.method = method;
    this.scope = scope;
    this.kind = callKindOf(method);
    this.userId = stringField(method, "user_id");
    this.requestId = stringField(method, "request_id");
    this.closed = new Refusal("PERMISSION_DENIED", [], `the caller lacks the scope ${scope}`, { facts: { scope } });
  }

  /** What can be told before the request is read. */
  mayCall({ scopes, userId }: Principal): Refusal | undefined {
    if (!scopes.has(this.scope)) return this.closed;
    if (userId === undefined || this.userId || this.scope === "catalog.read") return undefined;
    return new Refusal("PERMISSION_DENIED", [], "the method is not for end users");
  }

  /** An end user has nothing of another user's: not even that it exists. */
  mayAsk({ userId }: Principal, request: unknown): Refusal | undefined {
    if (userId === undefined || !this.userId) return undefined;
    if (textOf(request, this.userId) === userId) return undefined;
    return new Refusal("USER_COUPON_NOT_FOUND");
  }

  /**
   * Two callers may use the same request id, so each has its own: what is kept is a hash of both. Where nobody is asked who
   * they are it is kept as it came, and so are those of earlier releases. Answers it as it came; empty: there is none.
   */
  claimRequestId({ id }: Principal, request: unknown): string {
    const given = this.requestId ? textOf(request, this.requestId) : "";
    if (id === "" || !this.requestId || !given) return given;
    const own = createHash("sha256").update(`${id}\0${this.method.name}\0${given}`).digest("base64url");
    (request as Record<string, unknown>)[this.requestId.localName] = own;
    return given;
  }
}

function stringField({ input }: DescMethod, name: string): DescField | undefined {
  return input.fields.find(
    (field) => field.name === name && field.fieldKind === "scalar" && field.scalar === ScalarType.STRING,
  );
}

function textOf(request: unknown, { localName }: DescField): string {
  return (request as Record<string, string>)[localName] ?? "";
}
