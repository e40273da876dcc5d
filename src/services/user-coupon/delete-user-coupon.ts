import { create } from "@bufbuild/protobuf";
import {
  type DeleteUserCouponRequest,
  DeleteUserCouponRequestSchema,
  DeleteUserCouponResponseSchema,
} from "../../../gen/coupon/v1/user_coupon_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { Refusal } from "../../domain/refusal.js";
import type { UserCouponStore } from "../../storage/ports.js";
import type { GateKeeper } from "../issuance/gate-keeper.js";
import { requestKey } from "../message.js";

export function deleteUserCoupon(store: UserCouponStore, keeper: GateKeeper) {
  return async (request: DeleteUserCouponRequest, context: CallContext) => {
    const { userId, restock, deleteUsed } = request;
    const userCouponId = request.userCouponId.toLowerCase();
    const key = requestKey("DeleteUserCoupon", DeleteUserCouponRequestSchema, request);
    let freedOf: string | undefined;
    const deleted = await store.delete(
      { userId, userCouponId, restock, deleteUsed, request: key },
      async (given) => {
        await keeper.giveBack([given]);
        if (given.freed) freedOf = given.couponId;
      },
      context.deadlineMs,
    );
    if (freedOf) await keeper.forget(freedOf);
    if (deleted instanceof Refusal) return deleted;
    return create(DeleteUserCouponResponseSchema, { restocked: deleted.restocked });
  };
}
