package transport_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc"

	"skep/api"
	"skep/api/skep"
	"skep/raft/transport"
)

// pair is two managers that know each other, and have connections.
func pair(t *testing.T) (*network, *manager, *manager) {
	t.Helper()
	n := newNetwork(t)
	a, b := n.start(t, 1), n.start(t, 2)
	know(a, b)
	synctest.Wait()
	if !a.sees(2) || !b.sees(1) {
		t.Fatal("there is no connection")
	}
	return n, a, b
}

func TestMessagesArriveInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		var want []string
		for i := range uint64(5000) {
			a.tr.Send([]*raftpb.Message{a.message(raftpb.MsgApp, b, i)})
			want = append(want, fmt.Sprintf("1:%d", i))
		}
		synctest.Wait()
		if got := b.messages(); !slices.Equal(got, want) {
			t.Errorf("%d messages, want %d, all in order", len(got), len(want))
		}
		b.tr.Send([]*raftpb.Message{b.message(raftpb.MsgAppResp, a, 7)})
		synctest.Wait()
		if got := a.messages(); !slices.Equal(got, []string{"2:7"}) {
			t.Errorf("back: %v", got)
		}
	})
}

func TestWhatIsKnownOfOthersIsToldBeforeAnyMessageAndWhenItIsNew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		a, b := n.start(t, 1), n.start(t, 2)
		knows := func(m *manager, index uint64) {
			m.set(func() { m.had = []*skep.Had{{Member: 2, Term: 3, Index: index}} })
		}
		knows(a, 4)
		know(a)
		b.knows(a.member(), b.member())
		b.tr.Send([]*raftpb.Message{b.message(raftpb.MsgVote, a, 1)})
		synctest.Wait()
		a.knows(a.member(), b.member())
		synctest.Wait()
		// b connected, and was answered; then a did. Neither had heard a message before.
		for range 5000 { // however often it is said
			knows(a, 5)
			a.tr.Tell()
		}
		synctest.Wait()
		b.tr.Send([]*raftpb.Message{b.message(raftpb.MsgVote, a, 2)})
		synctest.Wait()
		n.cut("host2")
		time.Sleep(time.Second)
		synctest.Wait()
		if len(a.told) == 0 || a.told[0] != "2 after 0:" {
			t.Errorf("the first was told %q, want that the other knows nothing, before its message", a.told)
		}
		first, last := b.told[0], b.told[len(b.told)-1]
		if first != "1 after 0: 2=3/4" || last != "1 after 0: 2=3/5" || len(b.told) > 20 {
			t.Errorf("the second was told %q", b.told)
		}
	})
}

func TestABrokenConnectionIsMadeAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t)
		n.cut("host2")
		time.Sleep(time.Second)
		synctest.Wait()
		if !a.sees(2) || a.lost == 0 {
			t.Fatalf("reachable %v, lost %d", a.sees(2), a.lost)
		}
		a.tr.Send([]*raftpb.Message{a.message(raftpb.MsgHeartbeat, b, 9)})
		synctest.Wait()
		if got := b.messages(); !slices.Equal(got, []string{"1:9"}) {
			t.Errorf("got %v", got)
		}
	})
}

func TestASilentConnectionIsNoticedWithinAnElectionAndReplaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t)
		n.set(func() { n.dead["host2"] = true })
		time.Sleep(1300 * time.Millisecond) // half an election until it is asked, one without an answer
		synctest.Wait()
		if a.sees(2) {
			t.Fatal("a dead connection still counts")
		}
		time.Sleep(20 * time.Second)
		n.set(func() { n.dead["host2"] = false })
		time.Sleep(time.Second)
		synctest.Wait()
		if !a.sees(2) {
			t.Fatal("a second after the network is back there is no connection")
		}
		a.tr.Send([]*raftpb.Message{a.message(raftpb.MsgVote, b, 9)})
		synctest.Wait()
		if got := b.messages(); !slices.Equal(got, []string{"1:9"}) {
			t.Errorf("got %v", got)
		}
	})
}

func TestASnapshotArrives(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		data := a.holds(10, 3<<20+17)
		a.tr.Send([]*raftpb.Message{a.snapshotMessage(b, 9)})
		synctest.Wait()
		if len(b.whole) != 1 || !slices.Equal(b.whole[0], data) {
			t.Fatalf("%d snapshots", len(b.whole))
		}
		if !slices.Equal(a.reports, []string{"2 true"}) {
			t.Errorf("reports: %v", a.reports)
		}
	})
}

