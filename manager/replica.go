package manager

import (
	"io"

	"skep/raft"
	"skep/store"
)

// replica is the store as raft's state machine. It also knows the term that this
// manager leads in.
type replica struct {
	store *store.Store
	// term is the one this manager leads in, 0 while it does not.
	term watched[uint64]
}

func (r *replica) Apply(entries []raft.Entry) error {
	for _, e := range entries {
		if err := r.store.Apply(e.Index, e.Term, e.Data); err != nil {
			return err
		}
	}
	return nil
}

func (r *replica) Applied(index, term uint64) { r.store.Applied(index, term) }

func (r *replica) Refused(data [][]byte) { r.store.Refused(data) }

func (r *replica) Lead(term uint64) {
	r.store.Lead(term)
	r.term.set(term)
}

func (r *replica) Follow() {
	r.store.Follow()
	r.term.set(0)
}

func (r *replica) End() { r.store.End() }

func (r *replica) Snapshot() (raft.Snapshot, error) { return r.store.Read(), nil }

func (r *replica) Restore(from io.Reader) error { return r.store.Restore(from) }
