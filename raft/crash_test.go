package raft_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"skep/raft"
	"skep/vfs"
)

// small makes everything happen often: snapshots, new segments, their removal.
func small(fsys vfs.FS) raft.Config {
	cfg := config(fsys)
	cfg.SnapshotEntries, cfg.SegmentBytes, cfg.KeepEntries = 6, 600, 2
	return cfg
}

// surviving checks that a state is what a crash may leave: all of before, then everything
// in acked, in that order, perhaps with something between that was proposed too.
func surviving(state, before, acked []string, proposed func(string) bool) error {
	if len(state) < len(before) || !slices.Equal(state[:len(before)], before) {
		return fmt.Errorf("the state begins with %q, want %q", state[:min(len(state), len(before))], before)
	}
	seen := map[string]bool{}
	left := acked
	for _, data := range state[len(before):] {
		switch {
		case seen[data]:
			return fmt.Errorf("%q is there twice", data)
		case !proposed(data):
			return fmt.Errorf("%q is there, and nobody proposed it", data)
		case len(left) > 0 && left[0] == data:
			left = left[1:]
		}
		seen[data] = true
	}
	if len(left) > 0 {
		return fmt.Errorf("%q was acknowledged and is lost; the state is %q", left, state)
	}
	return nil
}

// TestRandomPowerCutsLoseNothingThatWasAcknowledged has three writers and a power cut
// before a random operation on the disk, again and again on what is left.
// Fault 5 of the reliability promises.
func TestRandomPowerCutsLoseNothingThatWasAcknowledged(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			m := vfs.NewMem()
			var before []string
			for round := range uint64(5) {
				r := rand.New(rand.NewPCG(seed, round))
				story := fmt.Sprintf("seed %d round %d", seed, round)
				var acked []string
				m, acked = untilPowerCut(t, m, r, story)
				again := lead(t, small(m))
				state := again.contents()
				if err := again.stop(); err != nil {
					t.Fatalf("%s: %v", story, err)
				}
				own := func(data string) bool { return strings.HasPrefix(data, story) }
				if err := surviving(state, before, acked, own); err != nil {
					t.Fatalf("%s: %v", story, err)
				}
				before = state
			}
		})
	}
}

// untilPowerCut runs a node with writers until the power is cut, and returns what is left
// of the disk and what was acknowledged before.
func untilPowerCut(t *testing.T, m *vfs.Mem, r *rand.Rand, story string) (left *vfs.Mem, acked []string) {
	t.Helper()
	machine := newMachine(t)
	cut := make(chan struct{})
	var mu sync.Mutex
	operations := 1 + r.IntN(150)
	padding := strings.Repeat("x", r.IntN(400))
	m.Trace(func(vfs.Op, string) {
		mu.Lock()
		defer mu.Unlock()
		if operations--; operations == 0 {
			acked = machine.acknowledged()
			left = m.Crash(r)
			close(cut)
		}
	})
	node := startMachine(t, small(m), machine)
	node.lead(t)
	var writers sync.WaitGroup
	for w := range 3 {
		writers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-cut:
					return
				case o := <-machine.propose(fmt.Sprintf("%s writer %d entry %d %s", story, w, i, padding))[0]:
					if o != applied {
						t.Errorf("%s: a proposal was %s", story, o)
						return
					}
				}
			}
		})
	}
	writers.Wait()
	if err := node.stop(); err != nil {
		t.Fatalf("%s: %v", story, err)
	}
	return left, acked
}

// TestEachStepMayBeTheLast cuts the power before each operation on the disk, while entries
// are written, segments begin, snapshots are written and renamed and old files removed,
// and recovers from the states which that may leave: all of them, or if there are very
// many, the first ones and some at random.
// Fault 9 of the reliability promises.
func TestEachStepMayBeTheLast(t *testing.T) {
	t.Parallel()
	const enough = 40
	synctest.Test(t, func(t *testing.T) {
		m := vfs.NewMem()
		machine := newMachine(t)
		steps, images := map[string]bool{}, 0
		random := rand.New(rand.NewPCG(1, 1))
		recover := func(step, what string, image *vfs.Mem, acked []string) {
			t.Helper()
			images++
			r := lead(t, small(image))
			state := r.contents()
			if err := r.stop(); err != nil {
				t.Fatalf("before %s, %s: %v", step, what, err)
			}
			own := func(data string) bool { return strings.HasPrefix(data, "entry ") }
			if err := surviving(state, nil, acked, own); err != nil {
				t.Fatalf("before %s, %s: %v", step, what, err)
			}
		}
		var mu sync.Mutex // the log and a snapshot may be written at once
		m.Trace(func(op vfs.Op, name string) {
			mu.Lock()
			defer mu.Unlock()
			step := op.String() + " " + name
			steps[op.String()+" "+name[strings.LastIndexByte(name, '.')+1:]] = true
			acked := machine.acknowledged()
			n := 0
			for what, image := range m.CrashImages() {
				if n++; n > enough {
					break
				}
				recover(step, what, image, acked)
			}
			for range min(n, 5) {
				recover(step, "at random", m.Crash(random), acked)
			}
		})
		r := startMachine(t, small(m), machine)
		r.lead(t)
		for _, data := range numbered(1, 22) {
			r.apply(t, data)
			r.settled()
		}
		m.Trace(nil)
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		for _, step := range []string{
			"create tmp", "write log", "sync log", "rename tmp", "sync tmp", "syncdir raft/log", "syncdir raft/snapshots", "remove snap", "remove log",
		} {
			if !steps[step] {
				t.Errorf("there was no step %q among %v", step, steps)
			}
		}
		t.Logf("%d images", images)
	})
}
