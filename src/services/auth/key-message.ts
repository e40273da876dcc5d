import type { Duration, Timestamp } from "@bufbuild/protobuf/wkt";
import type { Key as KeyMessage } from "../../../gen/coupon/v1/auth_service_pb.js";
import type { CallerKey } from "../../domain/caller-key.js";
import type { FieldViolation } from "../../domain/refusal.js";
import { dateOf, millisOf, timestampMessage } from "../message.js";

/** What is wrong with the times of CreateKey, RotateKey or ExpireKey and no rule of the contract says. */
export function wrongInTimes(request: {
  overlap?: Duration | undefined;
  expireTime?: Timestamp | undefined;
}): FieldViolation[] {
  const violations: FieldViolation[] = [];
  millisOf(request.overlap, "overlap", violations);
  dateOf(request.expireTime, "expire_time", violations);
  return violations;
}

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
