package raft_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"skep/api"
	"skep/model"
	"skep/raft"
	"skep/vfs"
)

func TestThreeMembersElectReplicateAndSurviveTheLossOfTheLeader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 3, nil)
		leader := g.leader()
		leader.apply(t, numbered(1, 50)...)
		g.halt(leader.node.ID())
		began := time.Now()
		next := g.leader()
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("it took %s until another led, want at most two seconds", took)
		}
		next.apply(t, numbered(51, 60)...)
		g.start(leader.node.ID(), nil)
		g.settle("the old leader has caught up", nil)
		if got := g.running[leader.node.ID()].contents(); !slices.Equal(got, numbered(1, 60)) {
			t.Errorf("the old leader has %q", got)
		}
	})
}

func TestAFollowerThatComesAndGoesChangesNoLeader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 3, nil)
		leader := g.leader()
		term := leader.node.Status().Term
		for round := range 3 {
			for id := range uint64(4) {
				if id == 0 || id == leader.node.ID() {
					continue
				}
				g.halt(id)
				began := time.Now()
				leader.apply(t, numbered(100*round, 100*round+10)...)
				if took := time.Since(began); took > time.Second {
					t.Errorf("ten writes took %s while a follower was away", took)
				}
				time.Sleep(3 * time.Second)
				g.start(id, nil)
				g.settle("it has caught up", nil)
			}
		}
		if s := leader.node.Status(); s.Term != term || s.Leader != s.ID {
			t.Errorf("the term was %d and is %d, led by %x", term, s.Term, s.Leader)
		}
	})
}

func TestAllMembersMayEndAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 3, nil)
		g.leader().apply(t, numbered(1, 30)...)
		for id := range uint64(3) {
			g.crash(id+1, rand.New(rand.NewPCG(1, id)))
		}
		for id := range uint64(3) {
			g.start(id+1, nil)
		}
		g.leader().apply(t, "after")
		g.settle("all have it", nil)
		if got := g.leader().contents(); !slices.Equal(got, append(numbered(1, 30), "after")) {
			t.Errorf("after all came back there is %q", got)
		}
	})
}

func TestAMinorityNeitherWritesNorReads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 3, nil)
		old := g.leader()
		old.apply(t, "before")
		rest := []uint64{1, 2, 3}
		rest = slices.DeleteFunc(rest, func(id uint64) bool { return id == old.node.ID() })
		g.net.part([]uint64{old.node.ID()}, rest)
		lost := old.propose("lost")[0]
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, err := old.node.ReadIndex(ctx); model.KindOf(err) != model.Unavailable {
			t.Errorf("a leader without followers read: %v", err)
		}
		g.leader().apply(t, "on the other side")
		g.net.heal()
		if got := <-lost; got == applied {
			t.Error("a leader without followers wrote")
		}
		began := time.Now()
		g.settle("all agree", nil)
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("it took %s until all agreed", took)
		}
	})
}

func TestEveryMemberReadsWhatWasAcknowledged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 3, nil)
		leader := g.leader()
		for _, data := range numbered(1, 20) {
			leader.apply(t, data)
			acked := leader.node.Status().Applied
			for id, r := range g.running {
				index, err := r.node.ReadIndex(t.Context())
				if err != nil || index < acked {
					t.Errorf("member %d may read at %d, %v, though %d is acknowledged", id, index, err, acked)
				}
			}
		}
	})
}

// read asks a member for where to read, and says how long the answer took.
func (g *group) read(id uint64) <-chan time.Duration {
	took, began := make(chan time.Duration, 1), time.Now()
	go func() {
		if _, err := g.running[id].node.ReadIndex(g.t.Context()); err != nil {
			g.t.Errorf("member %d: %v", id, err)
		}
		took <- time.Since(began)
	}()
	return took
}

// A follower passes what it is asked as a leader on to the next one, in the name of whoever
// asked; which no member may do. That no message leaves in another's name, network checks.
func TestAReadThatWentToAFormerLeaderIsAskedAgainWhenAnotherLeads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 3, nil)
		old := g.leader()
		rest := g.others(old.node.ID())
		next, reader := rest[0], rest[1]
		g.net.part([]uint64{next}, []uint64{reader})
		if err := old.node.TransferLeadership(t.Context(), next); err != nil {
			t.Fatal(err)
		}
		if s := g.running[reader].node.Status(); s.Leader != old.node.ID() {
			t.Fatalf("the reader knows already that %x leads", s.Leader)
		}
		took := g.read(reader)
		time.Sleep(50 * time.Millisecond)
		g.net.heal()
		if d := <-took; d > 150*time.Millisecond {
			t.Errorf("the read took %s, of which the new leader was away 50ms: it was not asked again at once", d)
		}
	})
}

func TestAReadIsAskedAgainWhenTheSameLeaderIsElectedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 3, nil)
		leader := g.leader()
		rest := g.others(leader.node.ID())
		other, reader := rest[0], rest[1]
		g.net.part([]uint64{leader.node.ID(), other}, []uint64{reader})
		took := g.read(reader)
		for _, to := range []uint64{other, leader.node.ID()} {
			if err := g.leader().node.TransferLeadership(t.Context(), to); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
		}
		if s := g.running[reader].node.Status(); s.Leader != leader.node.ID() {
			t.Fatalf("for the reader %x leads", s.Leader)
		}
		g.net.heal()
		if d := <-took; d > 200*time.Millisecond {
			t.Errorf("the read took %s: the leader of another term was not asked at once", d)
		}
	})
}

