package raftserver

import (
	"cmp"
	"context"
	"errors"
	"io"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc"

	"skep/api"
	"skep/api/skep"
	"skep/model"
	"skep/raft/transport"
)

const (
	// defaultMaxSnapshot bounds what is assembled of a stock manager's snapshot.
	defaultMaxSnapshot = 1 << 30
	// healthWait bounds how long a candidate may take to show that it is reached. The sender
	// of its vote waits 2 s for an answer.
	healthWait = 1500 * time.Millisecond
)

// Member is what is needed of the raft member that runs here. Its methods do not wait for
// what they are told to be carried out.
type Member interface {
	// ID is its raft id.
	ID() uint64
	// Step takes a message from another member. Its error is of kind NotFound with the
	// text transport.TextRemoved when the sender was removed.
	Step(ctx context.Context, m *raftpb.Message) error
	// Meet says that a message has come from a leader that is no member yet, as far as this one
	// knows: it must be answered.
	Meet(id uint64, nodeID string)
	// ReportReachable says that a message of a member has come.
	ReportReachable(id uint64)
	// Had returns all that it knows of what members had on their disks.
	Had() []*skep.Had
	// Told says what a member knows of that, before any message of that member: when it
	// connects, which may be nothing, and when it knows more.
	Told(id uint64, had []*skep.Had)
	// ReceiveSnapshot begins to receive the snapshot of a MsgSnap, or goes on with what is
	// there of one with the same ID.
	ReceiveSnapshot(m *raftpb.Message, header transport.Header) (Incoming, error)
}

// Incoming is a snapshot that is being received. After Commit, Abort or Close it is
// done with. If it also has a method Sum() (uint32, bool), that is the CRC-32C of what is
// there already, if it is known.
type Incoming interface {
	// Offset is how much of the state is there already and stays, in bytes.
	Offset() uint64
	// Write adds to it.
	Write(p []byte) (int, error)
	// Commit hands the snapshot to raft: it is complete.
	Commit(ctx context.Context) error
	// Abort forgets it.
	Abort()
	// Close keeps what is there until the snapshot is sent again.
	Close() error
}

// Raft serves Raft, and is what Replication stands on. Members is required, and so is Member
// as soon as there is another manager.
type Raft struct {
	api.UnimplementedRaftServer
	// Members lists the raft members.
	Members func() []*api.RaftMember
	// Removed lists the raft ids of those who were members; nil is nobody.
	Removed func() []uint64
	// Member takes the messages. Nil refuses them.
	Member Member
	// Found is told where a member says that it is reached, when it connects. Nil ignores it.
	Found func(id uint64, addr string)
	// Reached returns where a member is reached at present, "" if that is not known: its record
	// may be old then. Nil knows of none.
	Reached func(id uint64) string
	// Healthy asks a candidate whether its raft runs, over a connection of this manager. Stock
	// managers stand for election while they hear nothing; nobody votes for one that could
	// not be heard. Nil asks nobody.
	Healthy func(ctx context.Context, candidate *api.RaftMember) error
	// Restore takes a MsgSnap of a stock manager, whose data is an encoded api.Snapshot. Nil
	// refuses them.
	Restore func(ctx context.Context, m *raftpb.Message) error
	// Hashes is told of what the state of another member amounted to. Nil ignores it.
	Hashes func(from, index uint64, hash []byte)
	// MaxSnapshot bounds what is assembled of a stock manager's snapshot, in bytes; 0 is 1 GiB.
	MaxSnapshot int
	// Metrics counts what is rejected; nil counts nothing.
	Metrics *Metrics

	receiving receiving
}

// ResolveAddress returns the address of a member: where it is reached, else what its record has.
func (s *Raft) ResolveAddress(_ context.Context, r *api.ResolveAddressRequest) (*api.ResolveAddressResponse, error) {
	for _, m := range s.Members() {
		if m.GetRaftId() == r.GetRaftId() {
			addr := m.GetAddr()
			if s.Reached != nil {
				addr = cmp.Or(s.Reached(m.GetRaftId()), addr)
			}
			return &api.ResolveAddressResponse{Addr: addr}, nil
		}
	}
	return nil, model.Errorf(model.NotFound, "raft member %x is unknown: it never was one, or has left; ask for those of GetNode's manager_status", r.GetRaftId())
}

// ProcessRaftMessage takes a message of a stock manager.
func (s *Raft) ProcessRaftMessage(ctx context.Context, r *api.ProcessRaftMessageRequest) (*api.ProcessRaftMessageResponse, error) {
	if err := s.fromStock(ctx, r.GetMessage()); err != nil {
		return nil, err
	}
	return &api.ProcessRaftMessageResponse{}, nil
}

