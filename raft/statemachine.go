package raft

import "io"

// Entry is one committed entry of the log.
type Entry struct {
	Index, Term uint64
	Data        []byte
}

// StateMachine is what raft replicates. All methods are called from one goroutine
// (the applier; from [New] until Run starts it), in the order of the log, except
// Refused, which the raft loop calls. They must not wait for a proposal.
//
// A state machine that proposes must not call [Node.Propose] concurrently with its
// own Lead or Follow: once Follow has returned, nothing that was built on the lost
// term may be proposed. A lock that both take does that.
type StateMachine interface {
	// Apply applies committed entries. Entries without data and changes of
	// membership are not among them. An error is fatal: replicas must not differ.
	Apply(entries []Entry) error
	// Applied reports that everything up to index is applied, entries without
	// data too, and the term of the last of them. It follows each Apply.
	Applied(index, term uint64)
	// Refused gives back proposals that will never be committed.
	Refused(data [][]byte)
	// Lead reports that this member leads in term, and that everything which was in
	// the log at its election is applied. From here on proposals are taken.
	Lead(term uint64)
	// Follow reports that this member, which led, no longer does. The outcome of
	// proposals that were neither applied nor refused is open: the next leader may have
	// them. Those that are not applied before an entry of a later term are lost, and so told
	// by Applied.
	Follow()
	// End reports that this member ends: nothing more is called.
	End()
	// Snapshot captures the state as of the last Applied. It is cheap; the
	// work is in Snapshot.WriteTo.
	Snapshot() (Snapshot, error)
	// Restore replaces the state by one that Snapshot.WriteTo wrote, which is older than what
	// was applied only in New. It reads to the end: if r has an error before, which it wraps,
	// the state is as it was, and New may restore an older one. While the member runs it comes from another member: Follow
	// was called before if it led, and Applied follows.
	Restore(r io.Reader) error
}

// Snapshot is one state of a state machine. WriteTo runs on another goroutine,
// while the state machine goes on.
type Snapshot interface {
	WriteTo(w io.Writer) (int64, error)
}
