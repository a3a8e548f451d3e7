package wal

import "fmt"

// DamageError says that the log is not what was written.
type DamageError struct {
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
	return fmt.Sprintf("raft log %s at offset %d: %v; %s", e.File, e.Offset, e.Err, e.Advice)
}

// Unwrap returns what is wrong.
func (e *DamageError) Unwrap() error { return e.Err }

const (
	adviceRestore = "restore the state directory from a backup or, if other managers have the data, remove this manager from the swarm and let it join again"
	adviceKey     = "restore swarm-node.key and the raft directory from the same backup"
	adviceNewer   = "run the release that wrote it, or a newer one"
	adviceForeign = "give swarmd a state directory of its own, or move this file away"
)

func damage(file string, offset int64, advice, format string, args ...any) error {
	return &DamageError{File: file, Offset: offset, Err: fmt.Errorf(format, args...), Advice: advice}
}