func TestAMemberThatIsRemovedLosesItsConnectionAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		// b hears of it first: a's stream stands, and its next message is refused.
		b.set(func() { b.removed = []uint64{1}; b.members = b.members[1:] })
		a.tr.Send([]*raftpb.Message{a.message(raftpb.MsgHeartbeat, b, 9)})
		synctest.Wait()
		if got := b.messages(); len(got) > 0 {
			t.Errorf("of a removed member came %v", got)
		}
		if a.gone == 0 {
			t.Error("a removed member was not told")
		}
		b.tr.SetMembers(b.members)
		synctest.Wait()
		if b.tr.Reachable(1) {
			t.Error("there is a connection to a removed member")
		}
	})
}

func TestSendNeverWaitsAndReportsWhatItDrops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t)
		n.set(func() { n.dead["host2"] = true })
		before, began := a.lost, time.Now()
		for i := range uint64(20_000) {
			a.tr.Send([]*raftpb.Message{a.message(raftpb.MsgApp, b, i)})
		}
		if time.Since(began) > 0 {
			t.Errorf("it took %s", time.Since(began))
		}
		if a.lost == before {
			t.Error("what was dropped was not reported")
		}
		huge := a.message(raftpb.MsgApp, b, 1)
		huge.Entries = []*raftpb.Entry{{Data: make([]byte, 5<<20)}}
		before = a.lost
		a.tr.Send([]*raftpb.Message{huge})
		if a.lost == before {
			t.Error("a message that nobody takes was not reported")
		}
	})
}

func TestHeartbeatsDoNotStarveBehindEntriesAndASnapshotOnASlowLink(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t)
		n.set(func() { n.rate = 128 << 10 }) // one Mbit/s
		var last time.Time
		var worst time.Duration
		beats := 0
		b.stepped = func(m *raftpb.Message) {
			if m.GetType() == raftpb.MsgHeartbeat {
				if beats++; beats > 1 {
					worst = max(worst, time.Since(last))
				}
				last = time.Now()
			}
		}
		data := a.holds(10, 1<<20)
		a.tr.Send([]*raftpb.Message{a.snapshotMessage(b, 9)})
		for i := range uint64(250) { // 20 s
			if i < 50 { // 16 KB each
				m := a.message(raftpb.MsgApp, b, i)
				m.Entries = []*raftpb.Entry{{Data: make([]byte, 16<<10)}}
				a.tr.Send([]*raftpb.Message{m})
			}
			a.tr.Send([]*raftpb.Message{a.message(raftpb.MsgHeartbeat, b, i)})
			time.Sleep(80 * time.Millisecond)
		}
		synctest.Wait()
		if beats < 100 || worst > 1600*time.Millisecond {
			t.Errorf("%d heartbeats, %s between two of them", beats, worst)
		}
		if !a.sees(2) || a.lost > 0 {
			t.Errorf("a link that is slow was taken for a broken one: lost %d", a.lost)
		}
		if len(b.whole) != 1 || !slices.Equal(b.whole[0], data) {
			t.Errorf("%d snapshots", len(b.whole))
		}
	})
}

func TestAMemberThatMovedIsFoundAtTheAddressThatItsGroupSays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t)
		b.serve("elsewhere", b.services...)
		a.knows(a.member(), &api.RaftMember{RaftId: 2, NodeId: "node2", Addr: "elsewhere"})
		synctest.Wait()
		a.tr.Send([]*raftpb.Message{a.message(raftpb.MsgHeartbeat, b, 9)})
		synctest.Wait()
		if got := b.messages(); !slices.Equal(got, []string{"1:9"}) || n.dials["elsewhere"] != 1 {
			t.Errorf("got %v, dialed %v", got, n.dials)
		}
	})
}

