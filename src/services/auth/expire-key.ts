import { create } from "@bufbuild/protobuf";
import {
  type ExpireKeyRequest,
  ExpireKeyRequestSchema,
  ExpireKeyResponseSchema,
} from "../../../gen/coupon/v1/auth_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { type FieldViolation, invalid, Refusal } from "../../domain/refusal.js";
import type { KeyStore } from "../../storage/ports/keys.js";
import { dateOf, requestKey } from "../message.js";
import { keyMessage } from "./key-message.js";

export function expireKey(store: Pick<KeyStore, "expire">) {
  return async (request: ExpireKeyRequest, context: CallContext) => {
    const violations: FieldViolation[] = [];
    const expiresAt = dateOf(request.expireTime, "expire_time", violations);
    if (!expiresAt) return invalid(...violations);
    const key = await store.expire(
      request.keyId,
      expiresAt,
      requestKey("ExpireKey", ExpireKeyRequestSchema, request),
      context,
    );
    if (key instanceof Refusal) return key;
    return create(ExpireKeyResponseSchema, { key: keyMessage(key) });
  };
}
