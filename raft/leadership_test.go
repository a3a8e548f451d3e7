package raft

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/model"
	"skep/vfs"
)

// listener writes down what a state machine hears. It can be made to wait in Apply.
type listener struct {
	mu    sync.Mutex
	story []string
	hold  chan struct{}
}

func (l *listener) hear(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.story = append(l.story, fmt.Sprintf(format, args...))
}

// heard returns what was heard since the last time.
func (l *listener) heard() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	story := l.story
	l.story = nil
	return story
}

func (l *listener) Apply(entries []Entry) error {
	l.mu.Lock()
	hold := l.hold
	l.mu.Unlock()
	if hold != nil {
		<-hold
	}
	for _, e := range entries {
		l.hear("apply %s", e.Data)
	}
	return nil
}

func (l *listener) Refused(data [][]byte) {
	for _, d := range data {
		l.hear("refuse %s", d)
	}
}

func (l *listener) Applied(_, _ uint64)         {}
func (l *listener) Lead(term uint64)            { l.hear("lead") }
func (l *listener) Follow()                     { l.hear("follow") }
func (l *listener) End()                        {}
func (l *listener) Snapshot() (Snapshot, error) { return nil, errors.New("no snapshots here") }
func (l *listener) Restore(io.Reader) error     { return errors.New("no snapshots here") }

// listen runs a node that leads, on a slow disk, and returns it with what it hears.
func listen(t *testing.T) (*Node, *listener) {
	t.Helper()
	l := &listener{}
	m := vfs.NewMem()
	n, err := New(Config{FS: m, Dir: "raft", Key: [32]byte{1}, NodeID: "node", StateMachine: l})
	if err != nil {
		t.Fatal(err)
	}
	n.maxUncommitted = 100
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
	wantHeard(t, l, "lead")
	m.Inject(vfs.Rule{Op: vfs.OpSync, Delay: 50 * time.Millisecond})
	return n, l
}

func wantHeard(t *testing.T, l *listener, want ...string) {
	t.Helper()
	if got := l.heard(); !slices.Equal(got, want) {
		t.Errorf("it heard %q, want %q", got, want)
	}
}

// depose has another member, which leads in a later term, send an entry that follows
// what is committed, in place of what is not.
func depose(n *Node, data string) {
	s := n.Status()
	entry := &raftpb.Entry{Index: new(s.Commit + 1), Term: new(s.Term + 5), Data: []byte(data)}
	n.events.put(event{msg: &raftpb.Message{
		Type: raftpb.MsgApp.Enum(), From: new(uint64(99)), To: new(n.id), Term: new(s.Term + 5),
		Index: new(s.Commit), LogTerm: new(s.Term), Commit: new(s.Commit + 1), Entries: []*raftpb.Entry{entry},
	}})
}

func TestLostLeadershipIsToldBeforeAnythingOfTheNextLeader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, l := listen(t)
		n.Propose([][]byte{[]byte("lost")})
		synctest.Wait()
		depose(n, "theirs")
		synctest.Wait()
		wantHeard(t, l, "follow")
		n.Propose([][]byte{[]byte("late")})
		synctest.Wait()
		wantHeard(t, l, "refuse late")
		time.Sleep(time.Second / 2)
		wantHeard(t, l, "apply theirs")
		// The other one is silent from here on, and alone decides who is the only voter.
		time.Sleep(5 * time.Second)
		wantHeard(t, l, "lead")
		n.Propose([][]byte{[]byte("own")})
		time.Sleep(time.Second)
		wantHeard(t, l, "apply own")
	})
}

func TestWhatWasBuiltOnALostTermIsRefusedInTheNext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, l := listen(t)
		l.mu.Lock()
		l.hold = make(chan struct{})
		l.mu.Unlock()
		n.Propose([][]byte{[]byte("slow")})
		time.Sleep(time.Second / 2) // it is committed, and its Apply does not return
		depose(n, "theirs")
		synctest.Wait()
		// The state machine does not know yet. What it proposes now may rest on what is lost.
		n.Propose([][]byte{[]byte("stale")})
		time.Sleep(5 * time.Second)
		wantHeard(t, l, "refuse stale")
		n.Propose([][]byte{[]byte("stale too")}) // raft leads again
		synctest.Wait()
		if s := n.Status(); s.Leader != s.ID {
			t.Errorf("the leader is %x, want it to lead again", s.Leader)
		}
		wantHeard(t, l, "refuse stale too")
		l.mu.Lock()
		close(l.hold)
		l.hold = nil
		l.mu.Unlock()
		synctest.Wait()
		wantHeard(t, l, "apply slow", "follow", "apply theirs", "lead")
	})
}

func TestMoreThanRaftMayHoldWaitsInOrderAndIsNotRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, l := listen(t)
		var want []string
		for i := range 20 {
			data := fmt.Sprint(i, strings.Repeat("x", i*15)) // some are too large by themselves
			want = append(want, "apply "+data)
			n.Propose([][]byte{[]byte(data)})
		}
		synctest.Wait()
		if s := n.Status(); s.LastIndex > s.Commit+10 {
			t.Errorf("raft holds %d entries at once", s.LastIndex-s.Commit)
		}
		time.Sleep(5 * time.Second)
		wantHeard(t, l, want...)
	})
}

