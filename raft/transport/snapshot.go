package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"skep/api/skep"
)

const (
	// chunkBytes is how much of a snapshot goes into a message.
	chunkBytes = 32 << 10
	// The window, in chunks that are sent and not acknowledged, grows while they are
	// acknowledged within quick, and shrinks when it takes longer than slow: then they wait in a
	// queue somewhere on the way, and what elections need would wait behind them.
	firstWindow, maxWindow = 4, 64
	quick, slow            = 100 * time.Millisecond, 250 * time.Millisecond
	// snapshotSilence is how long nothing may be acknowledged: the receiver syncs its
	// disk now and then. commitSilence is how long it may take over the whole.
	snapshotSilence, commitSilence = 10 * time.Second, time.Minute
	// After so many attempts that moved nothing raft is told that the snapshot failed. It
	// then asks for one again.
	maxFutile = 20
)

// snapshots is the MsgSnap that a member is to get, at most one.
type snapshots struct {
	mu      sync.Mutex
	next    *raftpb.Message
	now     *raftpb.Message // under way
	covers  uint64          // the index of the snapshot under way
	stop    context.CancelCauseFunc
	arrived chan struct{} // has one element when there may be a next
}

func newSnapshots() *snapshots { return &snapshots{arrived: make(chan struct{}, 1)} }

var (
	errSuperseded = errors.New("another snapshot is to be sent")
	errOutdated   = errors.New("this manager has heard of a newer term")
)

// offer makes m the snapshot to send. One under way goes on in its name if it is good enough.
func (s *snapshots) offer(m *raftpb.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now != nil && s.now.GetTerm() == m.GetTerm() && s.covers >= m.GetSnapshot().GetMetadata().GetIndex() {
		return
	}
	s.next = m
	if s.stop != nil {
		s.stop(errSuperseded)
	}
	select {
	case s.arrived <- struct{}{}:
	default:
	}
}

// outdate stops what is sent in the name of a term that a later message shows to be over.
func (s *snapshots) outdate(m *raftpb.Message) {
	if t := m.GetType(); t == raftpb.MsgPreVote || t == raftpb.MsgPreVoteResp {
		return // its term has not begun
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next != nil && s.next.GetTerm() < m.GetTerm() {
		s.next = nil
	}
	if s.now != nil && s.now.GetTerm() < m.GetTerm() {
		s.now = nil
		if s.stop != nil {
			s.stop(errOutdated)
		}
	}
}

// take returns what is to be sent now, nil if nothing is. stop ends the attempt.
func (s *snapshots) take(stop context.CancelCauseFunc) *raftpb.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next != nil {
		s.now, s.next = s.next, nil
	}
	s.stop = stop
	return s.now
}

// cover notes which snapshot is under way.
func (s *snapshots) cover(index uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.covers = index
}

// done ends what is under way.
func (s *snapshots) done() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now, s.stop, s.covers = nil, nil, 0
}

// runSnapshots sends snapshots until ctx ends.
func (p *member) runSnapshots(ctx context.Context) {
	for {
		select {
		case <-p.snapshots.arrived:
		case <-ctx.Done():
			return
		}
		began := time.Now()
		index, err := p.sendSnapshot(ctx)
		p.snapshots.done()
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errOutdated):
			continue // raft knows nothing of it any more
		case err != nil:
			p.t.cfg.Log.Warn("a snapshot could not be sent to a manager; raft will try again", "node.id", p.nodeID, "raft.index", index, "error", err)
			if isRemoved(err) {
				p.t.cfg.Host.Removed()
			}
		default:
			p.t.cfg.Log.Info("a snapshot was sent to a manager", "node.id", p.nodeID, "raft.index", index, "took", time.Since(began))
		}
		p.t.cfg.Host.ReportSnapshot(p.id, err == nil)
	}
}

