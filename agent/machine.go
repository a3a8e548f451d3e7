package agent

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"skep/agent/exec"
	"skep/api"
)

// ending is what is to become of a machine.
type ending uint8

const (
	// staying: it does what its task asks.
	staying ending = iota
	// removing: nothing of the task is to be left.
	removing
	// leaving is removing, after the task was stopped as its spec wants it.
	leaving
	// leavingNow is leaving without courtesy.
	leavingNow
)

// machine is one task: a loop around exec.Next. run owns the goroutine, the
// other methods may be called from anywhere.
type machine struct {
	id         string
	controller exec.Controller
	now        func() time.Time
	report     func(id string, status *api.TaskStatus)
	log        *slog.Logger

	mu     sync.Mutex
	task   *api.Task
	status *api.TaskStatus
	ending ending
	// interrupt ends what run is at, so that it looks at the fields above again.
	interrupt context.CancelFunc
	pausing   bool // run waits for time to pass
}

// run returns when the task is removed (true) or ctx ends (false), which leaves
// the task as it is.
func (m *machine) run(ctx context.Context) bool {
	defer m.close()
	var outcome exec.Outcome
	handed := m.current().task
	for ctx.Err() == nil {
		now, op := m.begin(ctx)
		if now.ending != staying {
			return m.end(ctx, op)
		}
		if now.task != handed {
			handed = now.task
			if err := m.controller.Update(op, now.task); err != nil && op.Err() == nil {
				m.log.Warn("task cannot be updated", "task.id", m.id, "error", err)
			}
		}
		step := exec.Next(m.now(), now.task, now.status, outcome)
		outcome = exec.Outcome{}
		m.setStatus(step.Status)
		switch {
		case step.Again:
		case step.Verb == exec.None:
			<-op.Done()
		case step.After > 0 && !m.pause(op, step.After):
		default:
			outcome = exec.Do(op, m.controller, step.Verb)
		}
	}
	return false
}

// state is what a machine goes by.
type state struct {
	task   *api.Task
	status *api.TaskStatus
	ending ending
}

func (m *machine) current() state {
	m.mu.Lock()
	defer m.mu.Unlock()
	return state{m.task, m.status, m.ending}
}

// begin returns the state, and a context that ends when it is out of date.
func (m *machine) begin(ctx context.Context) (state, context.Context) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.interrupt != nil {
		m.interrupt()
	}
	op, interrupt := context.WithCancel(ctx)
	m.interrupt = interrupt
	return state{m.task, m.status, m.ending}, op
}

func (m *machine) close() {
	m.mu.Lock()
	if m.interrupt != nil {
		m.interrupt()
	}
	m.mu.Unlock()
	if err := m.controller.Close(); err != nil {
		m.log.Warn("task's controller does not close", "task.id", m.id, "error", err)
	}
}

// pause returns whether d has passed, false when op ended first.
func (m *machine) pause(op context.Context, d time.Duration) bool {
	m.setPausing(true)
	defer m.setPausing(false)
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-op.Done():
		return false
	}
}

func (m *machine) setPausing(pausing bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pausing = pausing
}

// end removes the task. op ends when even less courtesy is asked for.
func (m *machine) end(ctx, op context.Context) bool {
	if m.current().ending == leaving {
		if err := m.controller.Shutdown(op); err != nil && op.Err() == nil {
			m.log.Warn("task does not shut down", "task.id", m.id, "error", err)
		}
	}
	if m.current().ending == leavingNow {
		if err := m.controller.Terminate(ctx); err != nil && ctx.Err() == nil {
			m.log.Warn("task does not terminate", "task.id", m.id, "error", err)
		}
	}
	for ctx.Err() == nil {
		err := m.controller.Remove(ctx)
		if err == nil {
			return true
		}
		if ctx.Err() == nil {
			m.log.Warn("task cannot be removed", "task.id", m.id, "error", err)
			m.pause(ctx, exec.RetryAfter)
		}
	}
	return false
}

func (m *machine) setStatus(status *api.TaskStatus) {
	m.mu.Lock()
	changed := status != m.status
	m.status = status
	m.mu.Unlock()
	if changed {
		m.report(m.id, status)
	}
}

// update hands over a new version of the task. It reports false when that is
// nothing new: only what the managers know of its status differs, or it is
// older than the one here.
func (m *machine) update(task *api.Task) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if sameTask(task, m.task) || task.GetDesiredState() < m.task.GetDesiredState() {
		return false
	}
	m.task = task
	if m.interrupt != nil {
		m.interrupt()
	}
	return true
}

// finish tells what is to become of the machine; a later word never asks for
// less haste.
func (m *machine) finish(how ending) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if how > m.ending {
		m.ending = how
		if m.interrupt != nil {
			m.interrupt()
		}
	}
}

// hurry ends a pause, since what a verb lacked may have come.
func (m *machine) hurry() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pausing && m.interrupt != nil {
		m.interrupt()
	}
}
