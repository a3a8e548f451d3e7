package raftserver

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"skep/api"
	"skep/ca"
	"skep/model"
	"skep/rpc"
	"skep/store"
)

const (
	// healthTimeout bounds the call back to a manager that wants to join.
	healthTimeout = 5 * time.Second
	// rollbackTimeout bounds how long a join that is refused late keeps its turn to take back what
	// it did. What is left then is put out by control/rotator.
	rollbackTimeout = 5 * time.Second
)

// Group is what joining and leaving need of the raft group.
type Group interface {
	// ID is the raft ID of this member, which leads.
	ID() uint64
	// Members are all of the group, with their reachability.
	Members() []*api.RaftMember
	// Learners are the raft IDs of those that do not vote yet.
	Learners() []uint64
	// Removed are raft IDs that were members, and never will be again.
	Removed() []uint64
	// AddMember returns when the member was added here.
	AddMember(ctx context.Context, member *api.RaftMember) error
	// UpdateMember gives a member another address.
	UpdateMember(ctx context.Context, member *api.RaftMember) error
	// RemoveMember refuses with kind Precondition what would leave no reachable majority.
	RemoveMember(ctx context.Context, raftID uint64) error
	// TransferLeadership makes another lead, the most fit one if to is 0.
	TransferLeadership(ctx context.Context, to uint64) error
}

// Membership serves RaftMembership at the leader: the route sends it there. All fields but
// NewRaftID are required.
//
// Joins and leaves are taken one at a time, so that a node that asks twice is one member; the
// call back to who wants to join is not part of that turn. The error of every refusal says what to
// do.
type Membership struct {
	api.UnimplementedRaftMembershipServer
	// Group is the raft group.
	Group Group
	// Store is the manager's.
	Store *store.Store
	// Dial returns a connection, not necessarily open yet, to the manager at an address, with this
	// manager's certificate. It is closed after use.
	Dial func(addr string) (*grpc.ClientConn, error)
	// NewRaftID returns a number from 1 to 2⁶³-1 that was never returned before; nil is random.
	NewRaftID func() uint64

	once sync.Once
	turn chan struct{} // one place: who holds it changes the group
}

// Join makes the caller a member of the group, or gives it another address if it is one.
func (s *Membership) Join(ctx context.Context, r *api.JoinRequest) (*api.JoinResponse, error) {
	caller := rpc.Caller(ctx)
	if caller.NodeID == "" {
		return nil, model.Errorf(model.Denied, "only a manager of the swarm joins its raft group: the caller shows no certificate")
	}
	addr, err := resolve(r.GetAddr(), caller.Addr)
	if err != nil {
		return nil, err
	}
	if err := s.mayJoin(ctx, caller.NodeID); err != nil {
		return nil, err
	}
	if err := s.callBack(ctx, addr, caller.NodeID); err != nil {
		return nil, err
	}
	end, err := s.takeTurn(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	raftID, err := s.add(ctx, caller.NodeID, addr)
	if err != nil {
		return nil, err
	}
	// Whoever demoted or removed the node in between did not find it among the members.
	if err := s.mayJoin(ctx, caller.NodeID); err != nil {
		// The caller may be gone by now: what was added is taken out all the same.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		if failed := s.Group.RemoveMember(ctx, raftID); failed != nil {
			return nil, model.Errorf(model.Unavailable, "%w; taking it out of the group again: %w", err, failed)
		}
		return nil, err
	}
	return &api.JoinResponse{RaftId: raftID, Members: s.Group.Members(), RemovedMembers: s.Group.Removed()}, nil
}

// add makes a node a member at an address, unless it is.
func (s *Membership) add(ctx context.Context, nodeID, addr string) (raftID uint64, err error) {
	members := s.Group.Members()
	for _, m := range members {
		if m.GetNodeId() != nodeID {
			continue
		}
		if m.GetAddr() == addr {
			return m.GetRaftId(), nil
		}
		return m.GetRaftId(), s.Group.UpdateMember(ctx, &api.RaftMember{RaftId: m.GetRaftId(), NodeId: nodeID, Addr: addr})
	}
	for _, m := range members {
		if m.GetAddr() == addr {
			return 0, model.Errorf(model.Precondition, "join as manager at %s: node %s is a manager at this address already; remove that node if it is gone, or set another --advertise-remote-api", addr, m.GetNodeId())
		}
	}
	raftID = s.newRaftID(members)
	return raftID, s.Group.AddMember(ctx, &api.RaftMember{RaftId: raftID, NodeId: nodeID, Addr: addr})
}

func (s *Membership) newRaftID(members []*api.RaftMember) uint64 {
	for {
		id := randomRaftID
		if s.NewRaftID != nil {
			id = s.NewRaftID
		}
		is := id()
		used := slices.ContainsFunc(members, func(m *api.RaftMember) bool { return m.GetRaftId() == is })
		if is != 0 && !used && !slices.Contains(s.Group.Removed(), is) {
			return is
		}
	}
}

func randomRaftID() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:]) >> 1
}

