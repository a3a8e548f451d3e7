package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"skep/api/skep"
	"skep/model"
)

// link is a connection to a member.
type link struct {
	conn *grpc.ClientConn
	// addr is where it leads, basis what the member's address was said to be then.
	addr, basis string
	// stock is true when a stock manager is at the other end; there is no stream then.
	stock  bool
	stream grpc.BidiStreamingClient[skep.MessagesRequest, skep.MessagesResponse]
	had    []*skep.Had // what the member answered first
	cancel context.CancelCauseFunc
	cause  func() error
}

func (l *link) close() {
	l.cancel(context.Canceled)
	_ = l.conn.Close()
}

// why returns the reason of an error of the stream: gRPC says only that it was canceled.
func (l *link) why(err error) error {
	if cause := l.cause(); cause != nil {
		return cause
	}
	return err
}

// open connects to a member, finds out whether it is the one that is meant, and what it
// speaks. cancel ends ctx, and the link with it.
func (t *Transport) open(ctx context.Context, cancel context.CancelCauseFunc, to *member, addr string) (_ *link, err error) {
	conn, err := t.cfg.Dial(addr)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	l := &link{conn: conn, addr: addr, cancel: cancel, cause: func() error { return context.Cause(ctx) }}
	timer := time.AfterFunc(connectTimeout, func() { cancel(fmt.Errorf("%s did not answer within %s", addr, connectTimeout)) })
	defer timer.Stop()
	defer func() {
		if err != nil {
			err = l.why(err)
			l.close()
		}
	}()
	if l.stream, err = skep.NewReplicationClient(conn).Messages(ctx); err != nil {
		return nil, err
	}
	if err := t.identified(l.stream.Context(), to.nodeID, addr); err != nil {
		return nil, err
	}
	hello := &skep.MessagesRequest{Hello: &skep.Hello{From: t.cfg.Self, To: to.id, Addr: t.cfg.Addr}, Had: t.cfg.Host.Had()}
	if err := l.stream.Send(hello); err != nil && !errors.Is(err, io.EOF) { // EOF: Recv says more
		return nil, err
	}
	answer, err := l.stream.Recv()
	l.had = answer.GetHad()
	if status.Code(err) == codes.Unimplemented {
		l.stock, l.stream, err = true, nil, nil
	}
	return l, err
}

// identified returns an error unless the other end of a stream is the node that is meant. If it
// is another member, that one is looked for there.
func (t *Transport) identified(ctx context.Context, nodeID, addr string) error {
	other := ""
	if p, ok := peer.FromContext(ctx); ok {
		other = t.cfg.NodeID(p.AuthInfo)
	}
	if other != nodeID {
		t.metrics.strangers.Inc()
		t.foundNode(other, addr)
		return model.Errorf(model.Denied, "at %s answers node %q, and not node %s: nothing is sent to it; the other managers are asked for the right address", addr, other, nodeID)
	}
	return nil
}

// watch notices that nothing is acknowledged.
type watch struct {
	timeout time.Duration

	mu    sync.Mutex
	timer *time.Timer
	asked []asked
	last  asked
	at    time.Time // when last was asked
	acked uint64    // bytes
	sent  uint64    // bytes
	over  bool
}

// asked is a request for an acknowledgement, and how many bytes were sent up to there.
type asked struct{ number, bytes uint64 }

// newWatch returns a watch that calls silent when nothing is acknowledged any more.
func newWatch(timeout time.Duration, silent func()) *watch {
	w := &watch{timeout: timeout, timer: time.AfterFunc(time.Hour, silent)}
	w.timer.Stop()
	return w
}

func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	w.timer.Stop()
}

// sending notes that bytes are about to be sent, and returns the number with which
// to ask for an acknowledgement, or 0 when it is not time to. idle is true when there is
// nothing to send but the question.
func (w *watch) sending(bytes int, idle bool) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent += uint64(bytes)
	due := time.Since(w.at) >= w.timeout/8 || w.sent-w.last.bytes >= batchBytes
	if idle {
		due = len(w.asked) == 0
	}
	if !due {
		return 0
	}
	w.at = time.Now()
	w.last = asked{w.last.number + 1, w.sent}
	w.asked = append(w.asked, w.last)
	if len(w.asked) == 1 {
		w.arm()
	}
	return w.last.number
}

// answered notes an acknowledgement.
func (w *watch) answered(number uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	progress := false
	for len(w.asked) > 0 && w.asked[0].number <= number {
		w.acked, w.asked, progress = w.asked[0].bytes, w.asked[1:], true
	}
	switch {
	case len(w.asked) == 0:
		w.timer.Stop()
	case progress:
		w.arm()
	}
}

// arm begins to wait for the oldest acknowledgement.
func (w *watch) arm() {
	if !w.over {
		bytes := w.asked[0].bytes - w.acked
		w.timer.Reset(w.timeout + time.Duration(bytes*uint64(time.Second)/allowance))
	}
}
