// The life of a coupon with connect-go: create, issue, lock, use, cancel, and two refusals.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/types/known/timestamppb"

	couponv1 "example.com/coupons/gen/coupon/v1"
	"example.com/coupons/gen/coupon/v1/couponv1connect"
)

func main() {
	log.SetFlags(0)
	if err := run(); err != nil {
		log.Fatalf("failed: %v", err)
	}
}

func run() error {
	// The HTTP port: it speaks Connect, gRPC-Web and REST, over HTTP/1.1 and HTTP/2. Over a network: https://...
	url := os.Getenv("COUPON_URL")
	if url == "" {
		url = "http://localhost:8080"
	}
	prepared := connect.WithInterceptors(connect.UnaryInterceptorFunc(prepare))
	catalog := couponv1connect.NewCatalogServiceClient(http.DefaultClient, url, prepared)
	issuance := couponv1connect.NewIssuanceServiceClient(http.DefaultClient, url, prepared)
	usage := couponv1connect.NewUsageServiceClient(http.DefaultClient, url, prepared)
	ctx := context.Background()

	created, err := catalog.CreateCoupon(ctx, connect.NewRequest(&couponv1.CreateCouponRequest{
		Coupon: &couponv1.Coupon{
			Name:       "Ten dollars off",
			Discount:   &couponv1.Discount{Kind: &couponv1.Discount_FixedAmount{FixedAmount: usd(10_00)}},
			ExpireTime: timestamppb.New(time.Now().AddDate(0, 1, 0)),
			Quantity:   new(int64(1)),
		},
		RequestId: newRequestID(),
	}))
	if err != nil {
		return err
	}
	couponID := created.Msg.Coupon.Id
	fmt.Println("created  ", couponID)

	// A request id belongs to one intent: "give Ann one of these". Whoever repeats the call gets the same user coupon.
	issueToAnn := &couponv1.IssueCouponRequest{
		Target:    &couponv1.IssueCouponRequest_CouponId{CouponId: couponID},
		UserId:    "ann",
		RequestId: newRequestID(),
	}
	issued, err := issuance.IssueCoupon(ctx, connect.NewRequest(issueToAnn))
	if err != nil {
		return err
	}
	userCouponID := issued.Msg.UserCoupon.Id
	fmt.Println("issued   ", userCouponID)
	again, err := issuance.IssueCoupon(ctx, connect.NewRequest(issueToAnn))
	if err != nil {
		return err
	}
	if !again.Msg.Replayed || again.Msg.UserCoupon.Id != userCouponID {
		return fmt.Errorf("the repeated call was answered %v", again.Msg)
	}
	fmt.Println("repeated  the same one")

	// There was one only. A program looks at the reason; messages are for people.
	_, err = issuance.IssueCoupon(ctx, connect.NewRequest(&couponv1.IssueCouponRequest{
		Target:    &couponv1.IssueCouponRequest_CouponId{CouponId: couponID},
		UserId:    "bob",
		RequestId: newRequestID(),
	}))
	if reason, _ := refusal(err); reason != couponv1.ErrorReason_ERROR_REASON_SOLD_OUT {
		return fmt.Errorf("SOLD_OUT was expected: %w", err)
	}
	fmt.Println("refused   SOLD_OUT")

	// Of bad input each wrong field is named.
	_, err = issuance.IssueCoupon(ctx, connect.NewRequest(&couponv1.IssueCouponRequest{
		Target: &couponv1.IssueCouponRequest_CouponId{CouponId: couponID},
	}))
	reason, violations := refusal(err)
	if reason != couponv1.ErrorReason_ERROR_REASON_INVALID_FIELD || len(violations) != 1 || violations[0].Field != "user_id" {
		return fmt.Errorf("INVALID_FIELD of user_id was expected: %w", err)
	}
	fmt.Printf("refused   INVALID_FIELD, %s %s\n", violations[0].Field, violations[0].Description)

	// While Ann pays, nobody else can use her coupon: only who names the lock's version can.
	choice := &couponv1.CouponChoice{Target: &couponv1.CouponChoice_UserCouponId{UserCouponId: userCouponID}}
	locked, err := usage.LockCoupons(ctx, connect.NewRequest(&couponv1.LockCouponsRequest{
		UserId:      "ann",
		Coupons:     []*couponv1.CouponChoice{choice},
		OrderId:     "order-1",
		OrderAmount: usd(80_00),
		RequestId:   newRequestID(),
	}))
	if err != nil {
		return err
	}
	choice.LockVersion = locked.Msg.Locks[0].LockVersion
	fmt.Println("locked    until", locked.Msg.Locks[0].ExpireTime.AsTime().Format(time.RFC3339))

	used, err := usage.UseCoupons(ctx, connect.NewRequest(&couponv1.UseCouponsRequest{
		UserId:      "ann",
		Coupons:     []*couponv1.CouponChoice{choice},
		ProductId:   "shoes",
		OrderId:     "order-1",
		OrderAmount: usd(80_00),
		RequestId:   newRequestID(),
	}))
	if err != nil {
		return err
	}
	if used.Msg.FinalAmount.MinorUnits != 70_00 {
		return fmt.Errorf("70.00 were expected to be left: %v", used.Msg.FinalAmount)
	}
	fmt.Println("used      70.00 USD are left to pay")

	cancelled, err := usage.CancelUsage(ctx, connect.NewRequest(&couponv1.CancelUsageRequest{
		UserId:    "ann",
		UsageId:   used.Msg.Usages[0].Id,
		RequestId: newRequestID(),
	}))
	if err != nil {
		return err
	}
	if cancelled.Msg.Usage.CancelTime == nil {
		return fmt.Errorf("it should be cancelled: %v", cancelled.Msg.Usage)
	}
	fmt.Println("cancelled", cancelled.Msg.Usage.Id)
	return nil
}

// prepare gives each call a deadline and the key of the caller, and repeats one that was turned away or lost. That is
// safe because of the request ids.
func prepare(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		if key := os.Getenv("COUPON_KEY"); key != "" {
			request.Header().Set("authorization", "Bearer "+key)
		}
		for wait := 100 * time.Millisecond; ; wait *= 2 {
			response, err := next(ctx, request)
			if connect.CodeOf(err) != connect.CodeUnavailable || wait > time.Second {
				return response, err
			}
			select {
			case <-ctx.Done():
				return nil, err
			case <-time.After(wait/2 + mathrand.N(wait)):
			}
		}
	}
}

// refusal tells why the service refused a call. Without a reason the error came from the way there and not from the
// service, and nobody knows whether the call took effect: to repeat it is the way to find out.
func refusal(err error) (couponv1.ErrorReason, []*errdetails.BadRequest_FieldViolation) {
	var reason couponv1.ErrorReason
	var violations []*errdetails.BadRequest_FieldViolation
	var failure *connect.Error
	if !errors.As(err, &failure) {
		return reason, violations
	}
	for _, packed := range failure.Details() {
		detail, err := packed.Value()
		if err != nil {
			continue // of a type that this program does not know
		}
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
