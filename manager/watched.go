package manager

import "sync"

// watched is a value with a channel that is closed when it changes.
type watched[T comparable] struct {
	mu      sync.Mutex
	value   T
	changed chan struct{}
}

func (w *watched[T]) get() (T, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.changed == nil {
		w.changed = make(chan struct{})
	}
	return w.value, w.changed
}

func (w *watched[T]) set(value T) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if value == w.value {
		return
	}
	w.value = value
	if w.changed != nil {
		close(w.changed)
		w.changed = nil
	}
}
