package agent

import (
	"context"
	"sync"

	"google.golang.org/protobuf/proto"

	"skep/api"
)

// maxReport is the size of the statuses put in one call, in bytes, with room
// below the 4 MiB that a manager takes.
const maxReport = 3 << 20

// outbox holds the newest status of each task that the managers have not
// confirmed.
type outbox struct {
	mu      sync.Mutex
	pending map[string]*api.TaskStatus
	ready   chan struct{}
	// sending is true from take to sent.
	sending bool
	// moved is closed and made anew at each sent.
	moved chan struct{}
}

func newOutbox() *outbox {
	return &outbox{ready: make(chan struct{}, 1), moved: make(chan struct{})}
}

// put adds a status, in place of an older one of the task.
func (o *outbox) put(task string, status *api.TaskStatus) {
	o.mu.Lock()
	if o.pending == nil {
		o.pending = make(map[string]*api.TaskStatus)
	}
	o.pending[task] = status
	o.mu.Unlock()
	o.wake()
}

// drop forgets the status of a task that is gone.
func (o *outbox) drop(task string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.pending, task)
}

// take removes and returns what one call can carry.
func (o *outbox) take() []*api.UpdateTaskStatusRequest_TaskStatusUpdate {
	o.mu.Lock()
	defer o.mu.Unlock()
	var updates []*api.UpdateTaskStatusRequest_TaskStatusUpdate
	size := 0
	for task, status := range o.pending {
		size += proto.Size(status) + len(task) + 16
		if size > maxReport && len(updates) > 0 {
			o.wake()
			o.sending = true
			return updates
		}
		updates = append(updates, &api.UpdateTaskStatusRequest_TaskStatusUpdate{TaskId: task, Status: status})
		delete(o.pending, task)
	}
	o.pending = nil // idle: nothing is kept
	o.sending = len(updates) > 0
	return updates
}

// sent notes that what was taken is confirmed.
func (o *outbox) sent() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sending = false
	close(o.moved)
	o.moved = make(chan struct{})
}

// drained waits until all that was put is confirmed; false when ctx ended first.
func (o *outbox) drained(ctx context.Context) bool {
	for {
		o.mu.Lock()
		done, moved := len(o.pending) == 0 && !o.sending, o.moved
		o.mu.Unlock()
		if done {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-moved:
		}
	}
}

func (o *outbox) wake() {
	select {
	case o.ready <- struct{}{}:
	default:
	}
}
