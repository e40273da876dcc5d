import { create } from "@bufbuild/protobuf";
import {
  type CreateKeyRequest,
  CreateKeyRequestSchema,
  CreateKeyResponseSchema,
} from "../../../gen/coupon/v1/auth_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import type { FreshKey } from "../../domain/caller-key.js";
import { isScope } from "../../domain/principal.js";
import { type FieldViolation, invalid, Refusal } from "../../domain/refusal.js";
import type { KeyStore } from "../../storage/ports/keys.js";
import { dateOf, requestKey } from "../message.js";
import { keyMessage } from "./key-message.js";

export function createKey(store: Pick<KeyStore, "create">, freshKey: () => FreshKey) {
  return async (request: CreateKeyRequest, context: CallContext) => {
    const violations: FieldViolation[] = [];
    const expiresAt = dateOf(request.expireTime, "expire_time", violations);
    if (violations.length > 0) return invalid(...violations);
    const { id, hash, text } = freshKey();
    const { caller } = request;
    const made = await store.create(
      { id, hash, caller, scopes: request.scopes.filter(isScope), expiresAt },
      requestKey("CreateKey", CreateKeyRequestSchema, request),
      context,
    );
    if (made instanceof Refusal) return made;
    return create(CreateKeyResponseSchema, { key: keyMessage(made.key), keyText: made.isReplay ? "" : text });
  };
}
