package store

import "slices"

// Observer follows the proposed head. It is called under the store's lock, in
// order, and must neither wait nor call the store.
type Observer interface {
	// Changed tells what a transaction wrote.
	Changed([]Change)
	// Reset tells to start again from a state: the first, one after leadership
	// began or ended, or one after transactions in flight were lost.
	Reset(*Snapshot)
}

type observation struct{ Observer }

// Observe calls o.Reset with the current head, and o from then on until stop.
func (s *Store) Observe(o Observer) (stop func()) {
	ob := &observation{o}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.observer = append(s.observer, ob)
	o.Reset(s.proposed.Load())
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.observer = slices.DeleteFunc(s.observer, func(x *observation) bool { return x == ob })
	}
}

func (s *Store) tell(changes []Change, silent []Observer) {
	for _, o := range s.observer {
		if !slices.Contains(silent, o.Observer) {
			o.Changed(changes)
		}
	}
}

func (s *Store) reset(who []Observer) {
	for _, o := range who {
		o.Reset(s.proposed.Load())
	}
}

func (s *Store) resetAll() {
	for _, o := range s.observer {
		o.Reset(s.proposed.Load())
	}
}
