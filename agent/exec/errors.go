package exec

import (
	"context"
	"errors"
	"fmt"
)

var (
	// ErrTaskPrepared is Prepare's answer when there is nothing left to prepare. It
	// counts as success.
	ErrTaskPrepared = errors.New("task: already prepared")
	// ErrTaskStarted is Start's answer when the task runs already. It counts as
	// success.
	ErrTaskStarted = errors.New("task: already started")
	// ErrControllerClosed is a verb's answer after Close.
	ErrControllerClosed = errors.New("task: controller is closed")
)

// ExitError says that a task ended with an exit code other than 0.
type ExitError struct {
	// Code is the exit code, 128 + N for a process that signal N ended.
	Code int
	// Cause says more, if there is more to say.
	Cause error
}

func (e *ExitError) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("task: non-zero exit (%d): %v", e.Code, e.Cause)
	}
	return fmt.Sprintf("task: non-zero exit (%d)", e.Code)
}

func (e *ExitError) Unwrap() error { return e.Cause }

// Temporary marks err as one that may be gone when the verb is tried again.
func Temporary(err error) error {
	if err == nil {
		return nil
	}
	return temporary{err}
}

// IsTemporary reports whether the verb that returned err is to be tried again:
// Temporary says so, or its context ended before it was done.
func IsTemporary(err error) bool {
	var t temporary
	return errors.As(err, &t) || interrupted(err)
}

func interrupted(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

type temporary struct{ error }

func (t temporary) Unwrap() error { return t.error }
