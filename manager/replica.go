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
	// compare is given the state after each entry whose index is a multiple of
	// digestInterval; nil compares nothing.
	compare func(index uint64, state *store.Snapshot)
	// last is the entry that the state is known to be after, if placed: it is not known right
	// after a state was restored.
	last   uint64
	placed bool
}

// passed tells that the state is as it is up to index, and no entry in between changed it.
func (r *replica) passed(index uint64) {
	if due := index / digestInterval * digestInterval; r.placed && due > r.last && r.compare != nil {
		r.compare(due, r.store.Read())
	}
	r.last, r.placed = index, true
}

func (r *replica) Apply(entries []raft.Entry) error {
	var some []store.Entry // up to the next state that is compared
	for i, e := range entries {
		if len(some) == 0 {
			r.passed(e.Index - 1)
		}
		some = append(some, store.Entry{Index: e.Index, Term: e.Term, Data: e.Data})
		if i < len(entries)-1 && (entries[i+1].Index-1)/digestInterval == (some[0].Index-1)/digestInterval {
			continue
		}
		if err := r.store.Apply(some...); err != nil {
			return err
		}
		some = some[:0]
	}
	return nil
}

func (r *replica) Applied(index, term uint64) {
	r.store.Applied(index, term)
	r.passed(index)
}

func (r *replica) Refused(data [][]byte) { r.store.Refused(data) }

func (r *replica) Lead(term uint64) {
	r.store.Lead(term)
	r.term.set(term)
}

// Follow ends the term before the writes of this manager: those who are told that one failed find out
// why.
func (r *replica) Follow() {
	r.term.set(0)
	r.store.Follow()
}

func (r *replica) End() { r.store.End() }

func (r *replica) Snapshot() (raft.Snapshot, error) { return r.store.Read(), nil }

func (r *replica) Restore(from io.Reader) error {
	r.placed = false
	return r.store.Restore(from)
}
