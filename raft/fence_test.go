package raft_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"skep/api/skep"
	"skep/raft"
	"skep/vfs"
)

// wantForgotten waits until a member has ended since others know that it had more.
func (g *group) wantForgotten(id uint64) {
	g.t.Helper()
	r := g.running[id]
	time.AfterFunc(10*time.Second, r.end)
	if err := r.wait(); err == nil || !strings.Contains(err.Error(), "older than what it has acknowledged") {
		g.t.Errorf("member %d, rolled back, ends with %v; want an error that says so", id, err)
	}
	g.net.set(func() { delete(g.net.nodes, id) })
	delete(g.running, id)
}

// Fault 30 of the reliability promises.
func TestAMemberThatWasRolledBackEndsWhoeverLeads(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		members int
		// leads tells that who led is rolled back, and not a follower; leader is another then.
		leads bool
		// meanwhile is what happens while it is away.
		meanwhile func(g *group, leader, third uint64)
		// voted tells that after the copy was made it had only to do with an election.
		voted bool
	}{
		"the same leader": {members: 3, meanwhile: func(*group, uint64, uint64) {}},
		"another leads": {members: 3, meanwhile: func(g *group, _, third uint64) {
			if err := g.leader().node.TransferLeadership(g.t.Context(), third); err != nil {
				g.t.Fatal(err)
			}
			g.apply("after")
		}},
		"who led knows nothing any more": {members: 3, meanwhile: func(g *group, leader, third uint64) {
			if err := g.leader().node.TransferLeadership(g.t.Context(), third); err != nil {
				g.t.Fatal(err)
			}
			g.halt(leader)
			g.start(leader, nil)
			g.apply("after")
		}},
		"who led is gone":               {members: 3, meanwhile: func(g *group, leader, _ uint64) { g.halt(leader) }},
		"it led":                        {members: 3, leads: true, meanwhile: func(g *group, _, _ uint64) { g.apply("after") }},
		"it led, and is back at once":   {members: 3, leads: true, meanwhile: func(*group, uint64, uint64) {}},
		"it led, and one other is gone": {members: 3, leads: true, meanwhile: func(g *group, _, third uint64) { g.halt(third) }},
		"one of two":                    {members: 2, meanwhile: func(*group, uint64, uint64) {}},
		"one of two, which led":         {members: 2, leads: true, meanwhile: func(*group, uint64, uint64) {}},
		"one of five, and two are gone": {members: 5, meanwhile: func(g *group, leader, third uint64) { g.halt(leader); g.halt(third) }},
		"one of five, which led":        {members: 5, leads: true, meanwhile: func(g *group, _, third uint64) { g.halt(third); g.apply("after") }},
		"all that it forgot is a term":  {members: 3, voted: true, meanwhile: func(*group, uint64, uint64) {}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newGroup(t, 1, test.members, nil)
				g.apply(numbered(1, 10)...)
				leader := g.leader().node.ID()
				victim := g.follower()
				if test.leads {
					victim, leader = leader, victim
				}
				third := uint64(0)
				for id := range g.running {
					if id != leader && id != victim {
						third = max(third, id)
					}
				}
				old := g.disks[victim].Copy()
				if test.voted {
					if err := g.leader().node.TransferLeadership(t.Context(), third); err != nil {
						t.Fatal(err)
					}
				} else {
					g.apply(numbered(11, 20)...)
				}
				time.Sleep(200 * time.Millisecond) // two ticks
				g.crash(victim, rand.New(rand.NewPCG(1, 1)))
				test.meanwhile(g, leader, third)
				g.disks[victim] = old
				g.start(victim, nil)
				g.wantForgotten(victim)
			})
		})
	}
}

// Fault 30 of the reliability promises.
func TestAMemberThatWasRolledBackToWhenItWasAloneEndsWhoeverLeads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 1, nil)
		g.apply(numbered(1, 10)...)
		old := g.disks[1].Copy()
		g.join(2)
		g.join(3)
		g.settle("all vote", func(s raft.Status) bool { return len(s.Members) == 3 && len(s.Learners) == 0 })
		if err := g.running[1].node.TransferLeadership(t.Context(), 3); err != nil {
			t.Fatal(err)
		}
		g.apply("more")
		g.halt(1)
		if err := g.leader().node.TransferLeadership(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		g.apply("after")
		g.disks[1] = old
		g.start(1, nil)
		g.wantForgotten(1)
	})
}

