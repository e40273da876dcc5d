import { create } from "@bufbuild/protobuf";
import {
  type RotateKeyRequest,
  RotateKeyRequestSchema,
  RotateKeyResponseSchema,
} from "../../../gen/coupon/v1/auth_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { defaultOverlapMs, type FreshKey } from "../../domain/caller-key.js";
import { type FieldViolation, invalid, Refusal } from "../../domain/refusal.js";
import type { KeyStore } from "../../storage/ports/keys.js";
import { dateOf, millisOf, requestKey } from "../message.js";
import { keyMessage } from "./key-message.js";

export function rotateKey(store: Pick<KeyStore, "rotate">, freshKey: () => FreshKey) {
  return async (request: RotateKeyRequest, context: CallContext) => {
    const violations: FieldViolation[] = [];
    const overlapMs = millisOf(request.overlap, "overlap", violations) ?? defaultOverlapMs;
    const expiresAt = dateOf(request.expireTime, "expire_time", violations);
    if (violations.length > 0) return invalid(...violations);
    const { id, hash, text } = freshKey();
    const made = await store.rotate(
      request.keyId,
      { id, hash, overlapMs, expiresAt },
      requestKey("RotateKey", RotateKeyRequestSchema, request),
      context,
    );
    if (made instanceof Refusal) return made;
    return create(RotateKeyResponseSchema, {
      key: keyMessage(made.key),
      keyText: made.isReplay ? "" : text,
      replacedKey: keyMessage(made.replaced),
    });
  };
}
