package fake

import (
	"sync"
	"time"

	"skep/api"
)

type phase uint8

const (
	assigned phase = iota
	prepared
	started
	ended
)

// task is what the machine knows of one task.
type task struct {
	script Script
	pid    int32
	ports  *api.PortStatus

	mu        sync.Mutex
	phase     phase
	startedAt time.Time
	exitCode  int
	err       error
	done      chan struct{} // closed when it has ended; made when it starts
}

func (t *task) running() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.phase == started
}

func (t *task) prepare() (already bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.phase >= prepared {
		return true
	}
	t.phase = prepared
	return false
}

func (t *task) isPrepared() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.phase >= prepared
}

func (t *task) start(now time.Time) (already bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.phase >= started {
		return true
	}
	t.phase, t.startedAt, t.done = started, now, make(chan struct{})
	return false
}

func (t *task) isStarted() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.phase >= started
}

// end ends a running task and reports whether it ran.
func (t *task) end(exitCode int, err error) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.phase != started {
		return false
	}
	t.phase, t.exitCode, t.err = ended, exitCode, err
	close(t.done)
	return true
}
