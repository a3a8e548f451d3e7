package raft_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"skep/raft"
	"skep/vfs"
	"skep/vfs/vfstest"
)

// keyed is small with the keys that a key file holds: the pending one is written with.
func keyed(fsys vfs.FS, current [32]byte, pending *[32]byte) raft.Config {
	cfg := small(fsys)
	cfg.Key = current
	if pending != nil {
		cfg.Key, cfg.OldKeys = *pending, [][32]byte{current}
	}
	return cfg
}

func TestAfterARotationTheNewKeyIsEnough(t *testing.T) {
	t.Parallel()
	for _, entries := range []int{0, 1, 6, 20} {
		synctest.Test(t, func(t *testing.T) {
			m := vfs.NewMem()
			a, b := [32]byte{1}, [32]byte{2}
			r := lead(t, keyed(m, a, nil))
			want := numbered(1, entries)
			r.apply(t, want...)
			r.settled()
			if err := r.node.RotateKey(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			// It was idle; what comes after is written with the new key, too.
			copied := m.Copy()
			r.apply(t, "more")
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
			for _, image := range []*vfs.Mem{copied, m} {
				again := lead(t, keyed(image, b, nil))
				if got := again.contents(); len(got) < entries || !slices.Equal(got[:entries], want) {
					t.Errorf("%d entries: with the new key alone it has %q", entries, got)
				}
				if err := again.stop(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestPowerCutsWhileTheKeyIsRotatedLoseNothing cuts the power before operations on the
// disk while the key is rotated under load, and opens what is left with the keys that the
// key file then has.
// Fault 37 of the reliability promises: the log and its snapshots.
func TestPowerCutsWhileTheKeyIsRotatedLoseNothing(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 7))
			m := vfs.NewMem()
			machine := newMachine(t)
			var mu sync.Mutex // guards what follows, and random
			current, pending := [32]byte{1}, (*[32]byte)(nil)
			during := 0
			own := func(data string) bool { return strings.HasPrefix(data, "entry ") }
			r := startMachine(t, keyed(m, current, nil), machine)
			r.lead(t)
			m.Trace(func(op vfs.Op, name string) {
				mu.Lock()
				defer mu.Unlock()
				if pending != nil {
					during++
				}
				acked := machine.acknowledged()
				for _, image := range []*vfs.Mem{m.Crash(random), m.Copy()} {
					again := lead(t, keyed(image, current, pending))
					state := again.contents()
					if err := again.stop(); err != nil {
						t.Fatalf("seed %d, before %s of %s: %v", seed, op, name, err)
					}
					if err := surviving(state, nil, acked, own); err != nil {
						t.Fatalf("seed %d, before %s of %s: %v", seed, op, name, err)
					}
				}
			})
			var rotating sync.WaitGroup
			rotating.Go(func() {
				for i := range byte(2) {
					key := [32]byte{2, i}
					mu.Lock()
					pending = &key // the key file is first
					mu.Unlock()
					if err := r.node.RotateKey(t.Context(), key); err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					current, pending = key, nil
					mu.Unlock()
				}
			})
			r.apply(t, numbered(1, 15)...)
			rotating.Wait()
			m.Trace(nil)
			if during < 10 {
				t.Errorf("seed %d: %d operations while the key was rotated prove little", seed, during)
			}
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestNothingThatWasReplicatedIsReadableOnDisk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := vfs.NewMem()
		r := lead(t, keyed(m, [32]byte{1}, nil))
		const secret = "recognisable secret"
		for i := range 20 {
			r.apply(t, fmt.Sprintf("%s %d", secret, i))
			r.settled()
		}
		if err := r.node.RotateKey(t.Context(), [32]byte{2}); err != nil {
			t.Fatal(err)
		}
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		seen := 0
		for _, dir := range []string{"raft/log", "raft/snapshots"} {
			names, err := m.List(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range names {
				seen++
				if bytes.Contains(vfstest.ReadFile(t, m, path.Join(dir, name)), []byte(secret)) {
					t.Errorf("%s/%s shows it", dir, name)
				}
			}
		}
		if seen < 2 {
			t.Errorf("%d files prove nothing", seen)
		}
	})
}
