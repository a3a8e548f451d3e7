package raft_test

import (
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"skep/raft"
	"skep/raft/seal"
	"skep/raft/snap"
	"skep/raft/wal"
	"skep/vfs"
)

// counter is a state machine that only tells proposers that they are done.
type counter struct {
	mu      sync.Mutex
	node    *raft.Node
	waiting []chan<- struct{}
	leads   chan struct{}
}

func (c *counter) propose(data []byte, done chan<- struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = append(c.waiting, done)
	c.node.Propose([][]byte{data})
}

func (c *counter) Apply(entries []raft.Entry) error {
	c.mu.Lock()
	done := c.waiting[:len(entries)]
	c.waiting = c.waiting[len(entries):]
	c.mu.Unlock()
	for _, d := range done {
		d <- struct{}{}
	}
	return nil
}

func (c *counter) Applied(_, _ uint64)              {}
func (c *counter) Refused([][]byte)                 {}
func (c *counter) Lead(uint64)                      { close(c.leads) }
func (c *counter) Follow()                          {}
func (c *counter) End()                             {}
func (c *counter) Snapshot() (raft.Snapshot, error) { return snapshot{}, nil }
func (c *counter) Restore(io.Reader) error          { return nil }

// BenchmarkPropose measures acknowledged entries on the real file system.
func BenchmarkPropose(b *testing.B) {
	for _, proposers := range []int{1, 64, 512} {
		b.Run(fmt.Sprintf("proposers=%d", proposers), func(b *testing.B) {
			c := &counter{leads: make(chan struct{})}
			node, err := raft.New(raft.Config{
				FS: vfs.OS(), Dir: filepath.Join(b.TempDir(), "raft"), Key: [32]byte{1}, NodeID: "node",
				StateMachine: c, SnapshotEntries: 1 << 40,
			})
			if err != nil {
				b.Fatal(err)
			}
			c.node = node
			done := make(chan error, 1)
			go func() { done <- node.Run(b.Context()) }()
			<-c.leads
			data := make([]byte, 300)
			work := make(chan struct{})
			var wg sync.WaitGroup
			for range proposers {
				wg.Go(func() {
					applied := make(chan struct{}, 1)
					for range work {
						c.propose(data, applied)
						<-applied
					}
				})
			}
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				work <- struct{}{}
			}
			close(work)
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}

// BenchmarkFlush measures the log alone: one batch, one sync.
func BenchmarkFlush(b *testing.B) {
	for _, entries := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("entries=%d", entries), func(b *testing.B) {
			cfg := wal.Config{FS: vfs.OS(), Dir: b.TempDir(), Key: seal.Key{1}}
			l, err := wal.Create(cfg, 1, "node", wal.HardState{Term: 1}, nil)
			if err != nil {
				b.Fatal(err)
			}
			data := make([]byte, 300)
			index, term := uint64(0), uint64(1)
			b.ReportAllocs()
			for b.Loop() {
				batch := make([]*raftpb.Entry, entries)
				for i := range batch {
					index++
					batch[i] = &raftpb.Entry{Index: new(index), Term: &term, Data: data}
				}
				l.Append(nil, batch)
				if _, err := l.Flush(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*entries)/b.Elapsed().Seconds(), "entries/s")
			if err := l.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkSync is the limit: what the disk takes for one small write in place.
func BenchmarkSync(b *testing.B) {
	f, err := vfs.OS().Create(filepath.Join(b.TempDir(), "file"))
	if err != nil {
		b.Fatal(err)
	}
	const size = 4 << 20
	if _, err := f.Write(make([]byte, size)); err != nil {
		b.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	data := make([]byte, 400)
	at := int64(0)
	for b.Loop() {
		if at += int64(len(data)); at > size-int64(len(data)) {
			at = 0
		}
		if _, err := f.WriteAt(data, at); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkOpen measures recovery: 100,000 entries of 600 bytes, which is about what
// lies between two snapshots at most.
func BenchmarkOpen(b *testing.B) {
	cfg := wal.Config{FS: vfs.OS(), Dir: b.TempDir(), Key: seal.Key{1}}
	l, err := wal.Create(cfg, 1, "node", wal.HardState{Term: 1}, nil)
	if err != nil {
		b.Fatal(err)
	}
	data, term := make([]byte, 600), uint64(1)
	const entries, batch = 100_000, 100
	for index := uint64(1); index <= entries; {
		var next []*raftpb.Entry
		for range batch {
			next = append(next, &raftpb.Entry{Index: new(index), Term: &term, Data: data})
			index++
		}
		l.Append(nil, next)
		if _, err := l.Flush(); err != nil {
			b.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		l, found, err := wal.Open(cfg, 0)
		if err != nil {
			b.Fatal(err)
		}
		if found.LastIndex != entries {
			b.Fatalf("recovered %d entries", found.LastIndex)
		}
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSnapshot measures writing and checking a state of 60 MB.
func BenchmarkSnapshot(b *testing.B) {
	dir := snap.Dir{FS: vfs.OS(), Path: b.TempDir(), Key: seal.Key{1}}
	state := make([]byte, 60_000_000)
	write := func() error {
		_, err := dir.Write(snap.Meta{Index: 1}, func(w io.Writer) error {
			_, err := w.Write(state)
			return err
		})
		return err
	}
	if err := write(); err != nil {
		b.Fatal(err)
	}
	for name, do := range map[string]func() error{
		"write":  write,
		"verify": func() error { _, err := dir.Verify(1); return err },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(state)))
			for b.Loop() {
				if err := do(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
