package seal

import (
	"errors"
	"fmt"
)

// DamageError says that a file is not what was written.
type DamageError struct {
	// What is the kind of file, in words.
	What string
	// File is the damaged or missing file, Offset where in it the damage is.
	File   string
	Offset int64
	// Err is what is wrong there.
	Err error
	// Advice is what an operator can do.
	Advice string
}

// Error names file, offset, what is wrong and what to do.
func (e *DamageError) Error() string {
	return fmt.Sprintf("%s %s at offset %d: %v; %s", e.What, e.File, e.Offset, e.Err, e.Advice)
}

// Unwrap returns what is wrong.
func (e *DamageError) Unwrap() error { return e.Err }

// What an operator can do about a damaged file.
const (
	AdviceRestore = "restore the state directory from a backup or, if other managers have the data, remove this manager from the swarm and let it join again"
	AdviceKey     = "restore swarm-node.key and the raft directory from the same backup"
	AdviceNewer   = "run the release that wrote it, or a newer one"
	AdviceForeign = "give swarmd a state directory of its own, or move this file away"
)

// Damage returns the error for file, with the advice that fits what is wrong.
func (k Kind) Damage(file string, offset int64, err error) error {
	advice := AdviceRestore
	switch {
	case errors.Is(err, ErrKey):
		advice = AdviceKey
	case errors.Is(err, ErrNewer):
		advice = AdviceNewer
	case errors.Is(err, ErrForeign):
		advice = AdviceForeign
	}
	return &DamageError{What: k.Name, File: file, Offset: offset, Err: err, Advice: advice}
}
