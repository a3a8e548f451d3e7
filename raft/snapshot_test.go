package raft_test

import (
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"skep/raft"
	"skep/vfs"
	"skep/vfs/vfstest"
)

// settled waits until all that follows from what was done is done.
func (r *running) settled() { synctest.Wait() }

func TestASnapshotReplacesTheLogBeforeIt(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*raft.Config){
		"by entries": func(c *raft.Config) { c.SnapshotEntries = 100 },
		"by bytes":   func(c *raft.Config) { c.SnapshotBytes = 100 << 10 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := vfs.NewMem()
				cfg := config(m)
				cfg.KeepEntries = 10
				change(&cfg)
				r := lead(t, cfg)
				want := make([]string, 1000)
				for i := range want {
					want[i] = fmt.Sprintf("%d %s", i, strings.Repeat("x", 1000))
					r.apply(t, want[i])
					r.settled()
				}
				if got := files(t, m, "snapshots"); len(got) != 2 {
					t.Errorf("the snapshots are %q, want the last two", got)
				}
				if err := r.stop(); err != nil {
					t.Fatal(err)
				}
				r = lead(t, cfg)
				if got := r.contents(); !slices.Equal(got, want) {
					t.Errorf("after a restart it has %d entries, want %d", len(got), len(want))
				}
				if s := r.node.Status(); len(s.Members) != 1 || s.Members[0].GetAddr() != cfg.Addr {
					t.Errorf("the members are %v", s.Members)
				}
			})
		})
	}
}

func TestOldSegmentsOfTheLogAreRemoved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := vfs.NewMem()
		cfg := config(m)
		cfg.SnapshotBytes, cfg.SegmentBytes = 80<<10, 40<<10
		r := lead(t, cfg)
		for i := range 100 {
			r.apply(t, fmt.Sprint(i)+strings.Repeat("x", 10<<10))
			r.settled()
		}
		if got := files(t, m, "log"); len(got) > 5 {
			t.Errorf("of 1,000 KiB the segments %q of 40 KiB are left", got)
		}
	})
}

func TestALargeStateIsNotWrittenAgainForAFewSmallEntries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := vfs.NewMem()
		cfg := config(m)
		cfg.SnapshotEntries = 10
		r := lead(t, cfg)
		r.apply(t, strings.Repeat("x", 1<<20))
		for _, data := range numbered(1, 15) {
			r.apply(t, data)
			r.settled()
		}
		first := files(t, m, "snapshots")
		for _, data := range numbered(16, 200) {
			r.apply(t, data)
			r.settled()
		}
		if got := files(t, m, "snapshots"); len(first) != 1 || !slices.Equal(got, first) {
			t.Errorf("the snapshots were %q and are %q, want no new one", first, got)
		}
	})
}

// twoSnapshots returns a file system with two snapshots, their names (the newest last),
// the configuration, and what was applied.
func twoSnapshots(t *testing.T) (*vfs.Mem, []string, raft.Config, []string) {
	t.Helper()
	m := vfs.NewMem()
	cfg := config(m)
	cfg.SnapshotEntries = 10
	r := lead(t, cfg)
	all := numbered(1, 45)
	for _, data := range all {
		r.apply(t, data)
		r.settled()
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	names := files(t, m, "snapshots")
	if len(names) != 2 {
		t.Fatalf("the snapshots are %q, want two", names)
	}
	return m, names, cfg, all
}

// flip alters one bit in the middle of a file.
func flip(t *testing.T, m *vfs.Mem, name string) {
	t.Helper()
	f, err := m.OpenReadWrite(name)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	at := len(b) / 2
	if _, err := f.WriteAt([]byte{b[at] ^ 4}, int64(at)); err != nil {
		t.Fatal(err)
	}
}

// Fault 8 of the reliability promises.
func TestADamagedSnapshotFallsBackToTheOneBeforeAndTheLog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		whole, names, cfg, want := twoSnapshots(t)
		newest := path.Join("raft/snapshots", names[1])
		for what, spoil := range map[string]func(m *vfs.Mem){
			"a bit is flipped": func(m *vfs.Mem) { flip(t, m, newest) },
			"it is cut short":  func(m *vfs.Mem) { cutShort(t, m, newest) },
			"it is empty":      func(m *vfs.Mem) { vfstest.WriteFile(t, m, newest, nil) },
			"it is gone":       func(m *vfs.Mem) { mustRemove(t, m, newest) },
		} {
			m, cfg := whole.Copy(), cfg
			spoil(m)
			cfg.FS = m
			r := lead(t, cfg)
			if got := r.contents(); !slices.Equal(got, want) {
				t.Fatalf("%s: it has %q, want %q", what, got, want)
			}
			// The damaged one is not kept as the fallback of the next.
			for _, data := range numbered(46, 60) {
				r.apply(t, data)
				r.settled()
			}
			if got := files(t, m, "snapshots"); len(got) != 2 || slices.Contains(got, names[1]) {
				t.Errorf("%s: the snapshots are %q, want no %q", what, got, names[1])
			}
			if err := r.stop(); err != nil {
				t.Errorf("%s: it ends with %v", what, err)
			}
		}
	})
}

