package rpc

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/tap"

	"skep/ca"
	"skep/model"
)

// A Follower is an Authorizer that tells when its answers change. One that does not is
// asked again only with each message that goes out.
type Follower interface {
	// Follow calls changed with the IDs of nodes whose rights may have changed, "" for
	// all, until ctx ends. It begins with "": what it tells afterwards leaves no gap.
	Follow(ctx context.Context, changed func(nodeID string))
}

// live are the streams of callers that the authorizer has answers about, by the nodes that
// matter: the caller, and the manager that passes its requests on. Whoever loses its rights
// loses its streams, also those on which nothing is said. The authorizer is followed only while there
// are any, by one goroutine, and a change costs what the streams of that node cost.
type live struct {
	follow func(ctx context.Context, changed func(nodeID string)) // nil: nobody tells

	mu      sync.Mutex
	streams map[string]map[*liveStream]struct{}
	count   int
	stop    func() // ends the goroutine, and waits for it
}

// liveStream is one stream that is open.
type liveStream struct {
	nodes [2]string // the caller and its forwarder, "" for none
	stays func() error
	cut   context.CancelCauseFunc
}

func newLive(a Authorizer) *live {
	l := &live{streams: make(map[string]map[*liveStream]struct{})}
	if f, ok := a.(Follower); ok {
		l.follow = f.Follow
	}
	return l
}

// enter notes a stream until leave is called. It judges it once more: what changed before
// is told to nobody.
func (l *live) enter(s *liveStream) error {
	l.mu.Lock()
	for _, id := range s.nodes {
		if id == "" {
			continue
		}
		if l.streams[id] == nil {
			l.streams[id] = make(map[*liveStream]struct{})
		}
		l.streams[id][s] = struct{}{}
	}
	if l.count++; l.count == 1 && l.follow != nil {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			l.follow(ctx, l.changed)
		}()
		l.stop = func() { cancel(); <-done }
	}
	l.mu.Unlock()
	return s.stays()
}

func (l *live) leave(s *liveStream) {
	l.mu.Lock()
	for _, id := range s.nodes {
		delete(l.streams[id], s)
		if len(l.streams[id]) == 0 {
			delete(l.streams, id)
		}
	}
	stop := func() {}
	if l.count--; l.count == 0 && l.stop != nil {
		stop, l.stop = l.stop, nil
	}
	l.mu.Unlock()
	stop() // the goroutine takes the lock
}

// changed judges the streams of a node, "" for all, and ends those that may not go on.
func (l *live) changed(nodeID string) {
	var judge []*liveStream
	l.mu.Lock()
	if nodeID != "" {
		for s := range l.streams[nodeID] {
			judge = append(judge, s)
		}
	} else {
		for _, streams := range l.streams {
			for s := range streams {
				judge = append(judge, s)
			}
		}
	}
	l.mu.Unlock()
	for _, s := range judge {
		if err := s.stays(); err != nil {
			s.cut(err)
		}
	}
}

type cutKey struct{}

// tap gives each stream a context that can be ended from outside of its handler, which may
// wait for a message, or for room to send one: ending it ends both.
func (s *server) tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	m := s.methods[info.FullMethodName]
	if m == nil || m.open || !m.serverStreams && !m.clientStreams {
		return ctx, nil
	}
	ctx, cut := context.WithCancelCause(ctx) // ends with the stream's own, of which it is a part
	return context.WithValue(ctx, cutKey{}, cut), nil
}

// living runs a stream for as long as its caller may have it: stays is asked when something
// changed for the caller.
func (s *server) living(ctx context.Context, stays func() error, run func() error) error {
	cut, ok := ctx.Value(cutKey{}).(context.CancelCauseFunc)
	id := Caller(ctx)
	if !ok || id.Local || id.NodeID == "" {
		return run()
	}
	stream := &liveStream{nodes: [2]string{id.NodeID, id.Forwarder}, stays: stays, cut: cut}
	if id.Forwarder == id.NodeID {
		stream.nodes[1] = ""
	}
	defer s.live.leave(stream)
	if err := s.live.enter(stream); err != nil {
		return err
	}
	err := run()
	var why *model.Error
	if errors.As(context.Cause(ctx), &why) {
		return why
	}
	return err
}

// lapsing wraps credentials so that a connection ends with the certificate of its client.
// A client that has a new one by then connects again with it.
type lapsing struct {
	credentials.TransportCredentials
	now func() time.Time
}

func (l *lapsing) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := l.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		return nil, nil, err
	}
	if peer, ok := info.(ca.Peer); ok && !peer.NotAfter.IsZero() {
		conn = lapseAt(conn, peer.NotAfter, l.now)
	}
	return conn, info, nil
}

// Clone returns l, which has no state.
func (l *lapsing) Clone() credentials.TransportCredentials { return l }

// lapse is a connection that is closed when a wall clock passes a time.
type lapse struct {
	net.Conn
	timer  *time.Timer
	closed atomic.Bool
}

// lapseCheck is how soon the wall clock is asked again at least, if it went back.
const lapseCheck = time.Second

func lapseAt(conn net.Conn, end time.Time, now func() time.Time) *lapse {
	l := &lapse{Conn: conn}
	made := make(chan struct{})
	l.timer = time.AfterFunc(end.Sub(now())+time.Millisecond, func() {
		<-made
		if left := end.Sub(now()); left >= 0 && !l.closed.Load() {
			l.timer.Reset(max(left+time.Millisecond, lapseCheck))
			return
		}
		_ = conn.Close() // its client sees why when it connects again
	})
	close(made)
	return l
}

// Close closes the connection.
func (l *lapse) Close() error {
	l.closed.Store(true)
	l.timer.Stop()
	return l.Conn.Close()
}
