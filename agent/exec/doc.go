// Package exec is the port between the agent and what runs tasks.
//
// An Executor says what its node can run and makes a Controller for each task.
// A Controller carries out verbs: Prepare, Start, Wait, Shutdown, Terminate,
// Remove. Every verb is idempotent and can be cancelled through its context:
// the agent repeats the verb it was at after a restart, so a Controller made
// for a task that already runs adopts it.
//
// Next decides which verb comes next. It is a pure function of the task, its
// status and the outcome of the verb before: no goroutine, no clock, no I/O.
// The agent owns the goroutine that carries a verb out (Do), reports each
// status, and calls Next again:
//
//	step := exec.Next(now, task, status, outcome)
//	status = step.Status            // report it if it changed
//	switch {
//	case step.Verb != exec.None:    // outcome = exec.Do(ctx, controller, step.Verb), after step.After
//	case step.Again:                // call Next again, with no outcome
//	default:                        // nothing to do until the task changes
//	}
//
// When the task changes the agent cancels the verb that runs, waits for its
// outcome, and calls Next with the new task and that outcome.
//
// This package is the one that executors outside this project build on;
// exectest holds the promises that each must keep.
package exec
