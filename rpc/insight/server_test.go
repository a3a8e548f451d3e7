package insight_test

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/api/skep"
	"skep/internal/badinput"
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
	return insight.New(insight.Config{Store: db, ClusterID: s.cluster.Id, Raft: func() insight.Raft { return s.raft }, Now: now})
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
