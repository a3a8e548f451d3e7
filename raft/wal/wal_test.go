package wal_test

import (
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"skep/raft/seal"
	"skep/raft/wal"
	"skep/vfs"
)

func entry(index, term uint64, data string) *raftpb.Entry {
	return &raftpb.Entry{Index: &index, Term: &term, Type: raftpb.EntryNormal.Enum(), Data: []byte(data)}
}

func TestSmoke(t *testing.T) {
	m := vfs.NewMem()
	vfs.MakeDir(m, "log")
	cfg := wal.Config{FS: m, Dir: "log", Key: seal.Key{1}, SegmentBytes: 1000, AheadBytes: 256}
	l, err := wal.Create(cfg, 7, "node", wal.HardState{Term: 1, Commit: 1}, []*raftpb.Entry{entry(1, 1, "first")})
	if err != nil {
		t.Fatal(err)
	}
	for i := uint64(2); i < 30; i++ {
		l.Append(&wal.HardState{Term: 1, Commit: i - 1}, []*raftpb.Entry{entry(i, 1, "hello")})
		if _, err := l.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	t.Log(l.Size())
	l, r, err := wal.Open(cfg, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(r.State, len(r.Entries), r.LastIndex, r.Cut)
	l, r, err = wal.Open(cfg, 20)
	t.Log(r.State, len(r.Entries), r.LastIndex, r.Cut, err)
}
