package store

import (
	"crypto/sha256"
	"fmt"
)

// Hash returns a digest of every object in the state. Managers that applied the
// same entries have the same one. It costs what writing the state costs.
func (s *Snapshot) Hash() ([sha256.Size]byte, error) {
	h := sha256.New()
	if _, err := s.writeRecords(h); err != nil {
		return [sha256.Size]byte{}, fmt.Errorf("hash the state: %w", err)
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}
