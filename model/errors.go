package model

import (
	"errors"
	"fmt"
)

// Kind is the closed set of what can go wrong, in the words of the domain.
// rpc maps each to one gRPC code, in one place.
type Kind uint8

const (
	// Internal is the kind of every error that states none.
	Internal Kind = iota
	// Invalid: the request itself is wrong and will be wrong again.
	Invalid
	// NotFound: what it names does not exist.
	NotFound
	// Exists: what it would create exists, or its name is taken.
	Exists
	// Conflict: the object changed since it was read; read it again.
	Conflict
	// Precondition: the request is fine, the state of the cluster refuses it.
	Precondition
	// Denied: the caller may not do this.
	Denied
	// Unavailable: nothing was done; the same request may succeed later.
	Unavailable
	// Unknown: it cannot be told whether the request was carried out.
	Unknown
	// Unimplemented: this version does not do that.
	Unimplemented
	// Exhausted: it is larger, or asks more often, than is allowed.
	Exhausted
)

// Error is an error with a kind. Its text is for people: what, why, what to do next.
type Error struct {
	Kind Kind
	text string
	err  error
}

// Errorf makes an error of kind; %w wraps as in fmt.Errorf.
func Errorf(kind Kind, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: kind, text: err.Error(), err: errors.Unwrap(err)}
}

func (e *Error) Error() string { return e.text }

func (e *Error) Unwrap() error { return e.err }

// KindOf returns the kind of the outermost Error in err's chain, or Internal.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}
