package raft_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"skep/raft"
	"skep/raft/offline"
	"skep/vfs"
)

// short makes logs that are compacted soon.
func short(c *raft.Config) { c.SnapshotEntries, c.SegmentBytes, c.KeepEntries = 10, 2000, 2 }

// apply proposes through whoever leads, and waits for what follows.
func (g *group) apply(data ...string) {
	g.t.Helper()
	leader := g.leader()
	for _, d := range data {
		leader.apply(g.t, d)
		synctest.Wait()
	}
}

// follower returns a member that does not lead.
func (g *group) follower() uint64 {
	g.t.Helper()
	leader := g.leader().node.ID()
	for id := uint64(1); ; id++ {
		if g.running[id] != nil && id != leader {
			return id
		}
	}
}

func TestANewMemberCatchesUpThoughTheLogBeginsLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 1, short)
		g.apply(numbered(1, 100)...)
		for id := uint64(2); id <= 3; id++ {
			g.join(id)
			g.settle("it votes", func(s raft.Status) bool { return len(s.Members) == int(id) && len(s.Learners) == 0 })
		}
		if g.net.snapshots == 0 {
			t.Error("no snapshot was sent")
		}
		g.apply(numbered(101, 130)...)
		g.settle("all have it", nil)
		g.halt(2)
		g.start(2, nil)
		g.settle("it has started again", nil)
		if got := g.running[2].contents(); !slices.Equal(got, numbered(1, 130)) {
			t.Errorf("it has %q", got)
		}
	})
}

func TestAMemberThatWasAwayForLongCatchesUp(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		crash bool
	}{{"it was away", false}, {"its power was cut", true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newGroup(t, 1, 3, short)
				g.apply(numbered(1, 15)...)
				away := g.follower()
				if c.crash {
					g.crash(away, rand.New(rand.NewPCG(1, 1)))
				} else {
					g.net.part([]uint64{away}, g.others(away))
				}
				g.apply(numbered(16, 100)...)
				if c.crash {
					g.start(away, nil)
				}
				g.net.heal()
				g.settle("it has caught up", nil)
				if g.net.snapshots == 0 {
					t.Error("no snapshot was sent")
				}
				g.apply(numbered(101, 150)...)
				g.settle("all have it", nil)
				if got := files(t, g.disks[away], "snapshots"); len(got) > 2 {
					t.Errorf("the snapshots %q stay", got)
				}
			})
		})
	}
}

// A member that lacks no more entries than are kept before a snapshot gets those, and no snapshot.
func TestWhoWasAwayForNoMoreThanIsKeptNeedsNoSnapshot(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		keep  uint64
		tuned bool // while the members run
		want  bool
	}{
		"two entries are kept":              {keep: 2, want: true},
		"a hundred are kept":                {keep: 100},
		"a hundred are kept from now on":    {keep: 100, tuned: true},
		"two are kept from now on, not 100": {keep: 2, tuned: true, want: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				keep := test.keep
				if test.tuned {
					keep = 102 - keep
				}
				g := newGroup(t, 1, 3, func(c *raft.Config) { c.SnapshotEntries, c.KeepEntries = 10, keep })
				if test.tuned {
					for _, r := range g.running {
						r.node.Tune(raft.Tuning{SnapshotEntries: 10, KeepEntries: test.keep})
					}
				}
				g.apply(numbered(1, 15)...)
				away := g.follower()
				g.net.part([]uint64{away}, g.others(away))
				g.apply(numbered(16, 65)...)
				g.net.heal()
				g.settle("it has caught up", nil)
				if got := g.net.snapshots > 0; got != test.want {
					t.Errorf("that it got a snapshot is %v, want %v", got, test.want)
				}
			})
		})
	}
}

// A member's own snapshot may take so long that two of others have come meanwhile: what it tidies
// up then is not the one that is just taking the place of all.
func TestASlowSnapshotOfItsOwnDoesNotRemoveOneThatComes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 3, short)
		away := g.follower()
		own := g.disks[away].Inject(vfs.Rule{Op: vfs.OpSync, Name: "*.snap.tmp", Delay: 100 * time.Second, Count: 1})
		g.apply(numbered(1, 15)...)
		catchUp := func(from, to int) {
			t.Helper()
			g.net.part([]uint64{away}, g.others(away))
			g.apply(numbered(from, to)...)
			g.net.heal()
			<-time.After(10 * time.Second) // of the bubble
		}
		catchUp(16, 100)
		restart := g.disks[away].Inject(vfs.Rule{Op: vfs.OpSync, Name: "*.log.tmp", Delay: 120 * time.Second, Count: 1})
		catchUp(101, 200)
		if own.Hits() != 1 || restart.Hits() != 1 {
			t.Fatalf("%d of its own and %d of the others' snapshots are under way, want one of each", own.Hits(), restart.Hits())
		}
		<-time.After(4 * time.Minute) // of the bubble
		g.settle("it has caught up", nil)
		if got := g.running[away].contents(); !slices.Equal(got, numbered(1, 200)) {
			t.Errorf("it has %d entries, want 200", len(got))
		}
	})
}

