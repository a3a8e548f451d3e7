package store

import "sync"

// NewLocal returns a store that leads and whose log is its own memory: a
// transaction is committed as soon as it is taken. It is for tests of what works
// on a store, and for simulations.
func NewLocal(cfg Config) *Store {
	s := New(cfg)
	s.SetLog(&memory{store: s})
	s.Lead(1)
	return s
}

type memory struct {
	mu    sync.Mutex
	store *Store
	index uint64
}

func (m *memory) Propose(data [][]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range data {
		m.index = max(m.index, m.store.Read().Version()) + 1 // also after Restore
		if err := m.store.Apply(Entry{m.index, 1, d}); err != nil {
			panic("store: an entry of our own: " + err.Error())
		}
	}
}
