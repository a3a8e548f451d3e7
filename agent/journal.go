package agent

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// retryWrite is the pause after a write that the storage refused.
const retryWrite = time.Second

// journal brings the storage up to the state of the worker. What is marked
// while one write is under way shares the next: one fsync for all of it.
type journal struct {
	storage Storage
	// record returns the state of a task as it is to be stored, false for none.
	// Task is left out of it unless whole is set.
	record func(id string, whole bool) (Record, bool)
	log    *slog.Logger

	mu      sync.Mutex
	marked  map[string]bool // by ID, whether whole
	waiting []chan<- error
	ready   chan struct{}
}

func newJournal(storage Storage, log *slog.Logger, record func(string, bool) (Record, bool)) *journal {
	return &journal{storage: storage, record: record, log: log, marked: make(map[string]bool), ready: make(chan struct{}, 1)}
}

// mark says that the status of a task changed, or with whole all of it.
func (j *journal) mark(id string, whole bool) {
	j.mu.Lock()
	j.marked[id] = j.marked[id] || whole
	j.mu.Unlock()
	j.wake()
}

// flush returns when everything marked before is durable.
func (j *journal) flush(ctx context.Context) error {
	done := make(chan error, 1)
	j.mu.Lock()
	j.waiting = append(j.waiting, done)
	j.mu.Unlock()
	j.wake()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (j *journal) wake() {
	select {
	case j.ready <- struct{}{}:
	default:
	}
}

// run writes until ctx ends. What is marked after that is for one call of write.
func (j *journal) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-j.ready:
		}
		if err := j.write(); err != nil {
			j.log.Error("the agent's tasks cannot be stored", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(retryWrite):
				j.wake()
			}
		}
	}
}

// write stores what is marked, and tells those who wait for it.
func (j *journal) write() error {
	j.mu.Lock()
	marked, waiting := j.marked, j.waiting
	j.marked, j.waiting = make(map[string]bool), nil
	j.mu.Unlock()
	var changed []Record
	var deleted []string
	for id, whole := range marked {
		if record, ok := j.record(id, whole); ok {
			changed = append(changed, record)
		} else {
			deleted = append(deleted, id)
		}
	}
	var err error
	if len(marked) > 0 {
		err = j.storage.Write(changed, deleted)
	}
	if err != nil {
		j.mu.Lock()
		for id, whole := range marked {
			j.marked[id] = j.marked[id] || whole
		}
		j.mu.Unlock()
	}
	for _, done := range waiting {
		done <- err
	}
	return err
}
