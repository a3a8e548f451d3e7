package transport_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"skep/api"
	"skep/raft/transport"
)

func at(addr string) option { return func(m *manager, _ *transport.Config) { m.addr = addr } }

func told(addrs ...string) option {
	return func(_ *manager, cfg *transport.Config) { cfg.Elsewhere = func() []string { return addrs } }
}

// Fault 46: members' addresses change while they are down, and nobody writes that down, since
// that takes a majority whose members reach each other. They are found by whatever one of them
// says or sees, and nothing gets to one in another's place.
func TestMembersThatMovedFindEachOtherAndNobodyElse(t *testing.T) {
	t.Parallel()
	const records = 3 // host1 to host3, at port 1
	for _, c := range []struct {
		name   string
		places [records]string
		told   [records][]string
		apart  bool
	}{
		{name: "one moved", places: [records]string{"new1:1", "host2:1", "host3:1"}},
		{name: "two of three moved", places: [records]string{"new1:1", "new2:1", "host3:1"}},
		{name: "one is where another was, which moved", places: [records]string{"host2:1", "new2:1", "host3:1"}},
		{name: "two are in each other's place", places: [records]string{"host2:1", "host1:1", "host3:1"}},
		{name: "all three are in the next one's place", places: [records]string{"host2:1", "host3:1", "host1:1"}},
		{
			name: "all three moved, and each of two is told of one", places: [records]string{"new1:1", "new2:1", "new3:1"},
			told: [records][]string{{"new2:1"}, nil, {"new1:1"}},
		},
		{
			name: "all three moved, and one is told of the others, with one address that leads nowhere", places: [records]string{"new1:1", "new2:1", "new3:1"},
			told: [records][]string{nil, {"nowhere:1", "new1:1", "new3:1"}, nil},
		},
		{
			name: "all three moved, and nobody is told of anybody", places: [records]string{"new1:1", "new2:1", "new3:1"},
			apart: true,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(t)
				var all []*manager
				var members []*api.RaftMember
				for i := range records {
					id := uint64(i + 1) //nolint:gosec // small
					m := n.start(t, id, at(c.places[i]), told(c.told[i]...))
					all = append(all, m)
					members = append(members, &api.RaftMember{RaftId: id, NodeId: m.node, Addr: fmt.Sprintf("host%d:1", id)})
				}
				for _, m := range all {
					m.knows(members...)
				}
				time.Sleep(10 * time.Second)
				synctest.Wait()
				for _, from := range all {
					for _, to := range all {
						if from == to {
							continue
						}
						if got := from.tr.Reachable(to.id); got == c.apart {
							t.Errorf("%d reaches %d: %v, want %v", from.id, to.id, got, !c.apart)
						}
						from.tr.Send([]*raftpb.Message{from.message(raftpb.MsgHeartbeat, to, 10*from.id+to.id)})
					}
				}
				if c.apart {
					return
				}
				synctest.Wait()
				for i, m := range all {
					var want []string
					for _, from := range all {
						if from != m {
							want = append(want, fmt.Sprintf("%d:%d", from.id, 10*from.id+m.id))
						}
					}
					got := m.messages()
					slices.Sort(got)
					if !slices.Equal(got, want) {
						t.Errorf("%d got %v, not %v", m.id, got, want)
					}
					for _, other := range all {
						if addr := other.tr.Address(m.id); addr != c.places[i] {
							t.Errorf("%d reaches %d at %q, not at %s", other.id, m.id, addr, c.places[i])
						}
					}
				}
			})
		})
	}
}

// Fault 46: what a member says of itself holds until the group agrees on an address for it.
func TestTheRecordOfTheGroupOutdatesWhatAMemberSaid(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		a, b := n.start(t, 1, at("host1:1")), n.start(t, 2, at("said:1"))
		record := &api.RaftMember{RaftId: 2, NodeId: "node2", Addr: "host2:1"}
		a.knows(a.member(), record)
		b.knows(a.member(), record)
		time.Sleep(3 * time.Second)
		if addr := a.tr.Address(2); addr != "said:1" {
			t.Fatalf("the member is reached at %q, not where it said", addr)
		}
		b.serve("agreed:1", b.services...)
		a.knows(a.member(), &api.RaftMember{RaftId: 2, NodeId: "node2", Addr: "agreed:1"})
		time.Sleep(3 * time.Second)
		if addr := a.tr.Address(2); addr != "agreed:1" {
			t.Errorf("the member is reached at %q, not where the group agreed", addr)
		}
	})
}

// Fault 46: a member may say what it likes: where another one answers nothing is sent, and where
// the group has it it is reached all the same.
func TestAMemberThatSaysItIsWhereAnotherIsGetsNobodyToTalkToThatOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		a, b, c := n.start(t, 1, at("host1:1")), n.start(t, 2, at("host2:1")), n.start(t, 3, at("host3:1"))
		know(a, b, c)
		n.cut("host2:1")
		a.tr.Found(2, "host3:1")
		time.Sleep(3 * time.Second)
		a.tr.Send([]*raftpb.Message{a.message(raftpb.MsgHeartbeat, b, 9)})
		synctest.Wait()
		if got := b.messages(); !slices.Equal(got, []string{"1:9"}) || a.tr.Address(2) != "host2:1" {
			t.Errorf("the member, reached at %q, got %v", a.tr.Address(2), got)
		}
		if got := c.messages(); len(got) > 0 {
			t.Errorf("the one in its place got %v", got)
		}
	})
}

func TestAMemberWhoseQueueWasFullIsReachableAgainWithItsNextAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		synctest.Wait()
		before := a.lost
		var messages []*raftpb.Message
		for i := range uint64(20_000) {
			messages = append(messages, a.message(raftpb.MsgApp, b, i))
		}
		a.tr.Send(messages)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if a.lost == before || !a.sees(2) {
			t.Errorf("reported lost %d times, and reachable after that: %v; want at least once, and true", a.lost-before, a.sees(2))
		}
	})
}
