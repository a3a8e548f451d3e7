// Package fake is an executor that runs nothing and plays a part.
//
// It keeps the promises of package exec (exectest holds it to them), so that an
// agent, a simulator or a load generator cannot tell the difference. Each task
// follows a Script; without one every verb succeeds at once and the task runs
// until it is stopped.
//
// A task costs a few hundred bytes and no goroutine. Delays are plain timers of
// the goroutine that carries a verb out, so time in a testing/synctest bubble
// is fake too.
//
// The machine on which tasks "run" is the Executor itself: a controller made
// again for a task, as after a restart of the agent, finds it as it was left.
package fake