func TestAReadThatWaitsSurvivesALossOfLeadership(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, _ := listen(t)
		depose(n, "theirs")
		synctest.Wait()
		if n.readable.Load() != 0 {
			t.Error("a member that was deposed answers reads by itself")
		}
		began := time.Now()
		index, err := n.ReadIndex(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if s := n.Status(); index < s.Commit || s.Leader != s.ID || time.Since(began) == 0 {
			t.Errorf("the read got %d after %s, with the status %+v", index, time.Since(began), s)
		}
	})
}

func TestMembersComeChangeAndGo(t *testing.T) {
	t.Parallel()
	change := func(typ raftpb.ConfChangeType, id uint64, addr string) *raftpb.ConfChange {
		context, err := proto.Marshal(&api.RaftMember{RaftId: id, NodeId: fmt.Sprint("node", id), Addr: addr})
		if err != nil {
			t.Fatal(err)
		}
		return &raftpb.ConfChange{Type: typ.Enum(), NodeId: &id, Context: context}
	}
	m := membership{conf: &raftpb.ConfState{}}
	for _, c := range []struct {
		change *raftpb.ConfChange
		want   string
	}{
		{change(raftpb.ConfChangeAddNode, 5, "a"), "5 node5 a; removed []"},
		{change(raftpb.ConfChangeAddLearnerNode, 3, "b"), "3 node3 b, 5 node5 a; removed []"},
		{change(raftpb.ConfChangeUpdateNode, 5, "c"), "3 node3 b, 5 node5 c; removed []"},
		{change(raftpb.ConfChangeRemoveNode, 3, ""), "5 node5 c; removed [3]"},
		{change(raftpb.ConfChangeRemoveNode, 3, ""), "5 node5 c; removed [3]"},
	} {
		before := m
		next, err := m.apply(c.change, &raftpb.ConfState{Voters: []uint64{5}})
		if err != nil {
			t.Fatal(err)
		}
		m = next
		var all []string
		for _, member := range m.members {
			all = append(all, fmt.Sprintf("%d %s %s", member.GetRaftId(), member.GetNodeId(), member.GetAddr()))
		}
		if got := fmt.Sprintf("%s; removed %v", strings.Join(all, ", "), m.removed); got != c.want {
			t.Errorf("after %s of %d: %q, want %q", c.change.GetType(), c.change.GetNodeId(), got, c.want)
		}
		if len(before.members) > 0 && &before.members[0] == &m.members[0] {
			t.Error("a change altered the membership before it")
		}
	}
	if !m.onlyVoter(5) || m.onlyVoter(3) {
		t.Error("5 is the only voter")
	}
	if _, err := m.apply(&raftpb.ConfChange{NodeId: new(uint64(9)), Context: []byte{255}}, nil); err == nil {
		t.Error("a member that cannot be read is taken")
	}
}

func TestAMixedGroupKeepsToWhatStockManagersKnow(t *testing.T) {
	t.Parallel()
	base := Config{FS: vfs.NewMem(), Dir: "raft", Key: [32]byte{1}, StateMachine: &listener{}}
	native, err := base.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	base.Group = Mixed
	mixed, err := base.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	if native.Tick != 80*time.Millisecond || mixed.Tick != time.Second {
		t.Errorf("the ticks are %s and %s, want 80ms and 1s", native.Tick, mixed.Tick)
	}
	n, m := native.options(1, nil, 0), mixed.options(1, nil, 0)
	if !n.PreVote || m.PreVote {
		t.Errorf("PreVote is %t and %t, want it in a native group only", n.PreVote, m.PreVote)
	}
	if m.MaxSizePerMsg != 65535 || m.MaxInflightMsgs != 256 {
		t.Errorf("a mixed group sends %d bytes and %d messages ahead", m.MaxSizePerMsg, m.MaxInflightMsgs)
	}
	for _, o := range []bool{n.CheckQuorum, m.CheckQuorum, n.DisableProposalForwarding, m.DisableProposalForwarding, n.AsyncStorageWrites, m.AsyncStorageWrites} {
		if !o {
			t.Errorf("an option that every group has is off: %+v %+v", n, m)
		}
	}
}

func TestReadsThatWereGivenUpAreForgotten(t *testing.T) {
	t.Parallel()
	n := &Node{cfg: Config{ElectionTicks: 10}, events: newMailbox[event](), done: make(chan struct{})}
	l := &loop{Node: n}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for round := range uint64(3) {
		for range 100 {
			if _, err := n.ReadIndex(ctx); model.KindOf(err) != model.Unavailable {
				t.Fatalf("got %v, want it to be unavailable", err)
			}
		}
		for _, e := range n.events.take() {
			if err := l.step(e); err != nil {
				t.Fatal(err)
			}
		}
		if round == 1 { // those of the second round were asked of a leader that is silent
			l.reads.asked = map[uint64][]read{round: l.reads.waiting}
			l.reads.waiting = nil
		}
		l.tickReads()
		if len(l.reads.waiting)+len(l.reads.asked) != 0 {
			t.Errorf("round %d: %d calls wait and %d rounds are asked, want none", round, len(l.reads.waiting), len(l.reads.asked))
		}
	}
}
