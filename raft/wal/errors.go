package wal

import (
	"errors"
	"fmt"
	"syscall"
)

// ErrNone is returned by Open when there is no log.
var ErrNone = errors.New("there is no raft log")

// ErrFull is wrapped by errors of Flush and Rekey when the disk is full and nothing was
// written of what was asked for. The log is as it was and what was appended is kept: the
// same call may succeed once there is space.
var ErrFull = errors.New("the disk is full")

// full marks err as ErrFull if it is about space, of which need bytes are called for.
func full(err error, need int64) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w, at least %d bytes must be free: %w", ErrFull, need, err)
	}
	return err
}

// damage returns the *seal.DamageError for a file of the log.
func damage(file string, offset int64, format string, args ...any) error {
	return kind().Damage(file, offset, fmt.Errorf(format, args...))
}
