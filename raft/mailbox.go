package raft

import (
	"context"
	"sync"
)

// mailbox carries values from goroutines that must not wait to one that takes all there
// is. What bounds it is the traffic: raft limits what is in flight.
type mailbox[T any] struct {
	mu    sync.Mutex
	items []T
	ready chan struct{}
}

func newMailbox[T any]() *mailbox[T] { return &mailbox[T]{ready: make(chan struct{}, 1)} }

// put adds items and wakes the taker.
func (m *mailbox[T]) put(items ...T) {
	m.leave(items...)
	m.wake()
}

// leave adds items without waking the taker: they are for when it comes anyway.
func (m *mailbox[T]) leave(items ...T) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.items = append(m.items, items...)
}

func (m *mailbox[T]) wake() {
	select {
	case m.ready <- struct{}{}:
	default:
	}
}

// take returns all items, in order. Ready tells when there may be some.
func (m *mailbox[T]) take() []T {
	m.mu.Lock()
	defer m.mu.Unlock()
	items := m.items
	m.items = nil
	return items
}

// wait waits until it is woken, and takes. It reports false when ctx has ended.
func (m *mailbox[T]) wait(ctx context.Context) ([]T, bool) {
	select {
	case <-m.ready:
		return m.take(), ctx.Err() == nil
	case <-ctx.Done():
		return nil, false
	}
}