// lonely returns a group of so many members of which only the first runs, which led.
func lonely(t *testing.T, members int) (*group, raft.Status) {
	t.Helper()
	g := newGroup(t, 1, members, nil)
	g.apply(numbered(1, 10)...)
	g.settle("all have it", nil)
	if s := g.running[1].node.Status(); s.Leader != s.ID {
		t.Fatalf("%d leads, want the first", s.Leader)
	}
	for id := range ids(members) {
		g.crash(uint64(id)+1, rand.New(rand.NewPCG(1, uint64(id))))
	}
	g.start(1, nil)
	g.net.set(func() { clear(g.net.seen) })
	return g, g.running[1].node.Status()
}

func (n *network) sent(typ raftpb.MessageType) (k int) {
	n.set(func() { k = n.seen[typ] })
	return k
}

// Fault 30 of the reliability promises: no double vote.
func TestAMemberNeitherVotesNorStandsBeforeEnoughOthersHaveToldWhatTheyKnow(t *testing.T) {
	t.Parallel()
	for _, members := range []int{2, 3, 5} {
		t.Run(fmt.Sprint(members), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g, s := lonely(t, members)
				node := g.running[1].node
				asks := func(from uint64, typ raftpb.MessageType, term uint64) {
					if err := node.Step(t.Context(), &raftpb.Message{
						Type: typ.Enum(), From: &from, To: new(uint64(1)), Term: &term, Index: new(s.LastIndex), LogTerm: new(s.Term),
					}); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(5 * time.Second)
				for id := uint64(2); id <= uint64(members); id++ {
					asks(id, raftpb.MsgPreVote, s.Term+1)
					asks(id, raftpb.MsgVote, s.Term+1)
					asks(id, raftpb.MsgTimeoutNow, s.Term)
				}
				for need := members / 2; need > 1; need-- {
					node.Told(uint64(need), nil)
				}
				node.Told(77, nil) // who is no member does not count
				time.Sleep(5 * time.Second)
				if n := g.net.sent(raftpb.MsgPreVoteResp) + g.net.sent(raftpb.MsgVoteResp) + g.net.sent(raftpb.MsgPreVote) + g.net.sent(raftpb.MsgVote); n > 0 {
					t.Fatalf("it sent %d messages of an election", n)
				}
				// A request that waits is answered when it may be, unless it is void by now.
				asks(2, raftpb.MsgVote, s.Term+2)
				time.Sleep(100 * time.Millisecond)
				node.Told(uint64(members), nil)
				synctest.Wait()
				if n := g.net.sent(raftpb.MsgVoteResp); n != 1 || g.net.sent(raftpb.MsgPreVote) != 0 {
					t.Errorf("once it might, it answered %d requests, want the one that is not old", n)
				}
				time.Sleep(3 * time.Second)
				if g.net.sent(raftpb.MsgPreVote) == 0 {
					t.Error("it does not stand for election")
				}
			})
		})
	}
}

func TestAMemberFollowsALeaderBeforeAnybodyHasVouched(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g, s := lonely(t, 3)
		from, term := uint64(2), s.Term+1
		entry := &raftpb.Entry{Index: new(s.LastIndex + 1), Term: &term, Data: []byte("theirs")}
		if err := g.running[1].node.Step(t.Context(), &raftpb.Message{
			Type: raftpb.MsgApp.Enum(), From: &from, To: new(uint64(1)), Term: &term,
			Index: new(s.LastIndex), LogTerm: new(s.Term), Commit: entry.Index, Entries: []*raftpb.Entry{entry},
		}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := g.running[1].contents(); !slices.Contains(got, "theirs") {
			t.Errorf("it has %q", got)
		}
	})
}

// The others may elect somebody whose own vote is not on its disk yet. It leads then, and is not
// to be told afterwards that it has forgotten that.
func TestWhatALeaderHadNotSyncedIsNotMissed(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		synctest.Test(t, func(t *testing.T) {
			g := newGroup(t, 1, 3, nil)
			g.apply(numbered(1, 10)...)
			g.settle("all have it", nil)
			next := g.follower()
			g.disks[next].Inject(vfs.Rule{Op: vfs.OpSync, Delay: 3 * time.Second})
			if err := g.leader().node.TransferLeadership(t.Context(), next); err != nil {
				t.Fatal(err)
			}
			time.Sleep(400 * time.Millisecond)
			if s := g.running[next].node.Status(); s.Leader != next {
				t.Fatalf("%d leads, want the one with the slow disk to", s.Leader)
			}
			g.crash(next, rand.New(rand.NewPCG(seed, 1)))
			g.start(next, nil)
			g.apply("after")
			g.settle("it is back", nil)
		})
	}
}

