package loop

import (
	"time"

	"skep/store"
)

// afterFailure is how long keys wait that were to be planned again by a call of
// which a write was left out.
const afterFailure = 5 * time.Second

// machine is the running state of one loop, whatever its keys.
type machine interface {
	name() string
	views() []store.View
	reset(s *store.Snapshot)
	changed(c store.Change)
	wake(now time.Time)
	dirty() int
	next() (time.Time, bool)
	plan(env *Env, st *step, most int) (planned int)
}

// keyed is a machine with keys of type K: which are dirty, in order, and which
// are to be woken.
type keyed[K comparable] struct {
	loop   Loop[K]
	mark   func(K)
	queue  []K
	queued map[K]struct{}
	wakes  wakes[K]
}

func (l Loop[K]) machine() machine {
	m := &keyed[K]{loop: l, queued: map[K]struct{}{}}
	m.mark = func(k K) {
		if _, ok := m.queued[k]; !ok {
			m.queued[k] = struct{}{}
			m.queue = append(m.queue, k)
		}
	}
	return m
}

func (m *keyed[K]) name() string { return m.loop.Name }

func (m *keyed[K]) views() []store.View { return m.loop.Views }

func (m *keyed[K]) reset(s *store.Snapshot) {
	m.queue = nil
	clear(m.queued)
	m.wakes.clear()
	m.loop.All(s, m.mark)
}

func (m *keyed[K]) changed(c store.Change) { m.loop.Keys(c, m.mark) }

func (m *keyed[K]) wake(now time.Time) {
	for {
		k, ok := m.wakes.due(now)
		if !ok {
			return
		}
		m.mark(k)
	}
}

func (m *keyed[K]) dirty() int { return len(m.queue) }

func (m *keyed[K]) next() (time.Time, bool) { return m.wakes.next() }

// plan plans the keys that have been dirty longest, at most so many of them.
func (m *keyed[K]) plan(env *Env, st *step, most int) int {
	n := min(len(m.queue), most)
	keys := m.queue[:n:n]
	m.queue = m.queue[n:]
	for _, k := range keys {
		delete(m.queued, k)
		m.wakes.drop(k)
	}
	out := &Plan[K]{step: st, m: m}
	failed := st.failed
	m.loop.Plan(env, st.tx.Snapshot, keys, out)
	for _, k := range out.again {
		if st.failed > failed {
			m.wakes.set(k, env.Now.Add(afterFailure))
		} else {
			m.mark(k)
		}
	}
	return n
}
