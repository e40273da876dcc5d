"""The life of a coupon with grpcio: create, issue, lock, use, cancel, and two refusals."""

import json
import os
import sys
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path

# The generated code imports itself as coupon.v1, so its folder must be on the path.
sys.path.insert(0, str(Path(__file__).parent / "gen"))

import grpc
from coupon.v1 import catalog_service_pb2, catalog_service_pb2_grpc
from coupon.v1 import issuance_service_pb2, issuance_service_pb2_grpc
from coupon.v1 import usage_service_pb2, usage_service_pb2_grpc
from coupon.v1.coupon_pb2 import Coupon, Discount, Money
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc_status import rpc_status

# For a call with all its tries.
DEADLINE_SECONDS = 5

# The library repeats a call that was turned away or lost, which is safe because of the request ids.
SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}

# A connection whose other end is gone without a word is given up after 13 seconds, and not after 15 minutes.
KEEPALIVE = [
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.ping_timeout_ms", 3_000),
]


def main() -> None:
    target = os.environ.get("COUPON_TARGET", "localhost:50051")
    options = [("grpc.service_config", json.dumps(SERVICE_CONFIG)), *KEEPALIVE]
    # Over a network: grpc.secure_channel(target, grpc.ssl_channel_credentials(), options)
    with grpc.insecure_channel(target, options) as channel:
        run(channel)


def run(channel: grpc.Channel) -> None:
    catalog = catalog_service_pb2_grpc.CatalogServiceStub(channel)
    issuance = issuance_service_pb2_grpc.IssuanceServiceStub(channel)
    usage = usage_service_pb2_grpc.UsageServiceStub(channel)

    coupon = Coupon(
        name="Ten dollars off",
        discount=Discount(fixed_amount=usd(10_00)),
        expire_time=datetime.now(timezone.utc) + timedelta(days=30),
        quantity=1,
    )
    request = catalog_service_pb2.CreateCouponRequest(coupon=coupon, request_id=new_request_id())
    coupon_id = call(catalog.CreateCoupon, request).coupon.id
    say("created", coupon_id)

    # A request id belongs to one intent: "give Ann one of these". Whoever repeats the call gets the same user coupon.
    issue_to_ann = issuance_service_pb2.IssueCouponRequest(
        coupon_id=coupon_id, user_id="ann", request_id=new_request_id()
    )
    user_coupon_id = call(issuance.IssueCoupon, issue_to_ann).user_coupon.id
    say("issued", user_coupon_id)
    again = call(issuance.IssueCoupon, issue_to_ann)
    expect(again.replayed and again.user_coupon.id == user_coupon_id, "the same user coupon", again)
    say("repeated", "the same one")

    # There was one only. A program looks at the reason; messages are for people.
    issue_to_bob = issuance_service_pb2.IssueCouponRequest(
        coupon_id=coupon_id, user_id="bob", request_id=new_request_id()
    )
    reason, _ = refusal(issuance.IssueCoupon, issue_to_bob)
    expect(reason == "SOLD_OUT", "SOLD_OUT", reason)
    say("refused", reason)

    # Of bad input each wrong field is named.
    reason, violations = refusal(issuance.IssueCoupon, issuance_service_pb2.IssueCouponRequest(coupon_id=coupon_id))
    expect(reason == "INVALID_FIELD", "INVALID_FIELD", reason)
    expect([violation.field for violation in violations] == ["user_id"], "the field user_id", violations)
    say("refused", f"{reason}, {violations[0].field} {violations[0].description}")

    # While Ann pays, nobody else can use her coupon: only who names the lock's version can.
    choice = usage_service_pb2.CouponChoice(user_coupon_id=user_coupon_id)
    request = usage_service_pb2.LockCouponsRequest(
        user_id="ann",
        coupons=[choice],
        order_id="order-1",
        order_amount=usd(80_00),
        request_id=new_request_id(),
    )
    lock = call(usage.LockCoupons, request).locks[0]
    choice.lock_version = lock.lock_version
    say("locked", f"until {lock.expire_time.ToJsonString()}")

    request = usage_service_pb2.UseCouponsRequest(
        user_id="ann",
        coupons=[choice],
        product_id="shoes",
        order_id="order-1",
        order_amount=usd(80_00),
        request_id=new_request_id(),
    )
    used = call(usage.UseCoupons, request)
    expect(used.final_amount.minor_units == 70_00, "70.00 left to pay", used)
    say("used", "70.00 USD are left to pay")

    request = usage_service_pb2.CancelUsageRequest(
        user_id="ann", usage_id=used.usages[0].id, request_id=new_request_id()
    )
    cancelled = call(usage.CancelUsage, request).usage
    expect(cancelled.HasField("cancel_time"), "a cancelled usage", cancelled)
    say("cancelled", cancelled.id)


def call(method, request):
    """Calls with a deadline, and with the key of the caller where the service asks who calls."""
    key = os.environ.get("COUPON_KEY")
    metadata = [("authorization", f"Bearer {key}")] if key else None
    return method(request, timeout=DEADLINE_SECONDS, metadata=metadata)


def refusal(method, request) -> tuple[str, list[BadRequest.FieldViolation]]:
    """Makes a call that is refused; answers the reason and, of bad input, the fields that are wrong.

    An error without a reason came from the way there and not from the service, and nobody knows whether that call took
    effect: to repeat it is the way to find out.
    """
    try:
        answer = call(method, request)
    except grpc.RpcError as error:
        reason, violations = "", []
        status = rpc_status.from_call(error)
        for detail in status.details if status else []:
            info, bad_request = ErrorInfo(), BadRequest()
            if detail.Unpack(info) and info.domain == "coupon.v1":
                reason = info.reason
            elif detail.Unpack(bad_request):
                violations = list(bad_request.field_violations)
        if not reason:
            raise
        return reason, violations
    raise RuntimeError(f"it should have been refused, and was answered {answer}")


def expect(right: bool, what: str, answer: object) -> None:
    if not right:
        raise RuntimeError(f"{what} was expected, and not {answer}")


def usd(cents: int) -> Money:
    return Money(currency_code="USD", minor_units=cents)


def new_request_id() -> str:
    """For a new intent. A real program stores it before it sends the call."""
    return str(uuid.uuid4())


def say(step: str, what: str) -> None:
    print(f"{step:9} {what}")


if __name__ == "__main__":
    main()
