package loop

import (
	"context"
	"math/rand/v2"
	"time"

	"skep/store"
)

// Env is what a plan may use beside the state: the time of the step, and
// sources of IDs and randomness.
type Env struct {
	Now   time.Time
	NewID func() string
	Rand  *rand.Rand
}

// Loop is one reconcile loop: data around one pure function. K names what is
// reconciled: a slot of a service, a task, a node.
type Loop[K comparable] struct {
	// Name appears in logs and metrics.
	Name string
	// Keys says which keys a change makes dirty. Views are already past the change.
	Keys func(c store.Change, dirty func(K))
	// All says which keys exist in a snapshot. Views have been built from it.
	All func(s *store.Snapshot, dirty func(K))
	// Views are kept current, write by write. Loops may share one.
	Views []store.View
	// Plan decides what to write for the given keys, which are dirty no more. The
	// snapshot and the views show what has been written so far, by this call too:
	// collect what is iterated over before writing to it.
	Plan func(env *Env, s *store.Snapshot, keys []K, out *Plan[K])
}

// Any is a Loop of some type of keys.
type Any interface{ machine() machine }

// Effect is something to be done outside the store because of its state.
type Effect interface {
	// Key names what the effect works on. No two effects with the same key are
	// carried out at once; one that is asked for meanwhile follows.
	Key() string
	// Do carries it out. It begins by looking whether the store still wants it, as
	// effects come late and repeatedly, and writes what came of it to the store.
	Do(ctx context.Context, s *store.Store) error
}
