package raftserver

import (
	"context"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc"

	"skep/api/skep"
	"skep/model"
	"skep/rpc"
)

// Replication serves skep.v1.Replication: what managers of ours send each other.
type Replication struct {
	skep.UnimplementedReplicationServer
	// Raft says who the members are, and takes their messages. Required.
	Raft *Raft
}

// Messages takes batches of messages until the stream ends. A batch is answered when its
// messages are queued; nothing waits for them to be carried out.
func (s *Replication) Messages(stream grpc.BidiStreamingServer[skep.MessagesRequest, skep.MessagesResponse]) error {
	r, err := stream.Recv()
	if err != nil {
		return err
	}
	hello := r.GetHello()
	if hello == nil {
		return model.Errorf(model.Invalid, "the first message of a stream says who sends and to whom: hello is missing")
	}
	from, err := s.Raft.sender(stream.Context(), hello.GetFrom())
	if err != nil {
		return err
	}
	s.found(stream.Context(), from, hello.GetAddr())
	if id := s.Raft.Member.ID(); hello.GetTo() != id {
		s.Raft.Metrics.rejected(misdirected)
		return model.Errorf(model.Precondition, "this manager is raft member %x and not %x: ask another manager for the address", id, hello.GetTo())
	}
	if err := stream.Send(&skep.MessagesResponse{Had: s.Raft.Member.Had()}); err != nil {
		return err
	}
	s.Raft.Member.ReportReachable(hello.GetFrom())
	for {
		if err := s.batch(stream, hello.GetFrom(), r); err != nil {
			return err
		}
		if r, err = stream.Recv(); err != nil {
			return err
		}
	}
}

// found passes on where a member says that it is reached. That it is the member is proved; where
// it is, whoever connects there has to see.
func (s *Replication) found(ctx context.Context, from sender, addr string) {
	if s.Raft.Found == nil || !from.known || addr == "" {
		return
	}
	if addr, err := resolve(addr, rpc.Caller(ctx).Addr); err == nil {
		s.Raft.Found(from.GetRaftId(), addr)
	}
}

// batch takes a batch.
func (s *Replication) batch(stream grpc.BidiStreamingServer[skep.MessagesRequest, skep.MessagesResponse], id uint64, r *skep.MessagesRequest) error {
	from, err := s.Raft.sender(stream.Context(), id)
	if err != nil {
		return err
	}
	if r.GetHello() != nil || len(r.GetHad()) > 0 { // before any message
		s.Raft.Member.Told(id, r.GetHad())
	}
	for _, m := range r.GetMessages() {
		if m.GetFrom() != id {
			s.Raft.Metrics.rejected(mismatch) // the others on the stream are its own
			continue
		}
		if m.GetType() == raftpb.MsgSnap { // it comes with its state, by Snapshot
			s.Raft.Metrics.rejected(unexpected)
			continue
		}
		if !s.Raft.wanted(from, m) {
			continue
		}
		if err := s.Raft.Member.Step(stream.Context(), m); err != nil {
			return err
		}
	}
	s.hashes(from, r.GetHashes())
	if r.GetAck() == 0 {
		return nil
	}
	return stream.Send(&skep.MessagesResponse{Ack: r.GetAck()})
}

// hashes passes on what a member's state amounts to. What somebody says who is no member, as far
// as this manager knows, counts for nothing.
func (s *Replication) hashes(from sender, hashes []*skep.StateHash) {
	if s.Raft.Hashes == nil || !from.known {
		return
	}
	for _, h := range hashes {
		s.Raft.Hashes(from.GetRaftId(), h.GetIndex(), h.GetHash())
	}
}
