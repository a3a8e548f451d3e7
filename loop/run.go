package loop

import (
	"context"
	"errors"
	"time"

	"skep/model"
)

const (
	firstPause = time.Second // after a step that failed for no known reason
	lastPause  = 30 * time.Second
)

// Run steps whenever there is something to plan, carries out effects, and
// returns when ctx ends and all that it started has ended. It closes the runner.
func (r *Runner) Run(ctx context.Context) error {
	defer r.Close()
	ctx, cancel := context.WithCancel(ctx)
	effects := newEffects(r.store, r.log)
	defer effects.wait()
	defer cancel()
	var pause time.Duration
	for {
		next, busy, err := r.Step(r.now())
		for _, a := range r.take() {
			effects.ask(ctx, a)
		}
		switch {
		case err == nil:
			pause = 0
		case errors.As(err, &leftOut{}):
			r.log.Error("writes were left out of a step", "error", err)
		case model.KindOf(err) == model.Unavailable, model.KindOf(err) == model.Exhausted:
			// Not leading: a Reset follows when this manager leads again. Too large: the
			// next step is smaller.
			r.log.Debug("step not taken", "error", err)
		default:
			r.log.Error("step not taken", "error", err)
			pause = min(max(firstPause, 2*pause), lastPause)
		}
		if err := r.await(ctx, next, busy, pause); err != nil {
			return nil
		}
	}
}

// await returns when another step is worth taking, or with ctx's error.
func (r *Runner) await(ctx context.Context, next time.Time, busy bool, pause time.Duration) error {
	if pause > 0 {
		next, busy = r.now().Add(pause), false
	}
	settled := r.Settled()
	if busy && settled == nil {
		return ctx.Err()
	}
	ready := r.Ready()
	if settled != nil || pause > 0 {
		ready = nil // nothing could be done about it yet
	}
	var due <-chan time.Time
	if !next.IsZero() && settled == nil {
		timer := time.NewTimer(next.Sub(r.now()))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-ready:
	case <-settled:
	case <-due:
	}
	return nil
}
