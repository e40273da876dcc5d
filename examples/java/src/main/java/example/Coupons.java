package example;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Timestamp;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import coupon.v1.CancelUsageRequest;
import coupon.v1.CatalogServiceGrpc;
import coupon.v1.Coupon;
import coupon.v1.CouponChoice;
import coupon.v1.CreateCouponRequest;
import coupon.v1.Discount;
import coupon.v1.IssuanceServiceGrpc;
import coupon.v1.IssueCouponRequest;
import coupon.v1.LockCouponsRequest;
import coupon.v1.Money;
import coupon.v1.UsageServiceGrpc;
import coupon.v1.UseCouponsRequest;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptor;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.MetadataUtils;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.TimeUnit;

/** The life of a coupon with grpc-java: create, issue, lock, use, cancel, and two refusals. */
public final class Coupons {
  /** The library repeats a call that was turned away or lost, which is safe because of the request ids. */
  private static final Map<String, ?> SERVICE_CONFIG =
      Map.of(
          "methodConfig",
          List.of(
              Map.of(
                  "name", List.of(Map.of()),
                  "retryPolicy",
                      Map.of(
                          "maxAttempts", 4.0,
                          "initialBackoff", "0.1s",
                          "maxBackoff", "2s",
                          "backoffMultiplier", 2.0,
                          "retryableStatusCodes", List.of("UNAVAILABLE")))));

  public static void main(String[] args) throws InterruptedException {
    // Over a network: TlsChannelCredentials.create()
    ManagedChannel channel =
        Grpc.newChannelBuilder(setting("COUPON_TARGET", "localhost:50051"), InsecureChannelCredentials.create())
            .defaultServiceConfig(SERVICE_CONFIG)
            .enableRetry()
            // A connection whose other end is gone without a word is given up after 13 seconds, and not after 15 minutes.
            .keepAliveTime(10, TimeUnit.SECONDS)
            .keepAliveTimeout(3, TimeUnit.SECONDS)
            .intercept(new Deadline(), MetadataUtils.newAttachHeadersInterceptor(credentials()))
            .build();
    try {
      run(channel);
    } finally {
      channel.shutdown().awaitTermination(5, TimeUnit.SECONDS);
    }
  }

  private static void run(Channel channel) {
    var catalog = CatalogServiceGrpc.newBlockingStub(channel);
    var issuance = IssuanceServiceGrpc.newBlockingStub(channel);
    var usage = UsageServiceGrpc.newBlockingStub(channel);

    Instant expires = Instant.now().plus(Duration.ofDays(30));
    var created =
        catalog.createCoupon(
            CreateCouponRequest.newBuilder()
                .setCoupon(
                    Coupon.newBuilder()
                        .setName("Ten dollars off")
                        .setDiscount(Discount.newBuilder().setFixedAmount(usd(10_00)))
                        .setExpireTime(Timestamp.newBuilder().setSeconds(expires.getEpochSecond()))
                        .setQuantity(1))
                .setRequestId(newRequestId())
                .build());
    String couponId = created.getCoupon().getId();
    say("created", couponId);

    // A request id belongs to one intent: "give Ann one of these". Whoever repeats the call gets the same user coupon.
    var issueToAnn =
        IssueCouponRequest.newBuilder().setCouponId(couponId).setUserId("ann").setRequestId(newRequestId()).build();
    String userCouponId = issuance.issueCoupon(issueToAnn).getUserCoupon().getId();
    say("issued", userCouponId);
    var again = issuance.issueCoupon(issueToAnn);
    expect(again.getReplayed() && again.getUserCoupon().getId().equals(userCouponId), "the same user coupon", again);
    say("repeated", "the same one");

    // There was one only. A program looks at the reason; messages are for people.
    var issueToBob =
        IssueCouponRequest.newBuilder().setCouponId(couponId).setUserId("bob").setRequestId(newRequestId()).build();
    Refusal soldOut = refusalOf(() -> issuance.issueCoupon(issueToBob));
    expect(soldOut.reason().equals("SOLD_OUT"), "SOLD_OUT", soldOut);
    say("refused", soldOut.reason());

    // Of bad input each wrong field is named.
    Refusal invalid =
        refusalOf(() -> issuance.issueCoupon(IssueCouponRequest.newBuilder().setCouponId(couponId).build()));
    expect(invalid.reason().equals("INVALID_FIELD") && invalid.violations().size() == 1, "INVALID_FIELD", invalid);
    BadRequest.FieldViolation violation = invalid.violations().get(0);
    expect(violation.getField().equals("user_id"), "the field user_id", invalid);
    say("refused", invalid.reason() + ", " + violation.getField() + " " + violation.getDescription());

    // While Ann pays, nobody else can use her coupon: only who names the lock's version can.
    var choice = CouponChoice.newBuilder().setUserCouponId(userCouponId);
    var lock =
        usage
            .lockCoupons(
                LockCouponsRequest.newBuilder()
                    .setUserId("ann")
                    .addCoupons(choice)
                    .setOrderId("order-1")
                    .setOrderAmount(usd(80_00))
                    .setRequestId(newRequestId())
                    .build())
            .getLocks(0);
    say("locked", "until " + Instant.ofEpochSecond(lock.getExpireTime().getSeconds()));

    var used =
        usage.useCoupons(
            UseCouponsRequest.newBuilder()
                .setUserId("ann")
                .addCoupons(choice.setLockVersion(lock.getLockVersion()))
                .setProductId("shoes")
                .setOrderId("order-1")
                .setOrderAmount(usd(80_00))
                .setRequestId(newRequestId())
                .build());
    expect(used.getFinalAmount().getMinorUnits() == 70_00, "70.00 left to pay", used);
    say("used", "70.00 USD are left to pay");

    var cancelled =
        usage
            .cancelUsage(
                CancelUsageRequest.newBuilder()
                    .setUserId("ann")
                    .setUsageId(used.getUsages(0).getId())
                    .setRequestId(newRequestId())
                    .build())
            .getUsage();
    expect(cancelled.hasCancelTime(), "a cancelled usage", cancelled);
    say("cancelled", cancelled.getId());
  }