// sendSnapshot sends the snapshot that is to be sent, in as many attempts as it takes, and
// returns the index of the one it was at last.
func (p *member) sendSnapshot(ctx context.Context) (index uint64, err error) {
	var out *outgoing
	defer func() {
		if out != nil {
			_ = out.State.Close() // it was read only
		}
	}()
	pause, futile := minRetry, 0
	for {
		attempt, stop := context.WithCancelCause(ctx)
		m := p.snapshots.take(stop)
		if m == nil {
			stop(nil)
			return index, errOutdated
		}
		if out == nil || index < m.GetSnapshot().GetMetadata().GetIndex() {
			if out != nil {
				_ = out.State.Close()
			}
			if out, err = p.openSnapshot(m); err != nil {
				stop(nil)
				return index, err
			}
			index = out.Meta.GetIndex()
		}
		p.snapshots.cover(index)
		before := out.acked
		err = p.trySnapshot(attempt, stop, m, out)
		cause := context.Cause(attempt)
		stop(nil)
		switch {
		case err == nil, isRemoved(err):
			return index, err
		case ctx.Err() != nil:
			return index, ctx.Err()
		case errors.Is(cause, errSuperseded), errors.Is(cause, errOutdated):
			continue
		case cause != nil:
			err = cause // gRPC says only that it was canceled
		}
		p.t.cfg.Log.Debug("a snapshot was interrupted", "node.id", p.nodeID, "raft.index", index, "offset", out.acked, "error", err)
		if out.acked > before {
			pause, futile = minRetry, 0
		} else if futile++; futile == maxFutile {
			return index, err
		}
		select {
		case <-time.After(jittered(pause)):
		case <-ctx.Done():
			return index, ctx.Err()
		}
		pause = min(2*pause, maxRetry)
	}
}

// outgoing is a snapshot that is being sent.
type outgoing struct {
	*Outgoing
	sums  []uint32 // of the state's first i MiB
	acked uint64   // the most that the receiver has had
}

func (p *member) openSnapshot(m *raftpb.Message) (*outgoing, error) {
	index := m.GetSnapshot().GetMetadata().GetIndex()
	out, err := p.t.cfg.Host.OpenSnapshot(index)
	if err != nil {
		return nil, fmt.Errorf("open the snapshot at %d: %w", index, err)
	}
	return &outgoing{Outgoing: out, sums: []uint32{0}}, nil
}

// sumEvery is how often the sum of what was read is kept, in bytes.
const sumEvery = 1 << 20

// seek makes the state be read from offset, and returns the sum of what is before.
func (o *outgoing) seek(offset uint64) (uint32, error) {
	i := min(offset/sumEvery, uint64(len(o.sums)-1))
	at, sum := i*sumEvery, o.sums[i]
	if _, err := o.State.Seek(int64(at), io.SeekStart); err != nil {
		return 0, fmt.Errorf("read the snapshot: %w", err)
	}
	buf := make([]byte, chunkBytes)
	for at < offset {
		piece := buf[:min(chunkBytes, offset-at)]
		if _, err := io.ReadFull(o.State, piece); err != nil {
			return 0, fmt.Errorf("read the snapshot up to %d, from where the receiver wants it: %w", offset, err)
		}
		at, sum = at+uint64(len(piece)), Sum(sum, piece)
		o.keep(at, sum)
	}
	return sum, nil
}

// keep notes the sum of what is before offset.
func (o *outgoing) keep(offset uint64, sum uint32) {
	if offset == uint64(len(o.sums))*sumEvery {
		o.sums = append(o.sums, sum)
	}
}

// trySnapshot sends out in the name of m over a connection of its own, from where the
// receiver wants it, and returns when the receiver has all of it.
func (p *member) trySnapshot(ctx context.Context, stop context.CancelCauseFunc, m *raftpb.Message, out *outgoing) error {
	addr := *p.addr.Load()
	if l := p.link.Load(); l != nil {
		addr = l.addr
	}
	conn, err := p.t.cfg.Dial(addr)
	if err != nil {
		return fmt.Errorf("dial %s: %w", addr, err)
	}
	defer func() { _ = conn.Close() }()
	m = proto.CloneOf(m)
	m.Snapshot = &raftpb.Snapshot{Metadata: out.Meta}
	silence := time.AfterFunc(snapshotSilence, func() { stop(errors.New("it acknowledged nothing of a snapshot for too long")) })
	defer silence.Stop()
	stream, err := skep.NewReplicationClient(conn).Snapshot(ctx)
	if err != nil {
		return err
	}
	if err := p.t.identified(stream.Context(), p.nodeID, addr); err != nil {
		return err
	}
	header := &skep.SnapshotHeader{Id: out.ID, Size: out.Size, Message: m, Members: out.Members, Removed: out.Removed}
	if err := stream.Send(&skep.SnapshotRequest{Part: &skep.SnapshotRequest_Header{Header: header}}); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	first, err := stream.Recv()
	if status.Code(err) == codes.Unimplemented {
		silence.Stop()
		return p.sendStockSnapshot(ctx, conn, addr, m)
	}
	if err != nil {
		return err
	}
	if first.GetOffset() > 0 {
		p.t.metrics.resumed.Inc()
	}
	out.acked = max(out.acked, first.GetOffset())
	s := sending{
		stream: stream, out: out, silence: silence, metrics: p.t.metrics,
		flow: flow{size: firstWindow * chunkBytes, acked: first.GetOffset(), moved: make(chan struct{}, 1)},
	}
	return s.run(ctx, first.GetOffset())
}

