package wal

import (
	"errors"
	"fmt"
)

// ErrNone is returned by Open when there is no log.
var ErrNone = errors.New("there is no raft log")

// damage returns the *seal.DamageError for a file of the log.
func damage(file string, offset int64, format string, args ...any) error {
	return kind().Damage(file, offset, fmt.Errorf(format, args...))
}
