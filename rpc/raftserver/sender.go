package raftserver

import (
	"context"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc/metadata"

	"skep/api"
	"skep/model"
	"skep/raft/transport"
	"skep/rpc"
)

// Reasons for which a message is rejected.
const (
	forwarded   = "forwarded"   // it does not come from the manager itself
	removed     = "removed"     // its sender was removed from the group
	unknown     = "unknown"     // its sender is no member, and it is not what a leader sends
	mismatch    = "mismatch"    // it comes from another node than its sender is
	misdirected = "misdirected" // it is meant for another member
	unexpected  = "unexpected"  // of a type that members do not send to each other
	unreachable = "unreachable" // a candidate that cannot be reached
	damaged     = "damaged"     // a part of a snapshot arrived damaged
)

// Metrics counts messages that are rejected. A nil Metrics counts nothing.
type Metrics struct{ rejects *prometheus.CounterVec }

// NewMetrics registers the series, one for each reason, which begin at 0.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{rejects: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "swarm_raft_rejected_messages_total",
		Help: "Messages of other managers that were not taken, by reason.",
	}, []string{"reason"})}
	for _, reason := range []string{forwarded, removed, unknown, mismatch, misdirected, unexpected, unreachable, damaged} {
		m.rejects.WithLabelValues(reason)
	}
	registry.MustRegister(m.rejects)
	return m
}

func (m *Metrics) rejected(reason string) {
	if m != nil {
		m.rejects.WithLabelValues(reason).Inc()
	}
}

// sender is who sends a message.
type sender struct {
	*api.RaftMember
	known bool // it is a member, as far as this manager knows
}

// sender returns the member that a raft id belongs to, when the caller is that member. A
// caller that nobody here knows, under an id that nobody here knows, may be a leader that
// joined while this manager was away: it is not known, and only what leaders send is taken
// of it. So may one that is known under another id, since it was demoted and promoted meanwhile;
// but not while somebody leads who is known, from whom that would have been heard. This is asked for each batch, so that a member that was removed is cut off on a
// stream that stands.
func (s *Raft) sender(ctx context.Context, from uint64) (sender, error) {
	if s.Member == nil {
		return sender{}, model.Errorf(model.Unavailable, "raft does not run on this manager yet: try again")
	}
	caller := rpc.Caller(ctx)
	if md, _ := metadata.FromIncomingContext(ctx); caller.Local || caller.NodeID == "" || len(md.Get("forwarded_cert")) > 0 || len(md.Get("redirect")) > 0 {
		s.Metrics.rejected(forwarded)
		return sender{}, model.Errorf(model.Denied, "raft messages are taken from managers themselves, over their own connection: neither over the socket nor forwarded")
	}
	if s.Removed != nil && slices.Contains(s.Removed(), from) {
		s.Metrics.rejected(removed)
		return sender{}, model.Errorf(model.NotFound, transport.TextRemoved)
	}
	other, led := uint64(0), false
	for _, m := range s.Members() {
		led = led || m.GetStatus().GetLeader()
		switch {
		case m.GetRaftId() == from && m.GetNodeId() == caller.NodeID:
			return sender{m, true}, nil
		case m.GetRaftId() == from:
			s.Metrics.rejected(mismatch)
			return sender{}, model.Errorf(model.Denied, "raft member %x is node %s, and this message comes from node %s", from, m.GetNodeId(), caller.NodeID)
		case m.GetNodeId() == caller.NodeID:
			other = m.GetRaftId()
		}
	}
	if other != 0 && led || from == 0 {
		s.Metrics.rejected(mismatch)
		return sender{}, model.Errorf(model.Denied, "node %s is raft member %x, and this message claims to come from %x", caller.NodeID, other, from)
	}
	return sender{&api.RaftMember{RaftId: from, NodeId: caller.NodeID}, false}, nil
}

// wanted reports whether a message is one to take; what is not is dropped and counted.
func (s *Raft) wanted(from sender, m *raftpb.Message) bool {
	var reason string
	switch t := m.GetType(); {
	case m.GetTo() != s.Member.ID():
		reason = misdirected
	case !between(t):
		reason = unexpected
	case !from.known && t != raftpb.MsgApp && t != raftpb.MsgHeartbeat && t != raftpb.MsgSnap:
		reason = unknown
	default:
		if !from.known {
			s.Member.Meet(from.GetRaftId(), from.GetNodeId())
		}
		return true
	}
	s.Metrics.rejected(reason)
	return false
}

// between reports whether members send messages of a type to each other. Proposals are made
// by the leader alone; the rest is between raft and its storage.
func between(t raftpb.MessageType) bool {
	switch t {
	case raftpb.MsgApp, raftpb.MsgAppResp, raftpb.MsgVote, raftpb.MsgVoteResp, raftpb.MsgSnap,
		raftpb.MsgHeartbeat, raftpb.MsgHeartbeatResp, raftpb.MsgTimeoutNow, raftpb.MsgReadIndex,
		raftpb.MsgReadIndexResp, raftpb.MsgPreVote, raftpb.MsgPreVoteResp, raftpb.MsgTransferLeader:
		return true
	default:
		return false
	}
}
