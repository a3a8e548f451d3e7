package loop

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"skep/store"
)

const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// effects carries effects out, one at a time for each key.
type effects struct {
	store *store.Store
	log   *slog.Logger
	wg    sync.WaitGroup

	mu    sync.Mutex
	byKey map[string]*asked // keys at work, each with what is to follow
}

func newEffects(s *store.Store, log *slog.Logger) *effects {
	return &effects{store: s, log: log, byKey: map[string]*asked{}}
}

// ask has a carried out until ctx ends, now or after the one with its key that is at work. Of
// several that wait for their turn the last counts.
func (e *effects) ask(ctx context.Context, a asked) {
	key := a.effect.Key()
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, atWork := e.byKey[key]; atWork {
		e.byKey[key] = &a
		return
	}
	e.byKey[key] = nil
	e.wg.Go(func() { e.work(ctx, key, a) })
}

func (e *effects) work(ctx context.Context, key string, a asked) {
	retry := firstRetry
	for {
		err := e.do(ctx, a)
		if err == nil {
			retry = firstRetry
		} else if ctx.Err() == nil {
			e.log.Warn("effect failed and will be tried again", "effect", key, "after", retry, "error", err)
			sleep(ctx, retry)
			retry = min(2*retry, lastRetry)
		}
		e.mu.Lock()
		next := e.byKey[key]
		if ctx.Err() != nil || err == nil && next == nil {
			delete(e.byKey, key)
			e.mu.Unlock()
			return
		}
		if next != nil {
			a, e.byKey[key] = *next, nil
		}
		e.mu.Unlock()
	}
}

func (e *effects) do(ctx context.Context, a asked) error {
	if a.after == nil || a.after.Wait(ctx) == nil {
		return a.effect.Do(ctx, e.store)
	}
	return nil // what asked for it never happened; the loops begin anew
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// wait returns when all that was begun has ended, which the end of their context makes happen.
func (e *effects) wait() { e.wg.Wait() }
