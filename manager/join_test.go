package manager

import (
	"slices"
	"testing"

	"skep/api"
	"skep/raft"
)

// Whoever has moved often does not know who leads: what the leader sends goes to the old
// address. So it asks all.
func TestAManagerThatMovedAsksTheLeaderFirstAndThenTheOthers(t *testing.T) {
	t.Parallel()
	members := []*api.RaftMember{{RaftId: 1, Addr: "a"}, {RaftId: 2, Addr: "b"}, {RaftId: 3, Addr: "c"}}
	for _, c := range []struct {
		id, leader uint64
		itself     string
		others     []string
	}{
		{1, 3, "a", []string{"c", "b"}},
		{1, 0, "a", []string{"b", "c"}},
		{2, 2, "b", []string{"a", "c"}},
		{4, 1, "", []string{"a", "b", "c"}},
	} {
		itself, others := addresses(raft.Status{ID: c.id, Leader: c.leader, Members: members})
		if itself != c.itself || !slices.Equal(others, c.others) {
			t.Errorf("member %d, led by %d, is at %q and asks %q; want %q and %q", c.id, c.leader, itself, others, c.itself, c.others)
		}
	}
}
