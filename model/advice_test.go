package model_test

import (
	"errors"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"skep/model"
)

func TestOnlyAnUnavailableManagerThatSaysWhenAdvisesAnotherTry(t *testing.T) {
	t.Parallel()
	with := func(code codes.Code) error {
		st, err := status.New(code, "no leader").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)})
		if err != nil {
			t.Fatal(err)
		}
		return st.Err()
	}
	for _, test := range []struct {
		err   error
		after time.Duration
		ok    bool
	}{
		{with(codes.Unavailable), time.Second, true},
		{with(codes.Unknown), 0, false},
		{status.Error(codes.Unavailable, "the connection broke off"), 0, false},
		{errors.New("no status"), 0, false},
		{nil, 0, false},
	} {
		if after, ok := model.Advised(test.err); after != test.after || ok != test.ok {
			t.Errorf("%v: %v after %v, want %v after %v", test.err, ok, after, test.ok, test.after)
		}
	}
}
