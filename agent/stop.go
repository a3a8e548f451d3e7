package agent

import (
	"context"
	"fmt"
	"time"

	"skep/api"
	"skep/model"
)

// reportLimit is how long StopTasks waits for a manager to hear of the end.
const reportLimit = 2 * time.Second

// StopTasks stops all tasks as their specs want it, tells the managers that they
// were, and takes no new ones; the sessions go on, and the next agent on this
// machine knows the tasks as shut down. When ctx ends it terminates the rest. It
// works while Run does.
func (a *Agent) StopTasks(ctx context.Context) error {
	if !a.worker.stop(ctx) {
		return a.Leave(ctx) // without courtesy: ctx has ended
	}
	limit, cancel := context.WithTimeout(ctx, reportLimit)
	defer cancel()
	if !a.worker.outbox.drained(limit) {
		return fmt.Errorf("the managers were not told that the tasks stopped: %w", context.Cause(limit))
	}
	return nil
}

// stop asks every machine to shut its task down and waits until all have ended;
// false when ctx ended first.
func (w *worker) stop(ctx context.Context) bool {
	w.mu.Lock()
	w.left = true
	for _, e := range w.tasks {
		if e.machine != nil && !e.gone {
			e.machine.shutDown()
		}
	}
	w.mu.Unlock()
	return w.until(ctx, func() bool {
		for _, e := range w.tasks {
			if e.machine != nil && (e.gone || !model.Terminal(e.status().GetState())) {
				return false
			}
		}
		return true
	})
}

// shutDown makes the machine do what a desired state of SHUTDOWN would. The task
// as it was assigned is not touched: what the managers want of it is theirs.
func (m *machine) shutDown() {
	task := model.Shallow(m.current().task)
	task.DesiredState = max(task.DesiredState, api.TaskState_SHUTDOWN)
	m.update(task)
}