func TestWhoeverAnswersInAMembersPlaceGetsNothingAndAnotherMemberIsAsked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		a, b, c := n.start(t, 1), n.start(t, 2), n.start(t, 3)
		know(a, b, c)
		// a believes that b is where c is; c knows better.
		a.knows(a.member(), &api.RaftMember{RaftId: 2, NodeId: "node2", Addr: "host3"}, c.member())
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if !a.sees(2) {
			t.Fatal("the member was not found")
		}
		a.tr.Send([]*raftpb.Message{a.message(raftpb.MsgVote, b, 9)})
		synctest.Wait()
		if got := b.messages(); !slices.Equal(got, []string{"1:9"}) {
			t.Errorf("the member got %v", got)
		}
		if got := c.messages(); len(got) > 0 {
			t.Errorf("the one in its place got %v", got)
		}
	})
}

func TestAMemberThatIsAwayIsTriedAtOnceWhenThereIsAMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t)
		b.stopped()
		time.Sleep(30 * time.Second) // until the pauses are long
		synctest.Wait()
		b2 := n.start(t, 2)
		know(a, b2)
		a.tr.Send([]*raftpb.Message{a.message(raftpb.MsgVote, b, 9)})
		time.Sleep(200 * time.Millisecond)
		a.tr.Send([]*raftpb.Message{a.message(raftpb.MsgVote, b, 10)})
		synctest.Wait()
		got := b2.messages()
		if len(got) == 0 || got[len(got)-1] != "1:10" {
			t.Errorf("got %v", got)
		}
	})
}

func TestStateHashesAreAnnounced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		a.tr.Announce(5, []byte("abc"))
		a.tr.Announce(6, []byte("def"))
		synctest.Wait()
		if !slices.Equal(b.hashes, []string{"1 5 abc", "1 6 def"}) {
			t.Errorf("got %v", b.hashes)
		}
	})
}

func TestATransportNeedsAHostAndRunsOnce(t *testing.T) {
	t.Parallel()
	if _, err := transport.New(transport.Config{}); err == nil {
		t.Error("without a way to dial there is a transport")
	}
	synctest.Test(t, func(t *testing.T) {
		_, a, _ := pair(t)
		if a.tr.Run(t.Context()) == nil {
			t.Error("it ran twice")
		}
		lonely, err := transport.New(transport.Config{Dial: func(string) (*grpc.ClientConn, error) { return nil, errors.ErrUnsupported }})
		if err != nil || lonely.Run(t.Context()) == nil {
			t.Errorf("it ran for nobody: %v", err)
		}
	})
}

func TestALeaderThatIsNoMemberYetIsAnswered(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		before *api.RaftMember // what the one that was away knows of the leader's node
		others bool            // it reaches another one, who knows all
	}{
		"the leader is new":                        {nil, true},
		"the leader was another member, and there": {&api.RaftMember{RaftId: 33, NodeId: "node3", Addr: "host3"}, false},
		"the leader was another member elsewhere":  {&api.RaftMember{RaftId: 33, NodeId: "node3", Addr: "elsewhere"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(t)
				away, other, leader := n.start(t, 1), n.start(t, 2), n.start(t, 3)
				all := []*api.RaftMember{away.member(), other.member(), leader.member()}
				other.knows(all...)
				leader.knows(all...)
				known := []*api.RaftMember{away.member()}
				if test.others {
					known = append(known, other.member())
				}
				if test.before != nil {
					known = append(known, test.before)
				}
				away.knows(known...)
				synctest.Wait()
				leader.tr.Send([]*raftpb.Message{leader.message(raftpb.MsgHeartbeat, away, 0)})
				time.Sleep(2 * time.Second)
				away.tr.Send([]*raftpb.Message{away.message(raftpb.MsgAppResp, leader, 5)})
				synctest.Wait()
				if got := leader.messages(); !slices.Contains(got, "1:5") {
					t.Fatalf("the leader heard %v, want an answer", got)
				}
				away.knows(known...) // what it applies tells of others first
				dials := 0
				n.set(func() { dials = n.dials["host3"] })
				away.set(func() { delete(away.reachable, 3) })
				away.knows(all...)
				away.tr.Send([]*raftpb.Message{away.message(raftpb.MsgAppResp, leader, 6)})
				synctest.Wait()
				if got := leader.messages(); !slices.Contains(got, "1:6") || !away.sees(3) {
					t.Errorf("once it is a member it heard %v, and is seen: %t", got, away.sees(3))
				}
				n.set(func() {
					if n.dials["host3"] != dials {
						t.Error("the connection was made again when the leader became a member")
					}
				})
			})
		})
	}
}
