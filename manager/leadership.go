package manager

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc"

	"skep/api"
	"skep/model"
	"skep/rpc"
)

// leadership is what rpc needs to know of raft.
type leadership struct{ m *Manager }

// Leader says who leads. This manager does from when it has founded the swarm,
// if need be, and its leader's parts run.
func (l leadership) Leader() (rpc.LeaderInfo, <-chan struct{}) { return l.m.leader.get() }

// ReadBarrier waits until the store has what raft's read point asks for. Nothing
// can be read of a swarm that is being founded.
func (l leadership) ReadBarrier(ctx context.Context) error {
	node := l.m.raft.Load()
	if node == nil {
		return errNoLog()
	}
	index, err := node.ReadIndex(ctx)
	if err != nil {
		return err
	}
	if _, err := l.m.store.ReadAt(ctx, index); err != nil || l.m.Founded() {
		return err
	}
	return l.m.AwaitServing(ctx)
}

// Connect returns the connection to the leader that forwarded requests share.
func (l leadership) Connect(leader rpc.LeaderInfo) (grpc.ClientConnInterface, error) {
	return l.m.conns.to(leader.Addr)
}

// Absence says why nobody leads, as far as this manager can tell.
func (l leadership) Absence() string {
	node := l.m.raft.Load()
	if node == nil {
		return l.m.Waits()
	}
	if why := l.m.cfg.Refused(); why != "" {
		return "the other managers refuse this one: " + why
	}
	if fell, _ := l.m.fell.get(); fell != "" {
		return fell
	}
	var away []string
	status := node.Status()
	for _, member := range status.Members {
		if member.GetStatus().GetReachability() == api.RaftMemberStatus_UNREACHABLE {
			away = append(away, fmt.Sprintf("%s at %s", l.m.nameOf(member.GetNodeId()), member.GetAddr()))
		}
	}
	if len(away) == 0 {
		return ""
	}
	slices.Sort(away)
	why := fmt.Sprintf("of %d managers this one cannot reach %s: start them, or mend the network between them",
		len(status.Members), strings.Join(away, ", "))
	if l.m.cfg.Unforced != "" {
		why += "; " + l.m.cfg.Unforced
	}
	return why
}

// nameOf is what people call a node.
func (m *Manager) nameOf(id string) string {
	if n, ok := m.store.Read().Nodes.Get(id); ok && n.GetDescription().GetHostname() != "" {
		return n.GetDescription().GetHostname()
	}
	return "node " + id
}

func errNoLog() error {
	return model.Errorf(model.Unavailable, "this manager is joining the others and has no log yet")
}

// watchLeader keeps what leadership says until ctx ends: this manager when its leader's
// parts run, else the member that raft names, if it is another. It also gives up connections to
// where no member is any more.
func (m *Manager) watchLeader(ctx context.Context) {
	node := m.raft.Load()
	for ctx.Err() == nil {
		changed := node.Changed()
		serving, served := m.serving.get()
		m.leader.set(m.leaderNow(serving))
		members := map[string]bool{}
		for _, member := range node.Status().Members {
			members[member.GetAddr()] = true
		}
		m.conns.keep(members)
		select {
		case <-changed:
		case <-served:
		case <-ctx.Done():
		}
	}
	m.leader.set(rpc.LeaderInfo{})
}

func (m *Manager) leaderNow(serving bool) rpc.LeaderInfo {
	if serving {
		return rpc.LeaderInfo{Self: true, NodeID: m.cfg.Identity.NodeID(), Addr: m.cfg.Addr}
	}
	status := m.raft.Load().Status()
	if status.Leader == 0 || status.Leader == status.ID {
		return rpc.LeaderInfo{}
	}
	for _, member := range status.Members {
		if member.GetRaftId() == status.Leader {
			return rpc.LeaderInfo{NodeID: member.GetNodeId(), Addr: member.GetAddr()}
		}
	}
	return rpc.LeaderInfo{}
}
