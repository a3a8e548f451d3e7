package store

import (
	"context"

	"skep/model"
)

// reaching is somebody who waits for an index to be applied.
type reaching struct {
	index uint64
	done  chan struct{}
}

// ReadAt returns the committed head once everything up to index is in it: a
// read that is linearizable if index is from a ReadIndex. If ctx ends first, the
// error is of kind Unavailable.
func (s *Store) ReadAt(ctx context.Context, index uint64) (*Snapshot, error) {
	defer s.metrics.reachedAt(s.metrics.started())
	s.mu.Lock()
	if s.applied >= index {
		s.mu.Unlock()
		return s.Read(), nil
	}
	r := &reaching{index, make(chan struct{})}
	s.reach[r] = struct{}{}
	s.mu.Unlock()
	select {
	case <-r.done:
		return s.Read(), nil
	case <-ctx.Done():
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.reach, r)
		return nil, model.Errorf(model.Unavailable, "wait for entry %d, this manager is at %d: %w", index, s.applied, context.Cause(ctx))
	}
}

// reached takes note of the index that the committed head has.
func (s *Store) reached(index uint64) {
	s.applied = max(s.applied, index)
	for r := range s.reach {
		if r.index <= s.applied {
			close(r.done)
			delete(s.reach, r)
		}
	}
}
