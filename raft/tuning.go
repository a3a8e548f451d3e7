package raft

import "slices"

// Tuning is what may change while a member runs. A zero field means its default.
type Tuning struct {
	// SnapshotEntries is how many entries are applied between two snapshots, as in Config.
	SnapshotEntries uint64
	// KeepSnapshots is how many snapshots stay beside the newest. The one before it always
	// does, in case the newest is damaged. Default: 1.
	KeepSnapshots uint64
	// KeepEntries is how many entries before a snapshot stay in the log, as in Config.
	KeepEntries uint64
}

func (t Tuning) withDefaults() Tuning {
	if t.SnapshotEntries == 0 {
		t.SnapshotEntries = 10_000
	}
	if t.KeepEntries == 0 {
		t.KeepEntries = 500
	}
	t.KeepSnapshots = max(t.KeepSnapshots, 1)
	return t
}

// Tune takes the place of what Config or an earlier call said. The next snapshot is the first
// that heeds it.
func (n *Node) Tune(t Tuning) {
	t = t.withDefaults()
	n.tuning.Store(&t)
}

// kept returns the indexes of the snapshots that stay beside newest and the one before it. Those
// are read by nobody but an operator, and go where a new key is wanted everywhere.
func (n *Node) kept(newest uint64) ([]uint64, error) {
	keep := n.tuning.Load().KeepSnapshots
	if keep == 1 {
		return nil, nil
	}
	all, err := n.snapshots.List()
	if err != nil {
		return nil, err
	}
	sealed, err := n.snapshots.OldKeys()
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(index uint64) bool { return index >= newest || slices.Contains(sealed, index) })
	return all[:min(keep, uint64(len(all)))], nil
}
