package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// The exit statuses of swarmctl. They are part of its interface.
const (
	ExitOK          = 0   // the final state was reached
	ExitError       = 1   // wrong usage, or any error without a status of its own
	ExitFailed      = 3   // it converged to a failure
	ExitTimeout     = 4   // the time ran out; the operation goes on
	ExitNotFound    = 5   // what was named does not exist
	ExitConflict    = 6   // the object changed meanwhile
	ExitUnavailable = 7   // no manager, no leader or no quorum answers
	ExitInterrupted = 130 // interrupted; the operation goes on
)

const exitHelp = `Exit status:
  0    done: the final state was reached
  1    wrong usage, or an error without a status of its own
  3    it converged to a failure
  4    the time ran out; the operation goes on
  5    what was named does not exist
  6    the object changed meanwhile: look again and repeat
  7    no manager, no leader or no quorum answers
  130  interrupted; the operation goes on`

// exitError is an error that brings its exit status along.
type exitError struct {
	status int
	text   string
}

func (e *exitError) Error() string { return e.text }

func exitf(status int, format string, args ...any) error {
	return &exitError{status: status, text: fmt.Sprintf(format, args...)}
}

// ExitStatus returns the exit status that err stands for.
func ExitStatus(err error) int {
	var exit *exitError
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &exit):
		return exit.status
	case errors.Is(err, context.Canceled):
		return ExitInterrupted
	case errors.Is(err, context.DeadlineExceeded):
		return ExitTimeout
	}
	switch status.Code(err) {
	case codes.NotFound:
		return ExitNotFound
	case codes.Aborted:
		return ExitConflict
	case codes.Unavailable:
		return ExitUnavailable
	case codes.DeadlineExceeded:
		return ExitTimeout
	case codes.Canceled:
		return ExitInterrupted
	}
	return ExitError
}

// text returns what a person should read of err: a gRPC error without its frame.
func (a *app) text(err error) string {
	var framed interface {
		error
		GRPCStatus() *status.Status
	}
	if !errors.As(err, &framed) {
		return err.Error()
	}
	s := framed.GRPCStatus()
	// What wraps it says what was being done.
	doing, _ := strings.CutSuffix(err.Error(), framed.Error())
	// gRPC says so when there is no connection, and in no other way.
	if reason, ok := strings.CutPrefix(s.Message(), "connection error: desc = "); ok && s.Code() == codes.Unavailable {
		if plain, err := strconv.Unquote(reason); err == nil {
			reason = plain
		}
		return fmt.Sprintf("%sno node answers at %s: %s\nIs swarmd running there? Name another socket with --socket or SWARM_SOCKET.",
			doing, a.path, strings.TrimPrefix(reason, "transport: Error while dialing: "))
	}
	return doing + s.Message()
}
