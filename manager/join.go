package manager

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"skep/api"
	"skep/ca"
	"skep/model"
	"skep/raft"
)

const (
	// joinTimeout is how long one manager may take to answer a request to join: the
	// leader dials back, and the log must agree.
	joinTimeout = 10 * time.Second
	// joinFirst and joinLast are the first and the longest pause between two requests.
	joinFirst, joinLast = 100 * time.Millisecond, 2 * time.Second
)

// join asks the other managers, one after the other, to take this one into their group
// until one does or ctx ends, or for a node that is new to the swarm one refuses.
func (m *Manager) join(ctx context.Context) (*raft.JoinInfo, error) {
	pause := joinFirst
	for {
		addrs := m.cfg.Managers()
		if len(addrs) == 0 {
			return nil, fmt.Errorf("this manager has no log of the swarm and knows no other manager that could send it: the raft directory was replaced or emptied; restore it from a backup, or start over with an empty state directory")
		}
		for _, addr := range addrs {
			info, err := m.askToJoin(ctx, addr)
			switch {
			case err == nil:
				return info, nil
			case ctx.Err() != nil:
				return nil, ctx.Err()
			}
			m.waits.set(fmt.Sprintf("asks the managers to take it into their group; %s: %s", addr, status.Convert(err).Message()))
			m.cfg.Log.WarnContext(ctx, "this manager was not taken into the group yet", slog.String("addr", addr), slog.Any("error", err))
			switch status.Code(err) {
			case codes.FailedPrecondition, codes.InvalidArgument, codes.NotFound:
				if !m.cfg.Settled {
					return nil, fmt.Errorf("join the managers at %s: %s", addr, status.Convert(err).Message())
				}
			default:
			}
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
		pause = min(2*pause, joinLast)
	}
}

// askToJoin asks the manager at addr, which passes the request on to the leader. It is also
// how a member tells the others of a new address.
func (m *Manager) askToJoin(ctx context.Context, addr string) (*raft.JoinInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	conn, err := m.cfg.Dial(addr)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // it was for one request
	info, err := join(metadata.AppendToOutgoingContext(ctx, ca.VersionMetadata, m.cfg.Version), conn, m.cfg.Addr)
	return info, err
}

func join(ctx context.Context, conn grpc.ClientConnInterface, addr string) (*raft.JoinInfo, error) {
	r, err := api.NewRaftMembershipClient(conn).Join(ctx, &api.JoinRequest{Addr: addr})
	if err != nil {
		return nil, err
	}
	return &raft.JoinInfo{ID: r.GetRaftId(), Members: r.GetMembers(), Removed: r.GetRemovedMembers()}, nil
}

// announce has the group's record say where this manager is, until ctx ends. The others have mostly
// found it before, since the transport tells them where it is when it connects; but a copy of a manager
// that runs is not looked for elsewhere, and is to hear from the leader that it is one. A manager that
// hears of no leader for long tells where it is too: a copy of it may have claimed to be at another
// address since, to which the others talk now.
func (m *Manager) announce(ctx context.Context) {
	node := m.raft.Load()
	for silent := false; ctx.Err() == nil; {
		changed := node.Changed()
		now := node.Status()
		itself, others := addresses(now)
		switch known := itself == m.cfg.Addr; {
		case itself == "", known && !silent:
		case !known && now.Leader == now.ID:
			_ = node.UpdateMember(ctx, &api.RaftMember{RaftId: now.ID, NodeId: m.cfg.Identity.NodeID(), Addr: m.cfg.Addr}) // tried again
		default:
			m.tellAddress(ctx, others)
		}
		var late <-chan time.Time
		if itself != m.cfg.Addr || now.Leader == 0 {
			late = time.After(joinLast)
		}
		select {
		case <-changed:
			silent = false
		case <-late:
			silent = now.Leader == 0
		case <-ctx.Done():
		}
	}
}

// tellAddress tells this manager's address to the first of the others that takes it.
func (m *Manager) tellAddress(ctx context.Context, others []string) {
	for _, addr := range others {
		_, err := m.askToJoin(ctx, addr)
		if err == nil || ctx.Err() != nil {
			return
		}
		m.cfg.Log.WarnContext(ctx, "the other managers were not told of this one's address yet", slog.String("addr", m.cfg.Addr), slog.String("asked", addr), slog.Any("error", err))
	}
}

// addresses returns at which address the group knows this member, and those of the others:
// the leader's first. Any of the others passes a request on, if the leader itself is not at the
// address that this member has of it.
func addresses(s raft.Status) (itself string, others []string) {
	for _, member := range s.Members {
		switch member.GetRaftId() {
		case s.ID:
			itself = member.GetAddr()
		case s.Leader:
			others = slices.Insert(others, 0, member.GetAddr())
		default:
			others = append(others, member.GetAddr())
		}
	}
	return itself, others
}

// Alone reports whether this manager has no others.
func (m *Manager) Alone() bool { return len(group{m}.Members()) < 2 }

// Leave takes this manager out of the group, whose others go on without it; a leader hands
// over first. It is refused where they would be no majority. What may succeed later is tried
// again until ctx ends.
func (m *Manager) Leave(ctx context.Context) error {
	why := model.Errorf(model.Unavailable, "no manager leads")
	for {
		select {
		case <-m.removed: // perhaps before the answer to who asked for it
			return nil
		default:
		}
		if ctx.Err() != nil {
			return fmt.Errorf("the others did not let this manager go in time: %w", why)
		}
		leader, changed := m.leader.get()
		switch done, err := m.leaveOnce(ctx, leader.Addr); {
		case done:
			return err
		case err != nil && ctx.Err() == nil:
			why = err
		}
		timer := time.NewTimer(joinFirst)
		select {
		case <-changed:
		case <-m.removed:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// leaveOnce takes a step of Leave: it hands over if this manager leads, else it asks the leader, if one
// is known. done is false if there is more to do or err may not come again.
func (m *Manager) leaveOnce(ctx context.Context, leader string) (done bool, err error) {
	is := group{m}.status()
	if is.Leader == is.ID {
		err := group{m}.TransferLeadership(ctx, 0)
		return err != nil && model.KindOf(err) != model.Unavailable, err
	}
	if leader == "" {
		return false, nil
	}
	conn, err := m.conns.to(leader)
	if err != nil {
		return true, err
	}
	_, err = api.NewRaftMembershipClient(conn).Leave(ctx, &api.LeaveRequest{Node: &api.RaftMember{RaftId: is.ID}})
	switch status.Code(err) {
	case codes.Unavailable, codes.ResourceExhausted, codes.DeadlineExceeded:
		return false, err
	case codes.Canceled: // by this manager's own end, if ctx goes on
		return false, err
	default:
		return true, err
	}
}
