package transport_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// pair is two managers that know each other, and have connections.
func pair(t *testing.T) (*network, *manager, *manager) {
	t.Helper()
	n := newNetwork()
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
