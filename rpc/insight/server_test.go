package insight_test

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/api/skep"
	"skep/internal/badinput"
	"skep/raft"
	"skep/rpc/insight"
	"skep/store"
)

// serve returns a server over a store that holds what s draws.
func serve(t testing.TB, s swarm) *insight.Server {
	t.Helper()
	db := store.NewLocal(store.Config{Now: now, Freeze: true})
	err := db.Update(t.Context(), func(tx *store.Tx) error {
		for _, n := range s.nodes {
			if err := tx.Create(proto.CloneOf(n)); err != nil {
				return err
			}
		}
		return tx.Create(proto.CloneOf(s.cluster))
	})
	if err != nil {
		t.Fatal(err)
	}
	return insight.New(insight.Config{Store: db, ClusterID: s.cluster.Id, Raft: func() insight.Raft { return s.raft }, Now: now, Changed: func() <-chan struct{} { return nil }})
}

func TestTheServerAnswersFromItsStoreAndRaft(t *testing.T) {
	t.Parallel()
	s := draw(t, "swarm rotating\na leader\nb voter\nc voter\nd promoted")
	s.cluster.RootCa.CaKey, s.cluster.RootCa.JoinTokens = []byte("KEY"), &api.JoinTokens{Worker: "TOKEN", Manager: "TOKEN"}
	s.cluster.UnlockKeys = []*api.EncryptionKey{{Key: []byte("KEY")}}
	r, err := serve(t, s).ClusterHealth(t.Context(), &skep.ClusterHealthRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if r.Verdict != "The swarm can lose 1 of its 3 managers." || len(r.Managers) != 3 || r.RootRotation.GetNodes() != 4 {
		t.Errorf("got %v, want three managers and four nodes", r)
	}
	// "KEY" is "S0VZ" in base64.
	if text := protojson.Format(r); containsAny(text, "TOKEN", "S0VZ", "KEY") {
		t.Errorf("a secret is in the answer: %s", text)
	}
}

func TestNoRequestBreaksTheServer(t *testing.T) {
	t.Parallel()
	s := draw(t, "a leader\nb voter\nc voter")
	badinput.Try(t, &skep.Insight_ServiceDesc, func(t testing.TB) badinput.Server {
		return badinput.Server{Impl: serve(t, s), State: func() string { return "" }}
	}, []proto.Message{&skep.ClusterHealthRequest{}}, func(err error) bool { return err == nil })
}

func containsAny(text string, words ...string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(text, w) })
}

// group is a view of raft that changes.
type group struct {
	mu      sync.Mutex
	raft    insight.Raft
	changed chan struct{}
}

func (g *group) now() insight.Raft {
	g.mu.Lock()
	defer g.mu.Unlock()
	raft := g.raft
	raft.Members = slices.Clone(raft.Members)
	return raft
}

func (g *group) next() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.changed
}

func (g *group) turn(i int, reachability api.RaftMemberStatus_Reachability) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.raft.Members[i].Reachability = reachability
	close(g.changed)
	g.changed = make(chan struct{})
}

func TestTheLeaderRemembersSinceWhenItHasLostAManager(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := draw(t, "a leader\nb voter\nc voter")
		g := &group{raft: s.raft, changed: make(chan struct{})}
		server := insight.New(insight.Config{Store: store.NewLocal(store.Config{Now: time.Now}), ClusterID: "cluster", Raft: g.now, Changed: g.next, Now: time.Now})
		since := func() time.Time {
			r, err := server.ClusterHealth(t.Context(), &skep.ClusterHealthRequest{})
			if err != nil || len(r.Managers) != 3 {
				t.Fatalf("got %v, %v", r, err)
			}
			if at := r.Managers[2].UnreachableSince; at != nil {
				return at.AsTime()
			}
			return time.Time{}
		}
		lead := func() (stop func()) {
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() {
				if err := server.Run(ctx); err != nil {
					t.Error(err)
				}
			})
			return func() { cancel(); wg.Wait() }
		}
		stop := lead()
		time.Sleep(time.Minute)
		lost := time.Now()
		g.turn(2, api.RaftMemberStatus_UNREACHABLE)
		time.Sleep(time.Hour)
		if got := since(); !got.Equal(lost) {
			t.Errorf("unreachable since %s, want %s", got, lost)
		}
		g.turn(2, api.RaftMemberStatus_REACHABLE)
		synctest.Wait()
		if got := since(); !got.IsZero() {
			t.Errorf("unreachable since %s, want that it is reachable", got)
		}
		g.turn(2, api.RaftMemberStatus_UNREACHABLE)
		synctest.Wait()
		stop()
		// Whoever leads anew knows nothing of before.
		time.Sleep(time.Hour)
		defer lead()()
		synctest.Wait()
		if got := since(); !got.Equal(time.Now()) {
			t.Errorf("unreachable since %s, want since %s, when it was seen again", got, time.Now())
		}
	})
}

func TestWhatRaftSaysIsTakenAsItIs(t *testing.T) {
	t.Parallel()
	member := func(id uint64, r api.RaftMemberStatus_Reachability) *api.RaftMember {
		return &api.RaftMember{RaftId: id, NodeId: fmt.Sprint("n", id), Addr: fmt.Sprint("a", id), Status: &api.RaftMemberStatus{Reachability: r, Leader: id == 7}}
	}
	got := insight.RaftOf(raft.Status{
		ID: 7, Leader: 7, Term: 4, Applied: 90, Commit: 91, LastIndex: 95, Learners: []uint64{9}, Match: map[uint64]uint64{8: 80, 9: 3},
		Members: []*api.RaftMember{member(7, api.RaftMemberStatus_REACHABLE), member(8, api.RaftMemberStatus_UNREACHABLE), member(9, api.RaftMemberStatus_REACHABLE)},
	})
	want := insight.Raft{Leader: 7, Term: 4, Commit: 91, Members: []insight.Member{
		{RaftID: 7, NodeID: "n7", Addr: "a7", Reachability: api.RaftMemberStatus_REACHABLE, Match: 95},
		{RaftID: 8, NodeID: "n8", Addr: "a8", Reachability: api.RaftMemberStatus_UNREACHABLE, Match: 80},
		{RaftID: 9, NodeID: "n9", Addr: "a9", Learner: true, Reachability: api.RaftMemberStatus_REACHABLE, Match: 3},
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}
