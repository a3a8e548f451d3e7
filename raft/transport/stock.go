package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"skep/api"
)

const (
	// stockTimeout is how long a stock manager may take to accept a frame, or to answer.
	stockTimeout = 2 * time.Second
	// stockFrame is how much of a snapshot goes into one frame: less than 4 MiB with the
	// message around it.
	stockFrame = 4<<20 - 64<<10
)

// serveStock sends what is queued to a stock manager, a call a message, until the connection
// breaks or ctx ends.
func (p *member) serveStock(ctx context.Context, l *link) error {
	for {
		if addr := *p.addr.Load(); addr != l.addr && addr != l.basis {
			return errMoved
		}
		request, _ := p.batch()
		for _, m := range request.GetMessages() {
			if err := p.sendStock(ctx, l, m); err != nil {
				return err
			}
			p.t.metrics.sent.Inc()
		}
		if request != nil {
			continue
		}
		select {
		case <-p.queue.wake:
		case <-p.moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// sendStock sends a message to a stock manager and waits until it was taken.
func (p *member) sendStock(ctx context.Context, l *link, m *raftpb.Message) error {
	err := p.stream(ctx, l, m, nil)
	if status.Code(err) != codes.Unimplemented {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, stockTimeout)
	defer cancel()
	_, err = api.NewRaftClient(l.conn).ProcessRaftMessage(ctx, &api.ProcessRaftMessageRequest{Message: m})
	return err
}

// stream sends a message with StreamRaftMessage: one frame, or for a snapshot as many as the
// state takes, each with the same message around its piece.
func (p *member) stream(ctx context.Context, l *link, m *raftpb.Message, state io.Reader) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	late := func() { cancel(fmt.Errorf("it took no message within %s", stockTimeout)) }
	watchdog := time.AfterFunc(stockTimeout, late)
	defer watchdog.Stop()
	err := func() error {
		stream, err := api.NewRaftClient(l.conn).StreamRaftMessage(ctx)
		if err != nil {
			return err
		}
		// gRPC may have connected again by itself since the link was made.
		if err := p.t.identified(stream.Context(), p.nodeID, l.addr); err != nil {
			return err
		}
		err = frames(m, state, func(frame *raftpb.Message) error {
			watchdog.Reset(stockTimeout)
			return stream.Send(&api.StreamRaftMessageRequest{Message: frame})
		})
		if err != nil && !errors.Is(err, io.EOF) { // EOF: the answer says why
			return err
		}
		watchdog.Reset(stockTimeout)
		_, err = stream.CloseAndRecv()
		return err
	}()
	if cause := context.Cause(ctx); err != nil && cause != nil && status.Code(err) == codes.Canceled {
		return cause
	}
	return err
}

// frames cuts a message into frames.
func frames(m *raftpb.Message, state io.Reader, send func(*raftpb.Message) error) error {
	if state == nil {
		return send(m)
	}
	buf := make([]byte, stockFrame)
	for first := true; ; first = false {
		n, err := io.ReadFull(state, buf)
		end := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !end {
			return fmt.Errorf("read the snapshot for a stock manager: %w", err)
		}
		if n > 0 || first {
			frame := proto.CloneOf(m)
			frame.Snapshot.Data = buf[:n]
			if err := send(frame); err != nil {
				return err
			}
		}
		if end {
			return nil
		}
	}
}

// sendStockSnapshot sends a snapshot to a stock manager.
func (p *member) sendStockSnapshot(ctx context.Context, conn *grpc.ClientConn, addr string, m *raftpb.Message) error {
	if p.t.cfg.StockSnapshot == nil {
		return errors.New("this manager makes no snapshots that a stock manager reads")
	}
	state, err := p.t.cfg.StockSnapshot(m.GetSnapshot().GetMetadata().GetIndex())
	if err != nil {
		return fmt.Errorf("make a snapshot for a stock manager: %w", err)
	}
	return errors.Join(p.stream(ctx, &link{conn: conn, addr: addr}, m, state), state.Close())
}
