// The life of a coupon with grpc-go: create, issue, lock, use, cancel, and two refusals.
package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	couponv1 "example.com/coupons/gen/coupon/v1"
)

// The library repeats a call that was turned away or lost, which is safe because of the request ids.
const serviceConfig = `{
  "methodConfig": [{
    "name": [{}],
    "retryPolicy": {
      "maxAttempts": 4, "initialBackoff": "0.1s", "maxBackoff": "2s", "backoffMultiplier": 2,
      "retryableStatusCodes": ["UNAVAILABLE"]
    }
  }]
}`

func main() {
	log.SetFlags(0)
	if err := run(); err != nil {
		log.Fatalf("failed: %v", err)
	}
}

func run() error {
	target := os.Getenv("COUPON_TARGET")
	if target == "" {
		target = "localhost:50051"
	}
	connection, err := grpc.NewClient(target,
		grpc.WithTransportCredentials(insecure.NewCredentials()), // over a network: credentials.NewTLS(...)
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithUnaryInterceptor(prepare),
		// A connection whose other end is gone without a word is given up after 13 seconds, and not after 15 minutes.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 3 * time.Second}),
	)
	if err != nil {
		return err
	}
	defer connection.Close()
	catalog := couponv1.NewCatalogServiceClient(connection)
	issuance := couponv1.NewIssuanceServiceClient(connection)
	usage := couponv1.NewUsageServiceClient(connection)
	ctx := context.Background()

	created, err := catalog.CreateCoupon(ctx, &couponv1.CreateCouponRequest{
		Coupon: &couponv1.Coupon{
			Name:       "Ten dollars off",
			Discount:   &couponv1.Discount{Kind: &couponv1.Discount_FixedAmount{FixedAmount: usd(10_00)}},
			ExpireTime: timestamppb.New(time.Now().AddDate(0, 1, 0)),
			Quantity:   new(int64(1)),
		},
		RequestId: newRequestID(),
	})
	if err != nil {
		return err
	}
	couponID := created.Coupon.Id
	fmt.Println("created  ", couponID)

	// A request id belongs to one intent: "give Ann one of these". Whoever repeats the call gets the same user coupon.
	issueToAnn := &couponv1.IssueCouponRequest{
		Target:    &couponv1.IssueCouponRequest_CouponId{CouponId: couponID},
		UserId:    "ann",
		RequestId: newRequestID(),
	}
	issued, err := issuance.IssueCoupon(ctx, issueToAnn)
	if err != nil {
		return err
	}
	userCouponID := issued.UserCoupon.Id
	fmt.Println("issued   ", userCouponID)
	again, err := issuance.IssueCoupon(ctx, issueToAnn)
	if err != nil {
		return err
	}
	if !again.Replayed || again.UserCoupon.Id != userCouponID {
		return fmt.Errorf("the repeated call was answered %v", again)
	}
	fmt.Println("repeated  the same one")

	// There was one only. A program looks at the reason; messages are for people.
	_, err = issuance.IssueCoupon(ctx, &couponv1.IssueCouponRequest{
		Target:    &couponv1.IssueCouponRequest_CouponId{CouponId: couponID},
		UserId:    "bob",
		RequestId: newRequestID(),
	})
	if reason, _ := refusal(err); reason != couponv1.ErrorReason_ERROR_REASON_SOLD_OUT {
		return fmt.Errorf("SOLD_OUT was expected: %w", err)
	}
	fmt.Println("refused   SOLD_OUT")

	// Of bad input each wrong field is named.
	_, err = issuance.IssueCoupon(ctx, &couponv1.IssueCouponRequest{
		Target: &couponv1.IssueCouponRequest_CouponId{CouponId: couponID},
	})
	reason, violations := refusal(err)
	if reason != couponv1.ErrorReason_ERROR_REASON_INVALID_FIELD || len(violations) != 1 || violations[0].Field != "user_id" {
		return fmt.Errorf("INVALID_FIELD of user_id was expected: %w", err)
	}
	fmt.Printf("refused   INVALID_FIELD, %s %s\n", violations[0].Field, violations[0].Description)

	// While Ann pays, nobody else can use her coupon: only who names the lock's version can.
	choice := &couponv1.CouponChoice{Target: &couponv1.CouponChoice_UserCouponId{UserCouponId: userCouponID}}
	locked, err := usage.LockCoupons(ctx, &couponv1.LockCouponsRequest{
		UserId:      "ann",
		Coupons:     []*couponv1.CouponChoice{choice},
		OrderId:     "order-1",
		OrderAmount: usd(80_00),
		RequestId:   newRequestID(),
	})
	if err != nil {
		return err
	}
	choice.LockVersion = locked.Locks[0].LockVersion
	fmt.Println("locked    until", locked.Locks[0].ExpireTime.AsTime().Format(time.RFC3339))

	used, err := usage.UseCoupons(ctx, &couponv1.UseCouponsRequest{
		UserId:      "ann",
		Coupons:     []*couponv1.CouponChoice{choice},
		ProductId:   "shoes",
		OrderId:     "order-1",
		OrderAmount: usd(80_00),
		RequestId:   newRequestID(),
	})
	if err != nil {
		return err
	}
	if used.FinalAmount.MinorUnits != 70_00 {
		return fmt.Errorf("70.00 were expected to be left: %v", used.FinalAmount)
	}
	fmt.Println("used      70.00 USD are left to pay")

	cancelled, err := usage.CancelUsage(ctx, &couponv1.CancelUsageRequest{
		UserId:    "ann",
		UsageId:   used.Usages[0].Id,
		RequestId: newRequestID(),
	})
	if err != nil {
		return err
	}
	if cancelled.Usage.CancelTime == nil {
		return fmt.Errorf("it should be cancelled: %v", cancelled.Usage)
	}
	fmt.Println("cancelled", cancelled.Usage.Id)
	return nil
}

// prepare gives each call a deadline, for all its tries together, and the key of the caller.
func prepare(
	ctx context.Context, method string, request, reply any, connection *grpc.ClientConn,
	invoke grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if key := os.Getenv("COUPON_KEY"); key != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
	}
	return invoke(ctx, method, request, reply, connection, options...)
}

// refusal tells why the service refused a call. Without a reason the error came from the way there and not from the
// service, and nobody knows whether the call took effect: to repeat it is the way to find out.
func refusal(err error) (couponv1.ErrorReason, []*errdetails.BadRequest_FieldViolation) {
	var reason couponv1.ErrorReason
	var violations []*errdetails.BadRequest_FieldViolation
	for _, detail := range status.Convert(err).Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.Domain == "coupon.v1" {
				reason = couponv1.ErrorReason(couponv1.ErrorReason_value["ERROR_REASON_"+detail.Reason])
			}
		case *errdetails.BadRequest:
			violations = detail.FieldViolations
		}
	}
	return reason, violations
}

func usd(cents int64) *couponv1.Money {
	return &couponv1.Money{CurrencyCode: "USD", MinorUnits: cents}
}

// newRequestID makes one for a new intent. A real program stores it before it sends the call.
func newRequestID() string { return rand.Text() }