// What was acknowledged to a leader that could not commit it gives way to what another one has.
func TestWhatALaterLeaderTookAwayIsNotMissed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 5, nil)
		g.apply(numbered(1, 10)...)
		old := g.leader()
		id := old.node.ID()
		with := g.others(id)[0]
		rest := slices.DeleteFunc(g.others(id), func(o uint64) bool { return o == with })
		g.net.part([]uint64{id, with}, rest)
		old.propose(slices.Repeat([]string{"lost"}, 30)...)
		time.Sleep(500 * time.Millisecond) // they tell each other that both have it
		g.net.set(func() { g.net.cut[link{id, with}], g.net.cut[link{with, id}] = true, true })
		time.Sleep(3 * time.Second)
		g.apply(numbered(11, 12)...)
		g.net.heal()
		g.settle("all agree", nil)
		for _, again := range []uint64{id, with} {
			g.halt(again)
			g.start(again, nil)
			g.settle("it is back", nil)
		}
		if got := g.leader().contents(); !slices.Equal(got, numbered(1, 12)) {
			t.Errorf("there is %q", got)
		}
	})
}

// TestNoCrashIsTakenForAnOldDisk cuts the power of members with slow disks, parts the network and
// hands over leadership at random. That no member ends by itself is looked at whenever one is
// halted, and at the end.
func TestNoCrashIsTakenForAnOldDisk(t *testing.T) {
	t.Parallel()
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 30))
			members := 2 + r.IntN(4)
			g := newGroup(t, seed, members, short)
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("seed %d, %d members", seed, members)
				}
			})
			for step := range 60 {
				id := 1 + r.Uint64N(uint64(members))
				up := g.running[id]
				switch k := r.IntN(8); {
				case k < 2 && up != nil:
					g.crash(id, r)
				case k < 4 && up == nil:
					g.start(id, nil)
				case k == 4 && up != nil:
					up.propose(fmt.Sprint("step ", step), fmt.Sprint("and ", step))
				case k == 5 && up != nil:
					// Of the log alone: those of a snapshot hold a lock, and nobody waits for one in a bubble.
					fault := g.disks[id].Inject(vfs.Rule{Op: vfs.OpSync, Name: "*.log", Delay: time.Duration(r.IntN(1500)) * time.Millisecond})
					time.AfterFunc(time.Duration(r.IntN(3000))*time.Millisecond, fault.Remove)
				case k == 6:
					g.net.part([]uint64{id}, slices.DeleteFunc(ids(members), func(o uint64) bool { return o == id }))
					time.AfterFunc(time.Duration(r.IntN(2000))*time.Millisecond, g.net.heal)
				case k == 7 && up != nil:
					go func() { _ = up.node.TransferLeadership(t.Context(), 0) }()
				}
				time.Sleep(time.Duration(r.IntN(400)) * time.Millisecond)
			}
			time.Sleep(3 * time.Second) // slow disks and partitions are over
			for _, id := range ids(members) {
				if g.running[id] == nil {
					g.start(id, nil)
				}
			}
			for <-g.leader().propose("after")[0] != applied {
				time.Sleep(10 * time.Millisecond) // a handover is under way
			}
			g.settle("all agree", nil)
			for _, id := range ids(members) {
				g.halt(id)
			}
		})
	}
}

func ids(n int) []uint64 {
	var out []uint64
	for id := range uint64(n) {
		out = append(out, id+1)
	}
	return out
}

func TestAMemberTellsWhatItKnows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 3, nil)
		g.apply(numbered(1, 10)...)
		g.settle("all have it", nil)
		time.Sleep(time.Second)
		s := g.leader().node.Status()
		for id, r := range g.running {
			got := map[uint64][2]uint64{}
			for _, h := range r.node.Had() {
				got[h.GetMember()] = [2]uint64{h.GetTerm(), h.GetIndex()}
			}
			for _, other := range ids(3) {
				if want := [2]uint64{s.Term, s.LastIndex}; got[other] != want && other != id {
					t.Errorf("member %d knows that %d had %v, want %v", id, other, got[other], want)
				}
			}
		}
		g.halt(1)
		g.start(1, nil)
		time.Sleep(time.Second)
		known := slices.IndexFunc(g.running[1].node.Had(), func(h *skep.Had) bool { return h.GetMember() == 3 })
		if known < 0 {
			t.Error("a member that was started again has not been told of the third")
		}
	})
}
