package rpc

import (
	"context"
	"errors"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"skep/model"
)

// What ErrorInfo details of Skep carry.
const (
	// ErrorDomain is the domain of every ErrorInfo.
	ErrorDomain = "skep"
	// OutcomeUnknown is the reason of an Unknown error: whether the request was
	// carried out cannot be told. Read before trying again.
	OutcomeUnknown = "OUTCOME_UNKNOWN"
)

// retryDelay is what an Unavailable error advises: about the time of an election.
const retryDelay = 500 * time.Millisecond

// maxMessage is how many bytes of an error's text are sent.
const maxMessage = 4 << 10

// CodeOf returns the gRPC code of a kind of error.
func CodeOf(kind model.Kind) codes.Code {
	switch kind {
	case model.Invalid:
		return codes.InvalidArgument
	case model.NotFound:
		return codes.NotFound
	case model.Exists:
		return codes.AlreadyExists
	case model.Conflict:
		return codes.Aborted
	case model.Precondition:
		return codes.FailedPrecondition
	case model.Denied:
		return codes.PermissionDenied
	case model.Unavailable:
		return codes.Unavailable
	case model.Unknown:
		return codes.Unknown
	case model.Unimplemented:
		return codes.Unimplemented
	case model.Exhausted:
		return codes.ResourceExhausted
	case model.Internal:
	}
	return codes.Internal
}

// statusOf turns a handler's error into what goes over the wire.
func statusOf(err error) error {
	if err == nil {
		return nil
	}
	var known *model.Error
	if !errors.As(err, &known) {
		if _, ok := status.FromError(err); ok {
			return err
		}
		switch {
		case errors.Is(err, context.Canceled):
			return status.Error(codes.Canceled, err.Error())
		case errors.Is(err, context.DeadlineExceeded):
			return status.Error(codes.DeadlineExceeded, err.Error())
		}
	}
	kind := model.KindOf(err)
	st := status.New(CodeOf(kind), sayable(err.Error()))
	switch kind {
	case model.Unavailable:
		st = detailed(st, &errdetails.RetryInfo{RetryDelay: durationpb.New(retryDelay)})
	case model.Unknown:
		st = detailed(st, &errdetails.ErrorInfo{Reason: OutcomeUnknown, Domain: ErrorDomain})
	default:
	}
	return st.Err()
}

// sayable cuts what a header of HTTP/2 would not carry. Errors quote what a
// client sent, and that may be anything.
func sayable(text string) string {
	if len(text) > maxMessage {
		text = text[:maxMessage] + "…"
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

func detailed(st *status.Status, detail protoadapt.MessageV1) *status.Status {
	if with, err := st.WithDetails(detail); err == nil {
		return with
	}
	return st
}
