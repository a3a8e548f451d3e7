package rpc

import (
	"strings"
	"testing"
	"time"

	"skep/api"
	"skep/ca"
	"skep/model"
	"skep/store"
)

func TestOnlyWhoKnowsAllNodesSaysThatOneWasRemoved(t *testing.T) {
	t.Parallel()
	s := newSwarm(t)
	s.write(t, func(tx *store.Tx) error {
		return tx.Create(&api.Resource{Id: "gone", Kind: model.RemovedNodeKind, Annotations: &api.Annotations{Name: "gone"}})
	})
	tests := map[string]struct {
		leader  LeaderInfo
		node    string
		removed bool // it is said that it was
	}{
		"the leader, of one it does not know":    {LeaderInfo{Self: true}, "new", true},
		"a follower, of one it does not know":    {LeaderInfo{NodeID: "other", Addr: "h"}, "new", false},
		"without a leader, of one it knows not":  {LeaderInfo{}, "new", false},
		"a follower, of one it knows is removed": {LeaderInfo{NodeID: "other", Addr: "h"}, "gone", true},
	}
	for name, test := range tests {
		l := &term{leader: test.leader}
		srv := &server{cfg: Config{Authorizer: NewMembers(s.store, org), Now: time.Now, Leadership: l}}
		_, err := srv.member(Identity{NodeID: test.node, Org: org, Roles: []string{ca.ManagerOU}})
		if model.KindOf(err) != model.Denied || strings.Contains(err.Error(), "was removed from the swarm") != test.removed {
			t.Errorf("%s: it is told %v; that it was removed: want %t", name, err, test.removed)
		}
	}
}
