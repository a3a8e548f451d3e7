package raft

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	etcdraft "go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"skep/raft/wal"
)

func memEntries(term, from, to uint64) []*raftpb.Entry {
	var out []*raftpb.Entry
	for i := from; i <= to; i++ {
		out = append(out, &raftpb.Entry{Index: &i, Term: &term, Data: make([]byte, 76)}) // 100 with the rest
	}
	return out
}

func memSnapshot(index, term uint64) *raftpb.Snapshot {
	return &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: &index, Term: &term}}
}

func (m *memLog) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d.%d:", m.base.index, m.base.term)
	for _, e := range m.entries {
		fmt.Fprintf(&b, " %d.%d", e.GetIndex(), e.GetTerm())
	}
	return b.String()
}

func TestTheLogInMemoryAnswersAsRaftExpects(t *testing.T) {
	t.Parallel()
	m := newMemLog(memSnapshot(10, 2), wal.HardState{Term: 3, Commit: 4}, memEntries(3, 11, 15))
	hs, cs, err := m.InitialState()
	if err != nil || hs.GetCommit() != 10 || hs.GetTerm() != 3 || cs == nil {
		t.Errorf("the hard state is %v, %v", hs, err)
	}
	first, _ := m.FirstIndex()
	last, _ := m.LastIndex()
	if first != 11 || last != 15 {
		t.Errorf("it has %d to %d, want 11 to 15", first, last)
	}
	for index, want := range map[uint64]struct {
		term uint64
		err  error
	}{9: {0, etcdraft.ErrCompacted}, 10: {2, nil}, 11: {3, nil}, 15: {3, nil}, 16: {0, etcdraft.ErrUnavailable}} {
		if got, err := m.Term(index); got != want.term || !errors.Is(err, want.err) {
			t.Errorf("the term of %d is %d, %v, want %d, %v", index, got, err, want.term, want.err)
		}
	}
	for _, c := range []struct {
		lo, hi, size uint64
		n            int
		err          error
	}{
		{10, 12, 1000, 0, etcdraft.ErrCompacted},
		{11, 17, 1000, 0, etcdraft.ErrUnavailable},
		{11, 16, 1000, 5, nil},
		{12, 14, 1000, 2, nil},
		{11, 16, 250, 2, nil},
		{11, 16, 0, 1, nil}, // at least one
	} {
		got, err := m.Entries(c.lo, c.hi, c.size)
		if len(got) != c.n || !errors.Is(err, c.err) {
			t.Errorf("entries %d to %d within %d bytes are %d, %v, want %d, %v", c.lo, c.hi, c.size, len(got), err, c.n, c.err)
		}
	}
}

func TestAppendingReplacesTheTailAndLeavesWhatWasHandedOut(t *testing.T) {
	t.Parallel()
	m := newMemLog(&raftpb.Snapshot{}, wal.HardState{}, memEntries(1, 1, 4))
	out, err := m.Entries(1, 5, 1000)
	if err != nil {
		t.Fatal(err)
	}
	m.append(memEntries(2, 3, 5))
	m.append(nil)
	m.append(memEntries(2, 6, 6))
	if got, want := m.String(), "0.0: 1.1 2.1 3.2 4.2 5.2 6.2"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if out[2].GetTerm() != 1 {
		t.Error("what was handed out has changed")
	}
}

func TestCompactingKeepsSomeEntriesWithinBounds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name            string
		keep, keepBytes uint64
		want            string
	}{
		{"none", 0, 1000, "8.1: 9.1 10.1"},
		{"as many as asked", 3, 1000, "5.1: 6.1 7.1 8.1 9.1 10.1"},
		{"as many as bytes allow", 3, 250, "6.1: 7.1 8.1 9.1 10.1"},
		{"all", 100, 10000, "0.0: 1.1 2.1 3.1 4.1 5.1 6.1 7.1 8.1 9.1 10.1"},
	} {
		m := newMemLog(&raftpb.Snapshot{}, wal.HardState{}, memEntries(1, 1, 10))
		if _, err := m.Snapshot(); !errors.Is(err, etcdraft.ErrSnapshotTemporarilyUnavailable) {
			t.Errorf("without a snapshot got %v", err)
		}
		m.compact(memSnapshot(8, 1), c.keep, c.keepBytes)
		if got := m.String(); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
		if s, err := m.Snapshot(); err != nil || s.GetMetadata().GetIndex() != 8 || m.snapshotIndex() != 8 {
			t.Errorf("%s: the snapshot is %v, %v", c.name, s, err)
		}
	}
}