func TestAReadThatWasLostOnTheWayIsAskedAgainWhenTheWayStands(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 3, nil)
		leader := g.leader()
		reader := g.others(leader.node.ID())[0]
		g.net.part([]uint64{leader.node.ID()}, []uint64{reader})
		took := g.read(reader)
		time.Sleep(20 * time.Millisecond)
		g.net.heal()
		if d := <-took; d > 150*time.Millisecond {
			t.Errorf("the read took %s, and the leader was away for 20ms: it was not asked again at once", d)
		}
	})
}

func TestWhatIsProposedWhileTheLeadersDiskWritesGoesInOneMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 3, nil)
		leader := g.leader()
		g.disks[leader.node.ID()].Inject(vfs.Rule{Op: vfs.OpSync, Delay: 5 * time.Millisecond, Count: 2})
		entries := 0
		g.net.set(func() { entries = g.net.seen[raftpb.MsgApp] })
		outcomes := leader.propose("first")
		for _, data := range numbered(1, 20) {
			synctest.Wait()
			outcomes = append(outcomes, leader.propose(data)...)
		}
		for _, o := range outcomes {
			if got := <-o; got != applied {
				t.Errorf("a proposal was %s", got)
			}
		}
		g.net.set(func() { entries = g.net.seen[raftpb.MsgApp] - entries })
		// To each follower: the first, the others, and what tells that they are committed.
		if entries > 8 {
			t.Errorf("21 entries took %d messages, want at most 8", entries)
		}
	})
}

func TestLeadershipIsHandedOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 3, nil)
		for range 5 {
			old := g.leader()
			began := time.Now()
			if err := old.node.TransferLeadership(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > 50*time.Millisecond {
				t.Errorf("it took %s, want at most 50ms", took)
			}
			if next := g.leader(); next == old {
				t.Error("the same member leads")
			}
		}
		if err := g.leader().node.TransferLeadership(t.Context(), 77); model.KindOf(err) != model.Precondition {
			t.Errorf("to a member that does not exist: %v", err)
		}
	})
}

func TestALeaderThatEndsHandsOverFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 3, nil)
		old := g.leader()
		began := time.Now()
		if err := old.stop(); err != nil {
			t.Fatal(err)
		}
		delete(g.running, old.node.ID())
		g.leader()
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("it took %s until another led", took)
		}
	})
}

func TestMembersAreAddedUpdatedAndRemoved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 3, nil)
		leader := g.leader()
		leader.apply(t, "a")
		for range 2 { // it is the same the second time
			if err := leader.node.AddMember(t.Context(), member(2)); err != nil {
				t.Error(err)
			}
		}
		moved := member(2)
		moved.Addr = "10.9.9.9:1"
		if err := leader.node.UpdateMember(t.Context(), moved); err != nil {
			t.Fatal(err)
		}
		g.settle("all know the new address", func(s raft.Status) bool { return s.Members[1].GetAddr() == moved.GetAddr() })
		gone := uint64(3)
		if leader.node.ID() == gone {
			gone = 2
		}
		for range 2 {
			if err := leader.node.RemoveMember(t.Context(), gone); err != nil {
				t.Fatal(err)
			}
		}
		removed := g.running[gone]
		delete(g.running, gone)
		if err := removed.wait(); !errors.Is(err, raft.ErrRemoved) || model.KindOf(err) != model.NotFound {
			t.Errorf("the removed member's Run returned %v", err)
		}
		if err := leader.node.AddMember(t.Context(), member(gone)); model.KindOf(err) != model.Precondition {
			t.Errorf("an id that was removed was taken: %v", err)
		}
		g.settle("two are left", func(s raft.Status) bool { return len(s.Members) == 2 && slices.Equal(s.Removed, []uint64{gone}) })
		for id, r := range g.running {
			if id == leader.node.ID() {
				continue
			}
			if err := r.node.AddMember(t.Context(), member(9)); model.KindOf(err) != model.Precondition {
				t.Errorf("a follower added a member: %v", err)
			}
		}
	})
}

func TestARemovalThatWouldLoseTheQuorumIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 3, nil)
		leader := g.leader()
		away, there := uint64(0), uint64(0)
		for id := range g.running {
			if id != leader.node.ID() {
				away, there = there, id
			}
		}
		g.halt(away)
		time.Sleep(3 * time.Second)
		if err := leader.node.RemoveMember(t.Context(), there); model.KindOf(err) != model.Precondition {
			t.Errorf("got %v, want a refusal", err)
		}
		s := leader.node.Status()
		for _, m := range s.Members {
			want := api.RaftMemberStatus_REACHABLE
			if m.GetRaftId() == away {
				want = api.RaftMemberStatus_UNREACHABLE
			}
			if got := m.GetStatus().GetReachability(); got != want {
				t.Errorf("member %d is %s, want %s", m.GetRaftId(), got, want)
			}
		}
		if err := leader.node.RemoveMember(t.Context(), away); err != nil {
			t.Errorf("the one that is away cannot be removed: %v", err)
		}
		if err := leader.node.RemoveMember(t.Context(), there); err != nil {
			t.Errorf("of two that are there, one cannot be removed: %v", err)
		}
		if err := leader.node.RemoveMember(t.Context(), leader.node.ID()); model.KindOf(err) != model.Precondition {
			t.Errorf("the last one: got %v, want a refusal", err)
		}
	})
}
