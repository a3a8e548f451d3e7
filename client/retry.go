package client

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"skep/model"
)

// shortRetry is how long to wait before the second try of a request whose answer got lost.
const shortRetry = 50 * time.Millisecond

// Retry is an option for a connection: its calls wait until a manager is there, and are made
// again, until their context ends, where that can do no harm: when the answer is Unavailable and
// advises another try (google.rpc.RetryInfo), which managers do only if nothing was done; and if
// the connection broke off, when the call only reads. A write whose outcome is not known is
// never made again: the caller has to read first. Streams are not its business.
//
// Calls should have a deadline: without one they wait for ever.
func Retry() grpc.DialOption {
	return grpc.WithChainUnaryInterceptor(func(ctx context.Context, name string, req, resp any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
		options = append([]grpc.CallOption{grpc.WaitForReady(true)}, options...)
		for {
			err := invoke(ctx, name, req, resp, conn, options...)
			delay, ok := retryAfter(name, err)
			if !ok {
				return err
			}
			timer := time.NewTimer(delay)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				return err
			}
		}
	})
}

// retryAfter returns whether a call that was answered with err may be made again, and when.
func retryAfter(name string, err error) (time.Duration, bool) {
	if delay, ok := model.Advised(err); ok {
		return max(delay, shortRetry), true
	}
	return shortRetry, status.Code(err) == codes.Unavailable && reads(name)
}

// reads reports whether a method changes nothing: in the contract those are named so.
func reads(name string) bool {
	method := name[strings.LastIndexByte(name, '/')+1:]
	return strings.HasPrefix(method, "Get") || strings.HasPrefix(method, "List")
}
