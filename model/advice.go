package model

import (
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Advised returns whether a manager's answer promises that nothing was carried out and
// advises to try again (Unavailable with google.rpc.RetryInfo), and after which delay.
func Advised(err error) (time.Duration, bool) {
	st := status.Convert(err)
	if st.Code() != codes.Unavailable {
		return 0, false
	}
	for _, detail := range st.Details() {
		if advice, ok := detail.(*errdetails.RetryInfo); ok {
			return advice.GetRetryDelay().AsDuration(), true
		}
	}
	return 0, false
}