// mayJoin returns an error if a node is no manager of this swarm, or not one that this version
// shares a log with.
func (s *Membership) mayJoin(ctx context.Context, nodeID string) error {
	n, ok := s.Store.Proposed().Nodes.Get(nodeID)
	switch {
	case !ok:
		return model.Errorf(model.Denied, "node %s is not part of this swarm, or was removed from it; to come back, let it leave and join again with a token", nodeID)
	case n.GetRole() != api.NodeRole_MANAGER:
		return model.Errorf(model.Denied, "node %s is a worker: it cannot join the managers; promote it first", nodeID)
	case n.GetSpec().GetDesiredRole() != api.NodeRole_MANAGER:
		return model.Errorf(model.Denied, "node %s is being demoted: it cannot join the managers; promote it first", nodeID)
	}
	// Who asked for a manager's certificate was looked at then; a node that has not described
	// itself since is taken at that.
	if said, _ := metadata.FromIncomingContext(ctx); len(said.Get(ca.VersionMetadata)) > 0 || n.GetDescription() == nil {
		return nil
	}
	if model.CheckPromotion(n) != nil {
		return model.Errorf(model.Precondition, "node %s runs a stock engine, whose manager this version does not work with; join it as a worker", nodeID)
	}
	return nil
}

// callBack looks whether the manager at addr answers, and is the caller.
func (s *Membership) callBack(ctx context.Context, addr, nodeID string) error {
	unreachable := func(why error) error {
		return model.Errorf(model.Precondition, "this manager cannot reach the new one at %s: %s; give it an --advertise-remote-api at which the others reach it, and let the firewall pass that port", addr, status.Convert(why).Message())
	}
	conn, err := s.Dial(addr)
	if err != nil {
		return unreachable(err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	var found peer.Peer
	answer, err := api.NewHealthClient(conn).Check(ctx, &api.HealthCheckRequest{Service: PartRaft}, grpc.Peer(&found), grpc.WaitForReady(true))
	if err != nil {
		return unreachable(err)
	}
	if is, _ := found.AuthInfo.(ca.Peer); is.NodeID != nodeID {
		return model.Errorf(model.Precondition, "at %s this manager finds node %.80q, not node %s that wants to join: the address belongs to another; set --advertise-remote-api", addr, is.NodeID, nodeID)
	}
	if answer.GetStatus() != api.HealthCheckResponse_SERVING {
		return model.Errorf(model.Unavailable, "the new manager at %s is not ready for raft yet (%v): try again", addr, answer.GetStatus())
	}
	return nil
}

// Leave takes the caller itself out of the group, or this manager when its own socket asks.
func (s *Membership) Leave(ctx context.Context, r *api.LeaveRequest) (*api.LeaveResponse, error) {
	if r.GetNode() == nil {
		return nil, model.Errorf(model.Invalid, "leave: it is not said who; set node.raft_id")
	}
	end, err := s.takeTurn(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	caller, raftID := rpc.Caller(ctx), r.GetNode().GetRaftId()
	members := s.Group.Members()
	i := slices.IndexFunc(members, func(m *api.RaftMember) bool { return m.GetRaftId() == raftID })
	switch {
	case i < 0 && slices.Contains(s.Group.Removed(), raftID):
		return &api.LeaveResponse{}, nil // it has left
	case i < 0:
		return nil, model.Errorf(model.NotFound, "raft member %x is unknown: it never was one", raftID)
	case caller.NodeID == "" || members[i].GetNodeId() != caller.NodeID:
		return nil, model.Errorf(model.Denied, "raft member %x is another node: a manager leaves for itself only; to take another out, demote it", raftID)
	}
	if q := model.QuorumWithout(members, append(slices.Clip(s.Group.Learners()), raftID)...); q.Left == 0 {
		return nil, model.Errorf(model.Precondition, "this is the last manager, without which nobody would lead the swarm: promote another node first")
	} else if !q.Holds() {
		return nil, model.Errorf(model.Precondition, "without this manager %d of %d would be reachable: they could not agree on anything; bring the others back, or promote a node, first", q.Reachable, q.Left)
	}
	if raftID == s.Group.ID() {
		if err := s.Group.TransferLeadership(ctx, 0); err != nil {
			return nil, err
		}
		return nil, model.Errorf(model.Unavailable, "this manager led and has handed over: ask again, the next leader takes it out")
	}
	if err := s.Group.RemoveMember(ctx, raftID); err != nil {
		return nil, err
	}
	return &api.LeaveResponse{}, nil
}

// takeTurn waits until nobody else changes the group; the caller calls end.
func (s *Membership) takeTurn(ctx context.Context) (end func(), err error) {
	s.once.Do(func() { s.turn = make(chan struct{}, 1) })
	select {
	case s.turn <- struct{}{}:
		return func() { <-s.turn }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// resolve returns the address at which a caller wants to be reached; the address that it calls
// from stands in for a host that is not specified.
func resolve(addr, from string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", model.Errorf(model.Invalid, "join as manager at %.80q: this is no host:port; set --advertise-remote-api", addr)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", model.Errorf(model.Invalid, "join as manager at %.80q: its port is no number from 1 to 65535; set --advertise-remote-api", addr)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		observed, _, err := net.SplitHostPort(from)
		if seen := net.ParseIP(observed); err != nil || seen == nil || seen.IsUnspecified() {
			return "", model.Errorf(model.Invalid, "join as manager at %.80q: nobody can reach that host, and where the call comes from is not known; set --advertise-remote-api", addr)
		}
		host = observed
	}
	if len(host) > 253 {
		return "", model.Errorf(model.Invalid, "join as manager: a host name of %d characters is none; set --advertise-remote-api", len(host))
	}
	return net.JoinHostPort(host, port), nil
}
