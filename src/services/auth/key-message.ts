import type { Key as KeyMessage } from "../../../gen/coupon/v1/auth_service_pb.js";
import type { CallerKey } from "../../domain/caller-key.js";
import { timestampMessage } from "../message.js";

export function keyMessage(key: CallerKey): KeyMessage {
  const message: KeyMessage = {
    $typeName: "coupon.v1.Key",
    id: key.id,
    caller: key.caller,
    scopes: [...key.scopes],
    createTime: timestampMessage(key.createdAt),
    replacedKeyId: key.replacedId ?? "",
  };
  if (key.expiresAt) message.expireTime = timestampMessage(key.expiresAt);
  if (key.revokedAt) message.revokeTime = timestampMessage(key.revokedAt);
  return message;
}