func (g *group) others(than uint64) []uint64 {
	var ids []uint64
	for id := range g.running {
		if id != than {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func TestWhatIsNotCommittedGivesWayToASnapshot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 3, short)
		g.apply(numbered(1, 8)...)
		old := g.leader()
		id := old.node.ID()
		g.net.part([]uint64{id}, g.others(id))
		old.propose(slices.Repeat([]string{"lost"}, 60)...)
		synctest.Wait()
		time.Sleep(3 * time.Second)
		g.apply(numbered(9, 40)...)
		g.net.heal()
		g.settle("all agree", nil)
		if g.net.snapshots == 0 {
			t.Error("no snapshot was sent")
		}
		g.halt(id)
		g.start(id, nil)
		g.settle("it has started again", nil)
		if got := g.running[id].contents(); !slices.Equal(got, numbered(1, 40)) {
			t.Errorf("it has %q", got)
		}
	})
}

func TestASnapshotThatIsInterruptedGoesOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 1, short)
		for i := range 30 {
			g.apply(fmt.Sprint(i, strings.Repeat("x", 1000)))
		}
		g.net.breakAfter = 5
		g.join(2)
		g.settle("it votes", func(s raft.Status) bool { return len(s.Members) == 2 && len(s.Learners) == 0 })
		if g.net.resumed < 5 || g.net.snapshots != 1 {
			t.Errorf("%d snapshots came, %d times one went on, want 1 and at least 5", g.net.snapshots, g.net.resumed)
		}
	})
}

func TestTheLeaderChangesWhileASnapshotIsOnItsWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 3, short)
		away := g.follower()
		g.halt(away)
		for i := range 40 {
			g.apply(fmt.Sprint(i, strings.Repeat("x", 2000)))
		}
		g.start(away, nil)
		for round := range 4 {
			time.Sleep(50 * time.Millisecond) // it takes twice as long at least
			if round == 3 {
				break
			}
			if err := g.leader().node.TransferLeadership(t.Context(), g.otherVoter(away)); err != nil {
				t.Fatal(err)
			}
		}
		g.settle("it has caught up", nil)
		if g.net.snapshots == 0 {
			t.Error("no snapshot was sent")
		}
	})
}

// otherVoter returns the member that neither leads nor is away.
func (g *group) otherVoter(away uint64) uint64 {
	leader := g.leader().node.ID()
	for id := range g.running {
		if id != leader && id != away {
			return id
		}
	}
	return 0
}

// TestAPowerCutAtAnyStepOfASnapshotThatComesIsSurvived cuts the power of a member before each
// operation on its disk from the moment it asks for a snapshot until it has caught up.
// Fault 9 of the reliability promises: a snapshot of another member.
func TestAPowerCutAtAnyStepOfASnapshotThatComesIsSurvived(t *testing.T) {
	t.Parallel()
	steps, behind := map[string]bool{}, 0
	for cut, more := 1, true; more; cut++ {
		synctest.Test(t, func(t *testing.T) {
			g := newGroup(t, 1, 3, short)
			g.apply(numbered(1, 15)...)
			away := g.follower()
			g.halt(away)
			g.apply(numbered(16, 50)...)
			random := rand.New(rand.NewPCG(uint64(cut), 1))
			disk, step, n := g.disks[away], "", 0
			var left *vfs.Mem
			var mu sync.Mutex
			disk.Trace(func(op vfs.Op, name string) {
				mu.Lock()
				defer mu.Unlock()
				if n++; n == cut {
					g.net.set(func() { delete(g.net.nodes, away) })
					left = disk.Crash(random)
					step = op.String() + " " + name[strings.LastIndexByte(name, '.')+1:]
				}
			})
			g.start(away, nil)
			if n >= cut {
				g.net.set(func() { delete(g.net.nodes, away) }) // it had not begun to run
			}
			for range 300 {
				time.Sleep(10 * time.Millisecond)
				mu.Lock()
				done := left != nil
				mu.Unlock()
				if done || g.running[away].node.Status().Applied >= g.leader().node.Status().Applied {
					break
				}
			}
			disk.Trace(nil)
			if left == nil {
				more = false
				return
			}
			steps[step] = true
			log, err := offline.Open(left, g.configs[away].Dir, g.configs[away].Key).Log()
			if err != nil {
				t.Errorf("before %s (operation %d) the log is said to be damaged: %v", step, cut, err)
			}
			if log.Behind > 0 {
				behind++
			}
			g.halt(away)
			g.disks[away] = left
			g.start(away, nil)
			g.apply("after")
			g.settle(fmt.Sprintf("it has caught up after a power cut before %s (operation %d)", step, cut), nil)
			g.halt(away)
			g.start(away, nil)
			g.settle("it has started again", nil)
		})
	}
	for _, step := range []string{"create recv", "write recv", "sync recv", "rename recv", "syncdir raft/snapshots", "rename tmp", "remove snap", "remove log"} {
		if !steps[step] {
			t.Errorf("there was no step %q among %v", step, steps)
		}
	}
	if behind == 0 {
		t.Error("no power cut left a log that has not got to the snapshot")
	}
}