  /** Gives each call a deadline, for all its tries together. */
  private static final class Deadline implements ClientInterceptor {
    @Override
    public <Q, A> ClientCall<Q, A> interceptCall(MethodDescriptor<Q, A> method, CallOptions options, Channel next) {
      return next.newCall(method, options.withDeadlineAfter(5, TimeUnit.SECONDS));
    }
  }

  /** The key of the caller, where the service asks who calls. */
  private static Metadata credentials() {
    var headers = new Metadata();
    String key = setting("COUPON_KEY", "");
    if (!key.isEmpty()) {
      headers.put(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "Bearer " + key);
    }
    return headers;
  }

  /** Why the service refused a call, and, of bad input, which fields are wrong. */
  private record Refusal(String reason, List<BadRequest.FieldViolation> violations) {}

  /**
   * Makes a call that is refused. An error without a reason came from the way there and not from the service, and nobody
   * knows whether that call took effect: to repeat it is the way to find out.
   */
  private static Refusal refusalOf(Runnable call) {
    try {
      call.run();
    } catch (StatusRuntimeException error) {
      String reason = "";
      List<BadRequest.FieldViolation> violations = List.of();
      try {
        for (Any detail : StatusProto.fromThrowable(error).getDetailsList()) {
          if (detail.is(ErrorInfo.class)) {
            ErrorInfo info = detail.unpack(ErrorInfo.class);
            if (info.getDomain().equals("coupon.v1")) reason = info.getReason();
          } else if (detail.is(BadRequest.class)) {
            violations = detail.unpack(BadRequest.class).getFieldViolationsList();
          }
        }
      } catch (InvalidProtocolBufferException damaged) {
        error.addSuppressed(damaged);
      }
      if (reason.isEmpty()) throw error;
      return new Refusal(reason, violations);
    }
    throw new IllegalStateException("the call should have been refused");
  }

  private static void expect(boolean right, String what, Object answer) {
    if (!right) throw new IllegalStateException(what + " was expected, and not " + answer);
  }

  private static Money usd(long cents) {
    return Money.newBuilder().setCurrencyCode("USD").setMinorUnits(cents).build();
  }

  /** For a new intent. A real program stores it before it sends the call. */
  private static String newRequestId() {
    return UUID.randomUUID().toString();
  }

  private static String setting(String name, String otherwise) {
    return System.getenv().getOrDefault(name, otherwise);
  }

  private static void say(String step, String what) {
    System.out.printf("%-9s %s%n", step, what);
  }
}
