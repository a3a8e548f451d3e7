package manager

import (
	"context"
	"io"
	"sync"

	"skep/raft"
	"skep/store"
)

// replica is the store as raft's state machine. It also knows the term that this
// manager leads in, and lets readers wait for an index.
type replica struct {
	store *store.Store
	// term is the one this manager leads in, 0 while it does not.
	term watched[uint64]

	mu      sync.Mutex
	applied uint64
	waiting []waiter
}

// waiter is a reader that waits until an index is applied.
type waiter struct {
	index uint64
	done  chan struct{}
}

func (r *replica) Apply(entries []raft.Entry) error {
	for _, e := range entries {
		if err := r.store.Apply(e.Index, e.Term, e.Data); err != nil {
			return err
		}
	}
	return nil
}

func (r *replica) Applied(index uint64) {
	r.store.Applied(index)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.applied = index
	still := r.waiting[:0]
	for _, w := range r.waiting {
		if w.index <= index {
			close(w.done)
		} else {
			still = append(still, w)
		}
	}
	clear(r.waiting[len(still):])
	r.waiting = still
}

func (r *replica) Refused(data [][]byte) { r.store.Refused(data) }

func (r *replica) Lead(term uint64) {
	r.store.Lead(term)
	r.term.set(term)
}

func (r *replica) Follow() {
	r.store.Follow()
	r.term.set(0)
}

func (r *replica) Snapshot() (raft.Snapshot, error) { return r.store.Read(), nil }

func (r *replica) Restore(from io.Reader) error { return r.store.Restore(from) }

// waitApplied returns when everything up to index is applied.
func (r *replica) waitApplied(ctx context.Context, index uint64) error {
	r.mu.Lock()
	if r.applied >= index {
		r.mu.Unlock()
		return nil
	}
	w := waiter{index: index, done: make(chan struct{})}
	r.waiting = append(r.waiting, w)
	r.mu.Unlock()
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
