package raft_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"skep/model"
	"skep/raft"
	"skep/vfs"
)

// survivor returns the configuration of a member whose group has ended, and what it has.
func survivor(t *testing.T, g *group, id uint64) (raft.Config, []string) {
	t.Helper()
	state := g.running[id].contents()
	for other := range g.running {
		g.halt(other)
	}
	cfg := g.configs[id]
	cfg.Join, cfg.ForceNew = nil, true
	return cfg, state
}

// wantAlone checks that a node is all there is, and that others were removed.
func wantAlone(t *testing.T, r *running, removed ...uint64) {
	t.Helper()
	s := r.node.Status()
	got := slices.Sorted(slices.Values(s.Removed))
	if len(s.Members) != 1 || len(s.Learners) != 0 || s.Leader != s.ID || !slices.Equal(got, removed) {
		t.Errorf("the group is %v with the learners %v, led by %x, without %v; want only this one, without %v", s.Members, s.Learners, s.Leader, got, removed)
	}
}

func TestAMemberThatIsForcedToBeAloneKeepsAllAndRefusesTheOthers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		change  func(*raft.Config)
		entries int
	}{{"from the log", nil, 20}, {"from a snapshot and the log", short, 47}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newGroup(t, 1, 3, c.change)
				g.apply(numbered(1, c.entries)...)
				g.settle("all have it", nil)
				cfg, want := survivor(t, g, 2)
				cfg.Addr = "10.1.1.1:2377"
				r := lead(t, cfg)
				if got := r.contents(); !slices.Equal(got, want) {
					t.Errorf("it has %d entries, want %d", len(got), len(want))
				}
				wantAlone(t, r, 1, 3)
				if got := r.node.Status().Members[0].GetAddr(); got != cfg.Addr {
					t.Errorf("its address is %s, want %s", got, cfg.Addr)
				}
				for _, old := range []uint64{1, 3} {
					m := &raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), From: &old, To: new(uint64(2)), Term: new(uint64(99))}
					if err := r.node.Step(t.Context(), m); !errors.Is(err, raft.ErrRemoved) {
						t.Errorf("a message of %d: %v, want ErrRemoved", old, err)
					}
				}
				for _, again := range []bool{true, false} { // the flag stayed, or is gone
					r.apply(t, fmt.Sprint(again))
					want = append(want, fmt.Sprint(again))
					if err := r.stop(); err != nil {
						t.Fatal(err)
					}
					cfg.ForceNew = again
					r = lead(t, cfg)
					wantAlone(t, r, 1, 3)
					if got := r.contents(); !slices.Equal(got, want) {
						t.Errorf("it has %q, want %q", got, want)
					}
				}
			})
		})
	}
}

func TestOldMembersLearnThatAForcedGroupWentOnWithoutThem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 3, short)
		g.apply(numbered(1, 20)...)
		g.settle("all have it", nil)
		for id := uint64(1); id <= 3; id++ {
			g.halt(id)
		}
		force := true
		g.change = func(c *raft.Config) { short(c); c.ForceNew = force }
		g.start(1, nil)
		g.running[1].lead(t)
		force = false
		g.start(2, nil)
		old := g.running[2]
		delete(g.running, 2)
		if err := old.wait(); !errors.Is(err, raft.ErrRemoved) {
			t.Errorf("the old member ended with %v, want ErrRemoved", err)
		}
		g.apply(numbered(21, 40)...)
		g.join(4)
		g.settle("a new member votes", func(s raft.Status) bool { return len(s.Members) == 2 && len(s.Learners) == 0 })
	})
}

func TestALearnerThatIsForcedToBeAloneVotes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 1, nil)
		g.apply(numbered(1, 400)...)
		g.net.delay = 300 * time.Millisecond // it is not promoted so soon
		g.join(2)
		for g.running[2].node.Status().Applied < 5 {
			time.Sleep(50 * time.Millisecond)
		}
		if s := g.running[2].node.Status(); len(s.Members) == 2 && len(s.Learners) == 0 {
			t.Fatal("it votes already")
		}
		cfg, want := survivor(t, g, 2)
		r := lead(t, cfg)
		wantAlone(t, r, 1)
		if got := r.contents(); len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
			t.Errorf("it has %d entries, want at least %d", len(got), len(want))
		}
	})
}

func TestWhoIsNotInTheGroupCannotBeForcedToBeIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := config(vfs.NewMem())
		cfg.ID = 7
		joins := cfg
		joins.Join = &raft.JoinInfo{ID: 7}
		if err := start(t, joins).stop(); err != nil {
			t.Fatal(err)
		}
		cfg.ForceNew, cfg.StateMachine = true, newMachine(t)
		if _, err := raft.New(cfg); model.KindOf(err) != model.Precondition {
			t.Errorf("got %v, want a refusal", err)
		}
		joins.ForceNew, joins.StateMachine = true, newMachine(t)
		if _, err := raft.New(joins); err == nil {
			t.Error("it joins and is forced to be alone at once")
		}
	})
}

func TestAPowerCutWhileAMemberIsForcedToBeAloneIsSurvived(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 3, short)
		g.apply(numbered(1, 25)...)
		g.settle("all have it", nil)
		cfg, want := survivor(t, g, 3)
		disk := g.disks[3]
		random := rand.New(rand.NewPCG(1, 1))
		var images []*vfs.Mem
		var mu sync.Mutex
		disk.Trace(func(vfs.Op, string) {
			mu.Lock()
			defer mu.Unlock()
			for range 3 {
				images = append(images, disk.Crash(random))
			}
		})
		if err := lead(t, cfg).stop(); err != nil {
			t.Fatal(err)
		}
		disk.Trace(nil)
		for i, image := range images {
			cfg.FS = image
			r := lead(t, cfg)
			wantAlone(t, r, 1, 2)
			if got := r.contents(); !slices.Equal(got, want) {
				t.Errorf("image %d: it has %q, want %q", i, got, want)
			}
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
		}
		t.Logf("%d images", len(images))
	})
}
