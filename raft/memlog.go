package raft

import (
	"sync"

	etcdraft "go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"skep/raft/wal"
)

// memLog is the part of the log that raft may ask for: the entries after the last
// snapshot and some before it. All of it is durable. It implements etcdraft.Storage.
type memLog struct {
	state raftpb.HardState
	conf  raftpb.ConfState

	mu sync.Mutex
	// base is the entry before the first of entries.
	base     entryID
	entries  []*raftpb.Entry
	snapshot *raftpb.Snapshot
	// needed is where the last member was added. It takes no snapshot of before.
	needed uint64
}

type entryID struct{ index, term uint64 }

var _ etcdraft.Storage = (*memLog)(nil)

// newMemLog returns the log as it was recovered: a snapshot, perhaps an empty one, and
// what follows it.
func newMemLog(snapshot *raftpb.Snapshot, state wal.HardState, entries []*raftpb.Entry) *memLog {
	meta := snapshot.GetMetadata()
	m := &memLog{
		base:     entryID{meta.GetIndex(), meta.GetTerm()},
		entries:  entries,
		snapshot: snapshot,
	}
	m.conf.Voters = meta.GetConfState().GetVoters()
	m.conf.Learners = meta.GetConfState().GetLearners()
	m.conf.AutoLeave = new(bool)
	m.state.Term, m.state.Vote = &state.Term, &state.Vote
	commit := max(state.Commit, m.base.index) // a snapshot is of what is committed
	m.state.Commit = &commit
	return m
}

// InitialState implements etcdraft.Storage.
func (m *memLog) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	return &m.state, &m.conf, nil
}

// Entries implements etcdraft.Storage.
func (m *memLog) Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if lo <= m.base.index {
		return nil, etcdraft.ErrCompacted
	}
	if hi > m.last()+1 {
		return nil, etcdraft.ErrUnavailable
	}
	found := m.entries[lo-m.base.index-1 : hi-m.base.index-1]
	size := uint64(0)
	for i, e := range found {
		if size += entrySize(e); size > maxSize && i > 0 {
			found = found[:i]
			break
		}
	}
	return found[:len(found):len(found)], nil
}

// entrySize is what an entry takes, roughly: its fields beside the data are small.
func entrySize(e *raftpb.Entry) uint64 { return uint64(len(e.GetData())) + 24 }

// Term implements etcdraft.Storage.
func (m *memLog) Term(i uint64) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case i < m.base.index:
		return 0, etcdraft.ErrCompacted
	case i == m.base.index:
		return m.base.term, nil
	case i > m.last():
		return 0, etcdraft.ErrUnavailable
	}
	return m.entries[i-m.base.index-1].GetTerm(), nil
}

func (m *memLog) last() uint64 { return m.base.index + uint64(len(m.entries)) }

// LastIndex implements etcdraft.Storage.
func (m *memLog) LastIndex() (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last(), nil
}

// FirstIndex implements etcdraft.Storage.
func (m *memLog) FirstIndex() (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.base.index + 1, nil
}

// Snapshot implements etcdraft.Storage. Data is the name of the snapshot's file. There is
// none while the last one does not know of all members.
func (m *memLog) Snapshot() (*raftpb.Snapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if index := m.snapshot.GetMetadata().GetIndex(); index == 0 || index < m.needed {
		return nil, etcdraft.ErrSnapshotTemporarilyUnavailable
	}
	return m.snapshot, nil
}

// snapshotIndex returns the index of the last snapshot, or zero.
func (m *memLog) snapshotIndex() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.snapshot.GetMetadata().GetIndex()
}

// append adds entries that are durable, which replace those from the first one's
// index on. Slices that Entries returned stay as they are.
func (m *memLog) append(entries []*raftpb.Entry) {
	if len(entries) == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	at := entries[0].GetIndex() - m.base.index - 1
	if at < uint64(len(m.entries)) {
		m.entries = append(m.entries[:at:at], entries...)
		return
	}
	m.entries = append(m.entries, entries...)
}

// added notes that a member was added by entry index.
func (m *memLog) added(index uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.needed = max(m.needed, index)
}

// lacking reports whether a snapshot is called for, since a member can have the whole state
// neither from the log nor from the last one.
func (m *memLog) lacking() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.base.index > 0 && m.snapshot.GetMetadata().GetIndex() < m.needed
}

// restart makes a snapshot of another member all there is.
func (m *memLog) restart(snapshot *raftpb.Snapshot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	meta := snapshot.GetMetadata()
	m.snapshot = snapshot
	m.base = entryID{meta.GetIndex(), meta.GetTerm()}
	m.entries = nil
}

// compact notes a newer snapshot and drops entries before it, but for the last keep
// entries as far as they have at most keepBytes.
func (m *memLog) compact(snapshot *raftpb.Snapshot, keep, keepBytes uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.snapshot = snapshot
	if snapshot.GetMetadata().GetIndex() <= m.base.index {
		return // it takes the place of one that was received
	}
	at := snapshot.GetMetadata().GetIndex() - m.base.index // how many entries it covers
	for size := uint64(0); at > 0 && keep > 0; at, keep = at-1, keep-1 {
		if size += entrySize(m.entries[at-1]); size > keepBytes {
			break
		}
	}
	if at == 0 {
		return
	}
	last := m.entries[at-1]
	m.base = entryID{last.GetIndex(), last.GetTerm()}
	m.entries = append([]*raftpb.Entry(nil), m.entries[at:]...)
}