// cutShort cuts off the second half of a file.
func cutShort(t *testing.T, m *vfs.Mem, name string) {
	t.Helper()
	data := vfstest.ReadFile(t, m, name)
	vfstest.WriteFile(t, m, name, data[:len(data)/2])
}

func mustRemove(t *testing.T, m *vfs.Mem, name string) {
	t.Helper()
	if err := m.Remove(name); err != nil {
		t.Fatal(err)
	}
}

// Fault 8 of the reliability promises.
func TestDamagedSnapshotsWithoutTheLogAreFatal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := vfs.NewMem()
		cfg := config(m)
		cfg.SnapshotBytes, cfg.SegmentBytes = 20<<10, 10<<10
		r := lead(t, cfg)
		for range 70 {
			r.apply(t, strings.Repeat("x", 1<<10))
			r.settled()
		}
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		var says []string
		for _, name := range files(t, m, "snapshots") {
			flip(t, m, path.Join("raft/snapshots", name))
			says = append(says, name, "at offset", "restore the state directory")
		}
		cfg.StateMachine = newMachine(t)
		_, err := raft.New(cfg)
		if err == nil {
			t.Fatal("it opened without the state")
		}
		for _, part := range append(says, "missing") {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q does not say %q", err, part)
			}
		}
	})
}

// Fault 10 of the reliability promises: a snapshot.
func TestASnapshotForWhichThereIsNoSpaceIsTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := vfs.NewMem()
		cfg := config(m)
		cfg.SnapshotEntries = 10
		r := lead(t, cfg)
		full := m.Inject(vfs.Rule{Op: vfs.OpWrite, Name: "*.snap.tmp", Err: syscall.ENOSPC})
		for _, data := range numbered(1, 25) {
			r.apply(t, data)
			r.settled()
		}
		if got := files(t, m, "snapshots"); len(got) != 0 || full.Hits() != 2 {
			t.Errorf("after %d attempts there are %q, want 2 and nothing", full.Hits(), got)
		}
		full.Remove()
		for _, data := range numbered(26, 40) {
			r.apply(t, data)
			r.settled()
		}
		if got := files(t, m, "snapshots"); len(got) == 0 {
			t.Error("there is space, and no snapshot")
		}
	})
}

func TestAStartTakesNoSnapshotBeforeAllOfItsLogIsApplied(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := vfs.NewMem()
		cfg := config(m)
		full := m.Inject(vfs.Rule{Op: vfs.OpWrite, Name: "*.snap.tmp", Err: syscall.ENOSPC})
		r := lead(t, cfg)
		for range 9 { // more than is given to the state machine at once
			r.apply(t, strings.Repeat("x", 2<<20))
		}
		last := r.node.Status().Applied
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		full.Remove()
		r = lead(t, cfg)
		r.settled()
		if got, want := files(t, m, "snapshots"), fmt.Sprintf("%016x", last); len(got) != 1 || got[0] < want {
			t.Errorf("it has the snapshots %q, want one at entry %s or after it", got, want)
		}
	})
}

func TestASnapshotThatFailsOtherwiseIsFatal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := vfs.NewMem()
		cfg := config(m)
		cfg.SnapshotEntries = 10
		r := lead(t, cfg)
		m.Inject(vfs.Rule{Op: vfs.OpSync, Name: "*.snap.tmp", Err: syscall.EIO})
		r.propose(numbered(1, 25)...)
		if err := r.wait(); !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), ".snap") {
			t.Errorf("Run returned %v, want EIO and the name of the file", err)
		}
	})
}

func TestSnapshotsAreTakenAndKeptAsTheMemberIsTunedWhileItRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := vfs.NewMem()
		cfg := config(m)
		r := lead(t, cfg)
		write := func(from, to int) []string {
			for _, data := range numbered(from, to) {
				r.apply(t, data+strings.Repeat("x", 100))
				r.settled()
			}
			return files(t, m, "snapshots")
		}
		if got := write(1, 100); len(got) != 0 {
			t.Errorf("there are the snapshots %q, want none before 10,000 entries", got)
		}
		r.node.Tune(raft.Tuning{SnapshotEntries: 10, KeepSnapshots: 3, KeepEntries: 7})
		if got := write(101, 1000); len(got) != 4 {
			t.Errorf("there are the snapshots %q, want the newest and 3 more", got)
		}
		r.node.Tune(raft.Tuning{SnapshotEntries: 10})
		if got := write(1001, 4000); len(got) != 2 {
			t.Errorf("there are the snapshots %q, want the newest and the one before it", got)
		}
		r.node.Tune(raft.Tuning{SnapshotEntries: 10, KeepSnapshots: 3})
		before := write(4001, 16000)
		if err := r.node.RotateKey(t.Context(), [32]byte{9}); err != nil {
			t.Fatal(err)
		}
		for _, old := range before {
			if slices.Contains(files(t, m, "snapshots"), old) {
				t.Errorf("the snapshot %s, with the old key, is there after the rotation", old)
			}
		}
	})
}
