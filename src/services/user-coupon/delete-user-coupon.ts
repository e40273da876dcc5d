import { create } from "@bufbuild/protobuf";
import {
  type DeleteUserCouponRequest,
  DeleteUserCouponRequestSchema,
  DeleteUserCouponResponseSchema,
} from "../../../gen/coupon/v1/user_coupon_service_pb.js";
import type { CallContext } from "../../domain/call-context.js";
import { Refusal } from "../../domain/refusal.js";
import type { GateKeeper } from "../../issuing/gate-keeper.js";
import type { GivenBack, UserCouponStore } from "../../storage/ports/user-coupons.js";
import { requestKey } from "../message.js";

export function deleteUserCoupon(store: UserCouponStore, keeper: GateKeeper) {
  return async (request: DeleteUserCouponRequest, context: CallContext) => {
    const { userId, restock, deleteUsed } = request;
    const userCouponId = request.userCouponId.toLowerCase();
    const key = requestKey("DeleteUserCoupon", DeleteUserCouponRequestSchema, request);
    let told: GivenBack | undefined;
    let isDone = false;
    try {
      const deleted = await store.delete(
        { userId, userCouponId, restock, deleteUsed, request: key },
        async (given) => {
          told = given;
          await keeper.giveBack([given]);
        },
        context.deadlineMs,
      );
      if (deleted instanceof Refusal) return deleted;
      isDone = !deleted.replayed;
      return create(DeleteUserCouponResponseSchema, { restocked: deleted.restocked });
    } finally {
      // The gate was told of what was then rolled back, or cannot count it: it has to read anew.
      if (told && (told.freed || !isDone)) await keeper.invalidate(told.couponId);
    }
  };
}
