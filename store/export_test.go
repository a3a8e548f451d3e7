package store

// NewCounts returns the view that the metrics read.
func NewCounts() View { return newCounts() }

// Publish gives a commit to the subscribers as if it had been applied.
func Publish(s *Store, c Commit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.feed.publish(c, 500*len(c.Changes))
}

// AppliedIndex returns the index of the last entry that is applied.
func (s *Store) AppliedIndex() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.applied
}