// sending is one attempt to send a snapshot.
type sending struct {
	stream  grpc.BidiStreamingClient[skep.SnapshotRequest, skep.SnapshotResponse]
	out     *outgoing
	silence *time.Timer
	metrics *metrics
	flow    flow
}

func (s *sending) run(ctx context.Context, offset uint64) error {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		defer cancel()
		ended <- s.receive()
	}()
	err := s.send(ctx, offset)
	if err != nil && !errors.Is(err, io.EOF) && ctx.Err() == nil {
		cancel()
		_ = s.stream.CloseSend() // the receiver ends without an end, and keeps what it has
	}
	if said := <-ended; said != nil || err == nil || errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) {
		return said
	}
	return err
}

// send sends chunks from offset on, and the end.
func (s *sending) send(ctx context.Context, offset uint64) error {
	sum, err := s.out.seek(offset)
	if err != nil {
		return err
	}
	buf := make([]byte, chunkBytes)
	for {
		piece := buf[:chunkBytes-offset%chunkBytes] // so that sums are kept at their places
		n, err := io.ReadFull(s.out.State, piece)
		end := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !end {
			return fmt.Errorf("read the snapshot: %w", err)
		}
		if piece = piece[:n]; n > 0 {
			if err := s.flow.wait(ctx, offset); err != nil {
				return err
			}
			chunk := &skep.SnapshotChunk{Offset: offset, Data: piece, Crc: Sum(0, piece)}
			offset, sum = offset+uint64(n), Sum(sum, piece)
			s.out.keep(offset, sum)
			s.flow.sent(offset)
			if err := s.stream.Send(&skep.SnapshotRequest{Part: &skep.SnapshotRequest_Chunk{Chunk: chunk}}); err != nil {
				return err
			}
			s.metrics.snapshot.Add(float64(n))
		}
		if end {
			end := &skep.SnapshotEnd{Size: offset, Crc: sum}
			s.flow.end()
			s.silence.Reset(commitSilence)
			return s.stream.Send(&skep.SnapshotRequest{Part: &skep.SnapshotRequest_End{End: end}})
		}
	}
}

// receive notes what the receiver has until it has all; then it returns nil.
func (s *sending) receive() error {
	for {
		r, err := s.stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return errors.New("the receiver of a snapshot ended without saying that it has it")
		case err != nil:
			return err
		case r.GetDone():
			return nil
		}
		s.out.acked = max(s.out.acked, r.GetOffset())
		if s.flow.ack(r.GetOffset()) {
			s.silence.Reset(commitSilence)
		} else {
			s.silence.Reset(snapshotSilence)
		}
	}
}

// flow bounds what is sent and not acknowledged.
type flow struct {
	mu    sync.Mutex
	size  uint64 // of the window, in bytes
	acked uint64
	times []sentAt
	ended bool
	moved chan struct{} // has one element when acked may have moved
}

// sentAt says when a chunk was sent that ends at offset.
type sentAt struct {
	offset uint64
	at     time.Time
}

// wait returns when a chunk at offset may be sent.
func (f *flow) wait(ctx context.Context, offset uint64) error {
	for {
		f.mu.Lock()
		open := offset < f.acked+f.size
		f.mu.Unlock()
		if open {
			return nil
		}
		select {
		case <-f.moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (f *flow) sent(offset uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.times = append(f.times, sentAt{offset, time.Now()})
}

func (f *flow) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
}

// ack notes that the receiver has all before offset, and reports whether that is all there is.
func (f *flow) ack(offset uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.acked = max(f.acked, offset)
	for len(f.times) > 0 && f.times[0].offset <= offset {
		switch took := time.Since(f.times[0].at); {
		case took < quick:
			f.size = min(f.size+chunkBytes, maxWindow*chunkBytes)
		case took > slow:
			f.size = max(f.size-chunkBytes, chunkBytes)
		}
		f.times = f.times[1:]
	}
	select {
	case f.moved <- struct{}{}:
	default:
	}
	return f.ended && len(f.times) == 0
}