// StreamRaftMessage takes a message of a stock manager, which comes in parts if it is a
// snapshot.
func (s *Raft) StreamRaftMessage(stream grpc.ClientStreamingServer[api.StreamRaftMessageRequest, api.StreamRaftMessageResponse]) error {
	limit := s.MaxSnapshot
	if limit == 0 {
		limit = defaultMaxSnapshot
	}
	m, err := assemble(limit, func(m *raftpb.Message) error { return s.stockSender(stream.Context(), m) }, func() (*raftpb.Message, error) {
		r, err := stream.Recv()
		return r.GetMessage(), err
	})
	if err == nil {
		err = s.fromStock(stream.Context(), m)
	}
	if err != nil {
		return err
	}
	return stream.SendAndClose(&api.StreamRaftMessageResponse{})
}

// assemble makes one message of its parts, until next returns io.EOF. It is nil when there is
// none. The first part is checked before more is taken; the data may have limit bytes.
func assemble(limit int, check func(*raftpb.Message) error, next func() (*raftpb.Message, error)) (*raftpb.Message, error) {
	var whole *raftpb.Message
	for {
		part, err := next()
		switch {
		case errors.Is(err, io.EOF):
			return whole, nil
		case err != nil:
			return nil, err
		case whole == nil:
			if err := check(part); err != nil {
				return nil, err
			}
			if whole = part; whole == nil {
				whole = &raftpb.Message{}
			}
		case whole.GetType() != raftpb.MsgSnap:
			return nil, model.Errorf(model.Invalid, "a message of type %s comes in parts: only a snapshot may", whole.GetType())
		case part.GetType() != whole.GetType() || part.GetIndex() != whole.GetIndex() || part.GetTerm() != whole.GetTerm() ||
			part.GetFrom() != whole.GetFrom() || part.GetTo() != whole.GetTo() ||
			part.GetSnapshot().GetMetadata().GetIndex() != whole.GetSnapshot().GetMetadata().GetIndex():
			return nil, model.Errorf(model.Invalid, "the parts of a snapshot belong to different messages: %s at %d follows %s at %d",
				part.GetType(), part.GetSnapshot().GetMetadata().GetIndex(), whole.GetType(), whole.GetSnapshot().GetMetadata().GetIndex())
		default:
			data := part.GetSnapshot().GetData()
			if len(data) == 0 {
				continue
			}
			if whole.Snapshot == nil {
				whole.Snapshot = &raftpb.Snapshot{}
			}
			whole.Snapshot.Data = append(whole.Snapshot.Data, data...)
		}
		if n := len(whole.GetSnapshot().GetData()); n > limit {
			return nil, model.Errorf(model.Exhausted, "a snapshot of more than %d bytes is not taken from a stock manager", limit)
		}
	}
}

// stockSender returns an error when the sender of a message may not send it, or nobody takes it.
func (s *Raft) stockSender(ctx context.Context, m *raftpb.Message) error {
	if m.GetFrom() == 0 && m.GetType() == raftpb.MsgHup { // empty: it is dropped
		return nil
	}
	if _, err := s.sender(ctx, m.GetFrom()); err != nil {
		return err
	}
	if m.GetType() == raftpb.MsgSnap && s.Restore == nil { // before all of it is assembled
		return errNoStockSnapshots()
	}
	return nil
}

func errNoStockSnapshots() error {
	return model.Errorf(model.Unimplemented, "this manager takes no snapshots of stock managers: let it join managers of its own kind")
}

// fromStock takes a message of a stock manager. What is dropped is answered like what is taken.
func (s *Raft) fromStock(ctx context.Context, m *raftpb.Message) error {
	if m == nil || m.GetFrom() == 0 && m.GetType() == raftpb.MsgHup {
		return nil
	}
	from, err := s.sender(ctx, m.GetFrom())
	if err != nil {
		return err
	}
	if !s.wanted(from, m) {
		return nil
	}
	switch m.GetType() {
	case raftpb.MsgVote:
		if s.Healthy != nil {
			ctx, cancel := context.WithTimeout(ctx, healthWait)
			defer cancel()
			if s.Healthy(ctx, from.RaftMember) != nil {
				s.Metrics.rejected(unreachable)
				return nil
			}
		}
	case raftpb.MsgSnap:
		if s.Restore == nil {
			return errNoStockSnapshots()
		}
		return s.Restore(ctx, m)
	default:
	}
	return s.Member.Step(ctx, m)
}
