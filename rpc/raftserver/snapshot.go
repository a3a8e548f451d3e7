package raftserver

import (
	"context"
	"errors"
	"io"
	"sync"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"skep/api/skep"
	"skep/model"
	"skep/raft/transport"
)

// receiving is what snapshots are being received, one from each sender.
type receiving struct {
	mu    sync.Mutex
	slots map[uint64]*slot
}

// slot is the snapshot that comes from one sender. When its connection broke and it sends
// again, this side may not know yet that the old stream is over: the new one takes its place.
type slot struct {
	turn  chan struct{} // who has its element may use what is below
	owner *receipt
	// What the last receipt ended with.
	id     string
	offset uint64
	sum    uint32
}

// receipt is one stream that brings a snapshot, or a part of it.
type receipt struct {
	in     Incoming
	offset uint64
	sum    uint32
	summed bool // sum is that of all before offset
}

func (r *receiving) slot(from uint64) *slot {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.slots[from]
	if s == nil {
		if r.slots == nil {
			r.slots = map[uint64]*slot{}
		}
		s = &slot{turn: make(chan struct{}, 1)}
		s.turn <- struct{}{}
		r.slots[from] = s
	}
	return s
}

// begin makes a receipt the owner.
func (s *slot) begin(ctx context.Context, member Member, m *raftpb.Message, header transport.Header) (*receipt, error) {
	select {
	case <-s.turn:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer s.release()
	if err := s.close(); err != nil {
		return nil, err
	}
	in, err := member.ReceiveSnapshot(m, header)
	if err != nil {
		return nil, err
	}
	r := &receipt{in: in, offset: in.Offset()}
	switch known, ok := in.(interface{ Sum() (uint32, bool) }); {
	case r.offset == 0:
		r.summed = true
	case s.id == header.ID && s.offset == r.offset:
		r.sum, r.summed = s.sum, true
	case ok:
		r.sum, r.summed = known.Sum()
	}
	s.owner, s.id = r, header.ID
	return r, nil
}

func (s *slot) release() { s.turn <- struct{}{} }

// close ends the owner and keeps what it has.
func (s *slot) close() error {
	r := s.owner
	if r == nil {
		return nil
	}
	s.owner = nil
	s.offset, s.sum = r.offset, r.sum
	if !r.summed {
		s.id = ""
	}
	return r.in.Close()
}

// use calls f while r owns the slot.
func (s *slot) use(r *receipt, f func() error) error {
	<-s.turn
	defer s.release()
	if s.owner != r {
		return status.Error(codes.Aborted, "the sender of this snapshot sends it on another stream")
	}
	return f()
}

// Snapshot takes a snapshot, from where an earlier attempt with the same ID ended.
func (s *Replication) Snapshot(stream grpc.BidiStreamingServer[skep.SnapshotRequest, skep.SnapshotResponse]) error {
	request, err := stream.Recv()
	if err != nil {
		return err
	}
	header := request.GetHeader()
	m := header.GetMessage()
	if m.GetType() != raftpb.MsgSnap || m.GetSnapshot().GetMetadata().GetIndex() == 0 || header.GetId() == "" {
		return model.Errorf(model.Invalid, "a snapshot begins with a header that has an id, and a message of type MsgSnap with the snapshot's metadata")
	}
	from, err := s.Raft.sender(stream.Context(), m.GetFrom())
	if err != nil {
		return err
	}
	if !s.Raft.wanted(from, m) {
		return model.Errorf(model.Precondition, "this manager is raft member %x and not %x: ask another manager for the address", s.Raft.Member.ID(), m.GetTo())
	}
	slot := s.Raft.receiving.slot(m.GetFrom())
	r, err := slot.begin(stream.Context(), s.Raft.Member, m, transport.Header{
		ID: header.GetId(), Size: header.GetSize(), Members: header.GetMembers(), Removed: header.GetRemoved(),
	})
	if err != nil {
		return err
	}
	err = s.receive(stream, m.GetFrom(), slot, r)
	return errors.Join(err, s.giveUp(slot, r))
}

// giveUp keeps what r has, if it owns the slot still.
func (s *Replication) giveUp(slot *slot, r *receipt) error {
	<-slot.turn
	defer slot.release()
	if slot.owner != r {
		return nil
	}
	return slot.close()
}

// receive takes the chunks of a snapshot, and its end.
func (s *Replication) receive(stream grpc.BidiStreamingServer[skep.SnapshotRequest, skep.SnapshotResponse], from uint64, slot *slot, r *receipt) error {
	for answer := (&skep.SnapshotResponse{Offset: r.offset}); ; {
		if err := stream.Send(answer); err != nil {
			return err
		}
		if answer.GetDone() {
			return nil
		}
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return model.Errorf(model.Invalid, "a snapshot ended before its end: send the rest")
		}
		if err != nil {
			return err
		}
		if _, err := s.Raft.sender(stream.Context(), from); err != nil {
			return err
		}
		err = slot.use(r, func() error {
			switch part := request.GetPart().(type) {
			case *skep.SnapshotRequest_Chunk:
				err = s.chunk(r, part.Chunk)
			case *skep.SnapshotRequest_End:
				err = s.end(stream.Context(), slot, r, part.End)
			default:
				err = model.Errorf(model.Invalid, "after the header of a snapshot come chunks and an end")
			}
			return err
		})
		if err != nil {
			return err
		}
		answer = &skep.SnapshotResponse{Offset: r.offset, Done: request.GetEnd() != nil}
	}
}

// chunk adds a chunk.
func (s *Replication) chunk(r *receipt, c *skep.SnapshotChunk) error {
	switch data := c.GetData(); {
	case c.GetOffset() != r.offset:
		return model.Errorf(model.Invalid, "a chunk of a snapshot begins at %d, want %d", c.GetOffset(), r.offset)
	case len(data) == 0 || len(data) > transport.MaxChunk:
		return model.Errorf(model.Invalid, "a chunk of a snapshot has %d bytes, want 1 to %d", len(data), transport.MaxChunk)
	case transport.Sum(0, data) != c.GetCrc():
		s.Raft.Metrics.rejected(damaged)
		return status.Errorf(codes.DataLoss, "the chunk at %d of a snapshot arrived damaged: send it again", r.offset)
	}
	n, err := r.in.Write(c.GetData())
	if err != nil {
		return err
	}
	r.offset += uint64(n)
	r.sum = transport.Sum(r.sum, c.GetData()[:n])
	return nil
}

// end checks the whole and hands it over.
func (s *Replication) end(ctx context.Context, slot *slot, r *receipt, end *skep.SnapshotEnd) error {
	slot.owner, slot.id = nil, ""
	if end.GetSize() != r.offset || r.summed && end.GetCrc() != r.sum {
		s.Raft.Metrics.rejected(damaged)
		r.in.Abort()
		return status.Errorf(codes.DataLoss, "a snapshot arrived damaged, with %d bytes and sum %08x, want %d and %08x: send it again", r.offset, r.sum, end.GetSize(), end.GetCrc())
	}
	return r.in.Commit(ctx)
}
