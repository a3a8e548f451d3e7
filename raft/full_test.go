package raft_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"skep/model"
	"skep/raft"
	"skep/vfs"
)

// Fault 10 of the reliability promises: the log of a leader.
func TestALeaderWhoseDiskIsFullHandsOverAndComesBackWhenThereIsSpace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 3, func(c *raft.Config) { c.SegmentBytes = 2000 })
		g.apply(numbered(1, 10)...)
		old := g.leader()
		id := old.node.ID()
		g.disks[id].SetCapacity(g.disks[id].Used())
		for _, data := range numbered(11, 60) {
			for <-g.leader().propose(data)[0] == refused {
				time.Sleep(10 * time.Millisecond)
			}
		}
		if next := g.leader(); next == old {
			t.Error("a member leads whose disk is full")
		}
		if _, err := old.node.ReadIndex(t.Context()); err != nil {
			t.Errorf("it cannot tell what is current: %v", err)
		}
		g.disks[id].SetCapacity(0)
		time.Sleep(2 * time.Second)
		g.settle("it has caught up", nil)
		g.halt(id)
		g.start(id, nil)
		g.settle("it has started again", nil)
	})
}

// Fault 10 of the reliability promises: the log of the only member.
func TestTheOnlyMemberWhoseDiskIsFullReadsAndWritesLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 1, func(c *raft.Config) { c.SegmentBytes = 2000 })
		r, disk := g.running[1], g.disks[1]
		r.apply(t, numbered(1, 10)...)
		disk.SetCapacity(disk.Used())
		outcomes := r.propose(numbered(11, 60)...)
		time.Sleep(5 * time.Second)
		if got := r.contents(); len(got) >= 60 {
			t.Fatal("it wrote to a full disk")
		}
		if err := r.node.Full(); model.KindOf(err) != model.Unavailable || !strings.Contains(err.Error(), "bytes must be free") {
			t.Errorf("it says %v, and should name the space that it needs", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.node.ReadIndex(ctx); err != nil {
			t.Errorf("it cannot be read: %v", err)
		}
		disk.SetCapacity(0)
		for _, o := range outcomes {
			if got := <-o; got != applied {
				t.Errorf("a proposal was %s", got)
			}
		}
		if err := r.node.Full(); err != nil {
			t.Errorf("with space again it says %v", err)
		}
		disk.SetCapacity(disk.Used())
		r.propose(numbered(61, 100)...)
		time.Sleep(time.Second)
		if err := r.stop(); err != nil {
			t.Errorf("a member whose disk is full ended with %v", err)
		}
		disk.SetCapacity(0)
		g.start(1, nil)
		g.running[1].lead(t)
		if got := g.running[1].contents(); len(got) < 60 || !slices.Equal(got[:60], numbered(1, 60)) {
			t.Errorf("after that it has %q", got)
		}
	})
}

// TestASnapshotThatComesToAFullDiskIsTakenWhenThereIsSpace has a member that takes a snapshot
// find no space at each step of it.
// Fault 10 of the reliability promises: the snapshot of another member.
func TestASnapshotThatComesToAFullDiskIsTakenWhenThereIsSpace(t *testing.T) {
	t.Parallel()
	for _, step := range []vfs.Rule{
		{Op: vfs.OpCreate, Name: "*.recv"},
		{Op: vfs.OpWrite, Name: "*.recv"},
		{Op: vfs.OpSync, Name: "*.recv"},
		{Op: vfs.OpRename, Name: "*.recv"},
		{Op: vfs.OpCreate, Name: "*.log.tmp"},
		{Op: vfs.OpWrite, Name: "*.log.tmp"},
		{Op: vfs.OpWrite, Name: "*.log.tmp", Skip: 1},
		{Op: vfs.OpSync, Name: "*.log.tmp"},
		{Op: vfs.OpRename, Name: "*.log.tmp"},
	} {
		t.Run(fmt.Sprintf("%s of %s after %d", step.Op, step.Name, step.Skip), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newGroup(t, 1, 3, short)
				g.apply(numbered(1, 15)...)
				away := g.follower()
				g.net.part([]uint64{away}, g.others(away))
				g.apply(numbered(16, 100)...)
				step.Err = syscall.ENOSPC
				fault := g.disks[away].Inject(step)
				g.net.heal()
				time.Sleep(5 * time.Second)
				if fault.Hits() == 0 {
					t.Fatal("it did not get there")
				}
				if got := g.running[away].contents(); len(got) > 15 {
					t.Errorf("without space it has %d entries", len(got))
				}
				g.apply(numbered(101, 110)...)
				fault.Remove()
				g.settle("it has caught up", nil)
				if g.net.snapshots == 0 {
					t.Error("no snapshot was sent")
				}
				if left := files(t, g.disks[away], "snapshots"); slices.ContainsFunc(left, func(name string) bool { return !strings.HasSuffix(name, ".snap") }) {
					t.Errorf("of what failed the files %q stay", left)
				}
				g.halt(away)
				g.start(away, nil)
				g.settle("it has started again", nil)
				if got := g.running[away].contents(); !slices.Equal(got, numbered(1, 110)) {
					t.Errorf("it has %q", got)
				}
			})
		})
	}
}
