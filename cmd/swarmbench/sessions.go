package main

import (
	"context"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
)

// sessions knows when each agent was last given a session. The agents say so
// themselves: a manager lists a node as ready before the node has noticed that
// another one leads.
type sessions struct {
	mu   sync.Mutex
	last map[string]time.Time
}

// noting returns conn, on which the sessions of node are noted. What counts is the
// first message of a session.
func (s *sessions) noting(conn grpc.ClientConnInterface, node string) grpc.ClientConnInterface {
	return notingConn{conn, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.last == nil {
			s.last = map[string]time.Time{}
		}
		s.last[node] = time.Now()
	}}
}

// since reports whether node was given a session after t.
func (s *sessions) since(node string, t time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last[node].After(t)
}

// after returns how many agents were given a session after t, and when the last was.
func (s *sessions) after(t time.Time) (n int, last time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, at := range s.last {
		if at.After(t) {
			n++
		}
		if at.After(last) {
			last = at
		}
	}
	return n, last
}

type notingConn struct {
	grpc.ClientConnInterface
	begun func()
}

func (c notingConn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := c.ClientConnInterface.NewStream(ctx, desc, method, opts...)
	if err != nil || !strings.HasSuffix(method, "Dispatcher/Session") {
		return stream, err
	}
	return &notingStream{ClientStream: stream, begun: sync.OnceFunc(c.begun)}, nil
}

type notingStream struct {
	grpc.ClientStream
	begun func()
}

func (s *notingStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err == nil {
		s.begun()
	}
	return err
}
