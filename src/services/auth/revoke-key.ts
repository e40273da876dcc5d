import { create } from "@bufbuild/protobuf";
import {
  type RevokeKeyRequest,
  RevokeKeyRequestSchema,
  RevokeKeyResponseSchema,
} from "../../../gen/coupon/v1/auth_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { Refusal } from "../../domain/refusal.js";
import type { KeyStore } from "../../storage/ports/keys.js";
import { requestKey } from "../message.js";
import { keyMessage } from "./key-message.js";

export function revokeKey(store: Pick<KeyStore, "revoke">) {
  return async (request: RevokeKeyRequest, context: CallContext) => {
    const key = await store.revoke(request.keyId, requestKey("RevokeKey", RevokeKeyRequestSchema, request), context);
    if (key instanceof Refusal) return key;
    return create(RevokeKeyResponseSchema, { key: keyMessage(key) });
  };
}
