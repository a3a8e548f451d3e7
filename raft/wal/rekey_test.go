package wal_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"skep/raft/seal"
	"skep/raft/wal"
	"skep/vfs"
	"skep/vfs/vfstest"
)

// keyFile is what a manager's key file holds while its log is being rekeyed.
type keyFile struct {
	current seal.Key
	pending *seal.Key
}

func (k keyFile) ring() *seal.Ring {
	if k.pending != nil {
		return seal.NewRing(*k.pending, k.current)
	}
	return seal.NewRing(k.current)
}

func withKeys(fsys vfs.FS, keys keyFile) wal.Config {
	cfg := config(fsys)
	cfg.Keys = keys.ring()
	return cfg
}

func TestSegmentsAfterARotationNeedTheNewKeyOnly(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	fill(t, m, 5)
	a, b := seal.Key{1}, seal.Key{2}
	cfg := withKeys(m, keyFile{current: a})
	l, _, err := wal.Open(cfg, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, any := l.OldKeys(); any {
		t.Error("a log with one key has old ones")
	}
	cfg.Keys.Rotate(b)
	if err := errors.Join(l.Rekey(), l.Rekey()); err != nil {
		t.Fatal(err)
	}
	flush(t, l, nil, entry(6, 1, "new"))
	if last, any := l.OldKeys(); !any || last != 5 {
		t.Errorf("entries to %d have old keys (%v), want 5", last, any)
	}
	if err := l.Release(4); err != nil {
		t.Fatal(err)
	}
	if _, any := l.OldKeys(); !any {
		t.Error("entry 5 is not in a snapshot, and its key is not needed")
	}
	if _, _, err := wal.Open(withKeys(m.Copy(), keyFile{current: b}), 4); !errors.Is(err, seal.ErrKey) {
		t.Errorf("entry 5 without its key: %v, want %v", err, seal.ErrKey)
	}
	if err := l.Release(5); err != nil {
		t.Fatal(err)
	}
	if last, any := l.OldKeys(); any {
		t.Errorf("old keys are needed to %d, want none", last)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, r, err := wal.Open(withKeys(m, keyFile{current: b}), 5)
	if err != nil {
		t.Fatal(err)
	}
	wantEntries(t, r, 6, 6)
}

// TestPowerCutsDuringRotationsLoseNothing appends, rotates and releases at random and
// cuts the power before every operation on the disk. What is left is opened with the
// keys that the key file has at that moment.
// Fault 37 of the reliability promises: the log.
func TestPowerCutsDuringRotationsLoseNothing(t *testing.T) {
	t.Parallel()
	for seed := range uint64(15) {
		random := rand.New(rand.NewPCG(seed, 1))
		m := vfs.NewMem()
		keys := keyFile{current: seal.Key{1}}
		l := create(t, m)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		cfg := withKeys(m, keys)
		l, _, err := wal.Open(cfg, 0)
		if err != nil {
			t.Fatal(err)
		}
		var last, snapshot uint64 = 1, 0 // durable
		rotations := 0
		m.Trace(func(op vfs.Op, name string) {
			images := []*vfs.Mem{m.Copy()}
			for range 3 {
				images = append(images, m.Crash(random))
			}
			for _, image := range images {
				again, r, err := wal.Open(withKeys(image, keys), snapshot)
				if err != nil {
					t.Fatalf("seed %d, before %s of %s: %v", seed, op, name, err)
				}
				if r.LastIndex != last && r.LastIndex != last+1 {
					t.Fatalf("seed %d, before %s of %s: the log ends with %d, want %d", seed, op, name, r.LastIndex, last)
				}
				if err := again.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
		for step := range byte(60) {
			switch random.IntN(6) {
			case 0: // begin a rotation: the key file first
				if keys.pending != nil {
					continue
				}
				keys.pending = &seal.Key{2, byte(seed), step}
				cfg.Keys.Rotate(*keys.pending)
				if err := l.Rekey(); err != nil {
					t.Fatal(err)
				}
			case 1: // a snapshot
				snapshot = last
				if err := l.Release(snapshot); err != nil {
					t.Fatal(err)
				}
			default:
				flush(t, l, nil, entry(last+1, 1, strings.Repeat("x", random.IntN(300))))
				last++
			}
			if _, any := l.OldKeys(); !any && keys.pending != nil { // the rotation ends
				keys = keyFile{current: *keys.pending}
				cfg.Keys.Forget()
				rotations++
			}
		}
		m.Trace(nil)
		if rotations == 0 {
			t.Errorf("seed %d: there was no rotation, which proves nothing", seed)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAFullDiskIsNoticedBeforeAnythingIsWritten fills the disk before each batch in turn,
// and frees it again.
// Fault 10 of the reliability promises: another segment.
func TestAFullDiskIsNoticedBeforeAnythingIsWritten(t *testing.T) {
	t.Parallel()
	refused := 0
	for spare := range int64(40) {
		m := vfs.NewMem()
		l := create(t, m)
		for i := uint64(2); i <= 12; i++ {
			m.SetCapacity(m.Used() + spare*40)
			l.Append(&wal.HardState{Term: 1, Commit: i - 1}, []*raftpb.Entry{entry(i, 1, strings.Repeat("x", 200))})
			_, err := l.Flush()
			if err == nil {
				continue
			}
			refused++
			if !errors.Is(err, wal.ErrFull) || !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "log/") {
				t.Fatalf("entry %d: %v, want %v", i, err, wal.ErrFull)
			}
			if _, err := l.Flush(); !errors.Is(err, wal.ErrFull) {
				t.Fatalf("entry %d again: %v, want %v", i, err, wal.ErrFull)
			}
			left := m.Copy()
			left.SetCapacity(1 << 20)
			r, err := reopen(left, 0)
			if err != nil {
				t.Fatalf("entry %d was refused, and the log is damaged: %v", i, err)
			}
			wantEntries(t, r, 1, i-1)
			m.SetCapacity(1 << 20)
			if _, err := l.Flush(); err != nil {
				t.Fatalf("entry %d, with space again: %v", i, err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		m.SetCapacity(1 << 20)
		r, err := reopen(m, 0)
		if err != nil {
			t.Fatal(err)
		}
		wantEntries(t, r, 1, 12)
	}
	if refused == 0 {
		t.Error("the disk was never full, which proves nothing")
	}
}

// Fault 10 of the reliability promises: what is written ahead.
func TestWhatIsRefusedForLackOfSpaceTakesNone(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	l := create(t, m)
	for i := uint64(2); len(segments(t, m)) < 2; i++ {
		m.SetCapacity(m.Used() + 600)
		l.Append(nil, []*raftpb.Entry{entry(i, 1, strings.Repeat("x", 200))})
		if _, err := l.Flush(); err != nil {
			break
		}
	}
	for _, name := range segments(t, m) {
		if strings.HasSuffix(name, ".tmp") {
			t.Errorf("%s takes up space", name)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestTheLogIsNotReadableOnDisk(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	l := create(t, m)
	flush(t, l, nil, entry(2, 1, "a secret that nobody must see"))
	for _, name := range segments(t, m) {
		if strings.Contains(string(vfstest.ReadFile(t, m, name)), "secret") {
			t.Errorf("the entry stands in %s", name)
		}
	}
	if text := fmt.Sprintf("%v %#v", seal.NewRing(seal.Key{1}), seal.NewRing(seal.Key{1})); text != "[secret] [secret]" {
		t.Errorf("a ring prints as %q", text)
	}
}
