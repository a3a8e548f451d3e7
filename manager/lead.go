package manager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"

	"skep/loop"
)

const (
	// fellFirst and fellLast are the first and the longest pause after the leader's parts have fallen
	// again and again, fellSeldom how long they have to run for a fall to be the first one.
	fellFirst, fellLast, fellSeldom = time.Second, 30 * time.Second, time.Minute
	// lostSoon is within what it is known here that leadership was lost, once raft knows.
	lostSoon = time.Second
)

// hopeless is an error of the leader's parts that stays, whoever runs them again.
type hopeless struct{ error }

func (h hopeless) Unwrap() error { return h.error }

// leadWhenElected runs the leader's parts from each election to its loss, until ctx ends. If one of
// them falls, another manager leads; if none can, they start again here, after pauses that grow.
func (m *Manager) leadWhenElected(ctx context.Context) error {
	pause := time.Duration(0)
	for ctx.Err() == nil {
		term, changed := m.replica.term.get()
		if term == 0 {
			m.fell.set("")
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		began := time.Now()
		err := m.lead(ctx, changed)
		switch {
		case ctx.Err() != nil || !m.leads(term): // what a part makes of that is no failure of its own
		case errors.As(err, &hopeless{}):
			return fmt.Errorf("lead: %w", err)
		default:
			if time.Since(began) > fellSeldom {
				pause = 0
			}
			m.stepDown(ctx, err, pause, changed)
			pause = min(max(fellFirst, 2*pause), fellLast)
		}
		if !m.leads(term) {
			await(ctx, lostSoon, changed)
		}
	}
	return nil
}

// leads reports whether raft still has this manager lead in a term.
func (m *Manager) leads(term uint64) bool {
	status := m.raft.Load().Status()
	return status.Leader == status.ID && status.Term == term
}

// stepDown lets another manager lead, since a part of this leader has fallen with err. What fell here
// may well fall there too: leadership is not to go round without end, so there is a pause first.
func (m *Manager) stepDown(ctx context.Context, err error, pause time.Duration, lost <-chan struct{}) {
	m.fell.set(fmt.Sprintf("a part of this manager fell while it led, and it begins to lead again, unless another does: %v", err))
	m.cfg.Log.ErrorContext(ctx, "a part of the leader has fallen: another manager leads if one can, otherwise all parts start again",
		slog.Any("error", err), slog.Duration("pause", pause))
	await(ctx, pause, lost)
	m.HandOver(ctx)
}

// await returns when d has passed, or c is closed or ctx ends before.
func await(ctx context.Context, d time.Duration, c <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c:
	case <-ctx.Done():
	}
}

// lead founds the swarm if need be and runs every part until ctx ends, leadership
// is lost, or one part falls, which is an error.
func (m *Manager) lead(ctx context.Context, lost <-chan struct{}) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		select {
		case <-lost:
			return errLost
		case <-ctx.Done():
			return nil
		}
	})
	group.Go(func() error { return m.serve(ctx) })
	return group.Wait()
}

// errLost ends the leader's parts when this manager leads no more.
var errLost = errors.New("leadership was lost")

// part is one thing that runs only while this manager leads.
type part struct {
	name string
	run  func(context.Context) error
}

// serve is what a leader does: found the swarm, then run all parts.
func (m *Manager) serve(ctx context.Context) error {
	if err := m.found(ctx); err != nil {
		return fmt.Errorf("found the swarm: %w", err)
	}
	if m.forcing {
		if err := m.demoteLost(ctx); err != nil {
			return fmt.Errorf("begin a new group: %w", err)
		}
		if err := m.cfg.Forced(); err != nil {
			return fmt.Errorf("note that this manager was made the only one: %w", err)
		}
		m.forcing = false
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, p := range m.parts() {
		group.Go(func() error {
			err := p.run(ctx)
			if err != nil && ctx.Err() == nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			if ctx.Err() == nil {
				return fmt.Errorf("%s ended by itself", p.name)
			}
			return nil
		})
	}
	// Requests are let in when all that they need is there.
	if err := m.services.dispatcher.AwaitOpen(ctx); err != nil {
		return group.Wait()
	}
	m.fell.set("")
	m.serving.set(true)
	defer m.serving.set(false)
	m.cfg.Log.InfoContext(ctx, "this manager leads", slog.String("node.id", m.cfg.Identity.NodeID()))
	return group.Wait()
}

// leaderParts is all that runs only while leading.
func (m *Manager) leaderParts() []part {
	runner := loop.NewRunner(loop.Config{
		Store:   m.store,
		Loops:   m.loops(),
		NewID:   newID,
		Rand:    mathrand.New(mathrand.NewPCG(mathrand.Uint64(), mathrand.Uint64())), //nolint:gosec // spreads load, guards nothing
		Now:     m.cfg.Now,
		Log:     m.cfg.Log,
		Metrics: m.metrics,
	})
	return []part{
		{"loops", runner.Run},
		{"dispatcher", m.services.dispatcher.Run},
		{"insight", m.services.insight.Run},
	}
}
