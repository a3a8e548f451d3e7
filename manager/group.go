package manager

import (
	"context"

	"skep/api"
	"skep/control/rotator"
	"skep/raft"
	"skep/rpc/raftserver"
)

// group is the raft group as those see it who change its members. Before this manager has
// joined it has none.
type group struct{ m *Manager }

var (
	_ rotator.Raft     = group{}
	_ raftserver.Group = group{}
)

func (g group) status() raft.Status {
	if node := g.m.raft.Load(); node != nil {
		return node.Status()
	}
	return raft.Status{}
}

// ID is the raft id of this manager.
func (g group) ID() uint64 { return g.status().ID }

// Members are all members, with what is known of each.
func (g group) Members() []*api.RaftMember { return g.status().Members }

// Learners are the raft ids of those that do not vote yet.
func (g group) Learners() []uint64 { return g.status().Learners }

// Removed are the raft ids of those who were members.
func (g group) Removed() []uint64 { return g.status().Removed }

// opinionated are the raft ids of the members, and of who leads.
func (g group) opinionated() (ids []uint64, leader uint64) {
	status := g.status()
	for _, member := range status.Members {
		ids = append(ids, member.GetRaftId())
	}
	return ids, status.Leader
}

// Changed returns a channel that is closed when something of that may have changed.
func (g group) Changed() <-chan struct{} {
	if node := g.m.raft.Load(); node != nil {
		return node.Changed()
	}
	return nil
}

// AddMember adds a member.
func (g group) AddMember(ctx context.Context, member *api.RaftMember) error {
	return g.do(func(n *raft.Node) error { return n.AddMember(ctx, member) })
}

// UpdateMember gives a member another address.
func (g group) UpdateMember(ctx context.Context, member *api.RaftMember) error {
	return g.do(func(n *raft.Node) error { return n.UpdateMember(ctx, member) })
}

// RemoveMember removes a member, for ever.
func (g group) RemoveMember(ctx context.Context, id uint64) error {
	return g.do(func(n *raft.Node) error { return n.RemoveMember(ctx, id) })
}

// TransferLeadership makes another manager lead.
func (g group) TransferLeadership(ctx context.Context, to uint64) error {
	return g.do(func(n *raft.Node) error { return n.TransferLeadership(ctx, to) })
}

func (g group) do(f func(*raft.Node) error) error {
	if node := g.m.raft.Load(); node != nil {
		return f(node)
	}
	return errNoLog()
}
