package exec

import (
	"context"
	"sync"
)

// Lifetime cancels the verbs of a Controller when it is closed. The zero
// Lifetime is open.
type Lifetime struct {
	mu     sync.Mutex
	closed bool
	next   int
	verbs  map[int]context.CancelCauseFunc
}

// Enter begins a verb: its context ends with ctx, when leave is called, and when
// the lifetime ends; then its cause is ErrControllerClosed, which is also what
// Enter returns from then on.
func (l *Lifetime) Enter(ctx context.Context) (verb context.Context, leave func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, nil, ErrControllerClosed
	}
	if err := context.Cause(ctx); err != nil {
		return nil, nil, err
	}
	verb, cancel := context.WithCancelCause(ctx)
	if l.verbs == nil {
		l.verbs = make(map[int]context.CancelCauseFunc)
	}
	l.next++
	n := l.next
	l.verbs[n] = cancel
	return verb, func() {
		cancel(nil)
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.verbs, n)
	}, nil
}

// End ends the lifetime. It does not wait for the verbs.
func (l *Lifetime) End() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, cancel := range l.verbs {
		cancel(ErrControllerClosed)
	}
}
