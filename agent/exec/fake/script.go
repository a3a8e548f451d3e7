package fake

import (
	"time"

	"skep/agent/exec"
)

// Script is the part that one task plays. The zero Script runs until stopped.
type Script struct {
	// Preparing, Starting and Stopping are how long these verbs take.
	Preparing, Starting, Stopping time.Duration
	// Run is how long the task runs before it ends by itself; 0 is for ever.
	Run time.Duration
	// ExitCode is what it then ends with.
	ExitCode int
	// Fail is the verb that fails, with Err; None is none of them. When it is Wait,
	// the task ends with Err after Run, or at once.
	Fail exec.Verb
	Err  error
	// Output is what the task writes to stdout when it starts, a line each.
	Output []string
}
