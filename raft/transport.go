package raft

import (
	"context"
	"slices"
	"sync"

	etcdraft "go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"skep/api"
	"skep/model"
)

// ErrRemoved tells that a member was removed from the group. Its id never comes back.
var ErrRemoved error = model.Errorf(model.NotFound, "raft: member was removed from the cluster")

// Transport carries messages to the other members. Its methods may be called concurrently
// and never wait.
type Transport interface {
	// SetMembers says who the group's members are now, this one included, and where
	// they are reached. Connections to whoever is not among them are closed.
	SetMembers(members []*api.RaftMember)
	// Send hands over messages, whose order is kept for each receiver. What finds a full
	// queue is dropped and told through [Node.ReportUnreachable]. A MsgSnap carries the
	// name of a file as its snapshot's data: the bytes come from [Node.OpenSnapshot], and
	// what became of it is told through [Node.ReportSnapshot].
	Send(messages []*raftpb.Message)
	// Tell says that [Node.Had] returns more than before, which all members are to be told
	// ([Node.Told]), and that whenever a connection between two begins.
	Tell()
}

// nobody is the transport of a node that was given none: it is alone.
type nobody struct{}

func (nobody) SetMembers([]*api.RaftMember) {}
func (nobody) Send([]*raftpb.Message)       {}
func (nobody) Tell()                        {}

// signal tells any number of goroutines that something may have changed.
type signal struct {
	mu sync.Mutex
	ch chan struct{}
}

// wait returns what is closed at the next change.
func (s *signal) wait() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch == nil {
		s.ch = make(chan struct{})
	}
	return s.ch
}

func (s *signal) notify() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch != nil {
		close(s.ch)
		s.ch = nil
	}
}

// reach is what the transport said of the way to each member.
type reach struct {
	mu sync.Mutex
	at map[uint64]bool
}

// set reports whether that is news.
func (r *reach) set(id uint64, reachable bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if was, known := r.at[id]; known && was == reachable {
		return false
	}
	if r.at == nil {
		r.at = map[uint64]bool{}
	}
	r.at[id] = reachable
	return true
}

// keep forgets all but the members.
func (r *reach) keep(m *membership) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range r.at {
		if m.find(id) == nil {
			delete(r.at, id)
		}
	}
}

func (r *reach) get(id uint64) (reachable, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	reachable, known = r.at[id]
	return reachable, known
}

// ID returns the raft id of this member.
func (n *Node) ID() uint64 { return n.id }

// Step takes a message from another member. It never waits. What is not for this member, is
// of no member that it knows and asks for its vote, or should never travel, is dropped. Its error
// is [ErrRemoved] if the sender was removed, which must then be told so.
func (n *Node) Step(_ context.Context, m *raftpb.Message) error {
	members := n.members.Load()
	from, typ := m.GetFrom(), m.GetType()
	switch {
	case slices.Contains(members.removed, from):
		n.metrics.refused.Inc()
		return ErrRemoved
	case m.GetTo() != n.id, from == n.id, from == 0,
		etcdraft.IsLocalMsg(typ), etcdraft.IsLocalMsgTarget(from),
		typ == raftpb.MsgProp, typ == raftpb.MsgForgetLeader,
		typ == raftpb.MsgSnap, // it comes through ReceiveSnapshot, with its content
		asksForPower(typ) && members.find(from) == nil && len(members.members) > 0:
		n.metrics.refused.Inc()
		return nil
	}
	n.events.put(event{msg: m})
	return nil
}

// asksForPower reports whether a message of this type is for members to send, and not for a
// leader that they elected and of whom this one may not know yet.
func asksForPower(typ raftpb.MessageType) bool {
	switch typ {
	case raftpb.MsgVote, raftpb.MsgPreVote, raftpb.MsgTimeoutNow, raftpb.MsgTransferLeader, raftpb.MsgReadIndex:
		return true
	default:
		return false
	}
}

// ReportUnreachable tells that messages to a member were lost.
func (n *Node) ReportUnreachable(id uint64) {
	if n.reach.set(id, false) {
		n.changed.notify()
	}
	n.events.put(event{do: func(l *loop) error { l.raw.ReportUnreachable(id); return nil }})
}

// ReportReachable tells that a connection to a member stands, or that a message came from it.
func (n *Node) ReportReachable(id uint64) {
	if n.reach.set(id, true) {
		n.changed.notify()
		n.events.put(event{do: func(l *loop) error {
			if id == l.lead {
				l.askAgain() // what it was asked may be lost
			}
			return nil
		}})
	}
}

// ReportSnapshot tells what became of a snapshot that was sent to a member.
func (n *Node) ReportSnapshot(id uint64, ok bool) {
	status := etcdraft.SnapshotFailure
	if ok {
		status = etcdraft.SnapshotFinish
	}
	n.events.put(event{do: func(l *loop) error { l.raw.ReportSnapshot(id, status); return nil }})
}

// Removed tells that another member says that this one was removed. Run then returns
// ErrRemoved.
func (n *Node) Removed() {
	n.events.put(event{do: func(*loop) error { return ErrRemoved }})
}

// Changed returns a channel that is closed when the leader, the membership or the
// reachability of a member may have changed.
func (n *Node) Changed() <-chan struct{} { return n.changed.wait() }
