package manager

import (
	"context"

	"go.etcd.io/raft/v3/raftpb"

	"skep/api/skep"
	"skep/raft"
	"skep/raft/transport"
	"skep/rpc/raftserver"
)

// host is the raft member as its transport and its server see it.
type host struct{ *raft.Node }

var (
	_ transport.Host    = host{}
	_ raftserver.Member = late{}
)

// OpenSnapshot opens a snapshot to send.
func (h host) OpenSnapshot(index uint64) (*transport.Outgoing, error) {
	s, err := h.Node.OpenSnapshot(index)
	if err != nil {
		return nil, err
	}
	return &transport.Outgoing{ID: s.ID, Meta: s.Meta, Members: s.Members, Removed: s.Removed, State: s.State}, nil
}

// ReceiveSnapshot takes a snapshot that another member sends.
func (h host) ReceiveSnapshot(m *raftpb.Message, header transport.Header) (raftserver.Incoming, error) {
	s, err := h.Node.ReceiveSnapshot(m, raft.SnapshotHeader{ID: header.ID, Members: header.Members, Removed: header.Removed})
	if err != nil {
		return nil, err
	}
	return incoming{s}, nil
}

// incoming is a snapshot that comes, as the server sees it.
type incoming struct{ *raft.IncomingSnapshot }

// Offset is how much of the state is there.
func (i incoming) Offset() uint64 { return uint64(i.IncomingSnapshot.Offset()) } //nolint:gosec // never negative

// Close keeps what is there: the raft member does, until another snapshot comes.
func (incoming) Close() error { return nil }

// late is the raft member of a manager whose log is there only once it has joined.
type late struct{ m *Manager }

func (l late) node() (host, error) {
	if node := l.m.raft.Load(); node != nil {
		return host{node}, nil
	}
	return host{}, errNoLog()
}

// ID is the raft id, 0 while there is none.
func (l late) ID() uint64 {
	h, err := l.node()
	if err != nil {
		return 0
	}
	return h.ID()
}

// Step takes a message.
func (l late) Step(ctx context.Context, m *raftpb.Message) error {
	h, err := l.node()
	if err != nil {
		return err
	}
	return h.Step(ctx, m)
}

// Meet has a leader answered that is no member yet.
func (l late) Meet(id uint64, nodeID string) { l.m.transport.Meet(id, nodeID) }

// ReportReachable notes that a member is there.
func (l late) ReportReachable(id uint64) {
	if h, err := l.node(); err == nil {
		h.ReportReachable(id)
	}
}

// Had returns what is known here of what members had.
func (l late) Had() []*skep.Had {
	h, err := l.node()
	if err != nil {
		return nil
	}
	return h.Had()
}

// Told passes on what a member knows of that.
func (l late) Told(id uint64, had []*skep.Had) {
	if h, err := l.node(); err == nil {
		h.Told(id, had)
	}
}

// ReceiveSnapshot takes a snapshot that another member sends.
func (l late) ReceiveSnapshot(m *raftpb.Message, header transport.Header) (raftserver.Incoming, error) {
	h, err := l.node()
	if err != nil {
		return nil, err
	}
	return h.ReceiveSnapshot(m, header)
}
