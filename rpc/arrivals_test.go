package rpc

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"

	"skep/api"
)

// A server that waited for whoever connects and says nothing would be stopped by
// the first port scan for as long as it likes.
func TestWhoSaysNothingDoesNotHoldUpTheEnd(t *testing.T) {
	t.Parallel()
	const patience = connectTimeout / 4 // far less than a handshake may take
	s := newSwarm(t)
	local := Config{Credentials: LocalCredentials(nil), Local: func() Identity { return Identity{NodeID: "m"} }}
	remote := Config{
		Credentials: s.identity(t, "m", org, api.NodeRole_MANAGER).ServerCredentials(),
		Authorizer:  NewMembers(s.store, org),
	}
	stop, drain := (*grpc.Server).Stop, (*grpc.Server).GracefulStop
	for _, test := range []struct {
		name string
		cfg  Config
		says string
		end  func(*grpc.Server)
	}{
		{"remote, nothing", remote, "", stop},
		{"remote, nothing, drained", remote, "", drain},
		{"remote, half a hello", remote, "\x16\x03\x01", stop},
		{"local, nothing", local, "", stop},
		{"local, a letter", local, "P", stop},
		{"local, a letter, drained", local, "P", drain},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l, err := ListenRemote("127.0.0.1:0")
			if test.cfg.Local != nil {
				l, err = ListenLocal(filepath.Join(t.TempDir(), "s"))
			}
			if err != nil {
				t.Fatal(err)
			}
			g, err := NewServer(test.cfg)
			if err != nil {
				t.Fatal(err)
			}
			served := make(chan error, 1)
			watched := watched{l, make(chan struct{}, 1)}
			go func() { served <- g.Serve(watched) }()
			conn, err := net.Dial(l.Addr().Network(), l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			if _, err := conn.Write([]byte(test.says)); err != nil {
				t.Fatal(err)
			}
			<-watched.begun
			began := time.Now()
			test.end(g)
			if took := time.Since(began); took > patience {
				t.Errorf("the end took %v", took)
			}
			if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
				t.Error(err)
			}
		})
	}
}

// watched is a listener that tells when the server begins with a connection.
type watched struct {
	net.Listener
	begun chan struct{}
}

func (w watched) Accept() (net.Conn, error) {
	conn, err := w.Listener.Accept()
	return watchedConn{conn, w.begun}, err
}

type watchedConn struct {
	net.Conn
	begun chan struct{}
}

func (c watchedConn) SetDeadline(t time.Time) error {
	if !t.IsZero() {
		c.begun <- struct{}{}
	}
	return c.Conn.SetDeadline(t)
}

func TestARequestInFlightOutlivesTheListener(t *testing.T) {
	t.Parallel()
	s := newSwarm(t)
	s.node(t, "m2", api.NodeRole_MANAGER)
	asked, answer := make(chan struct{}), make(chan struct{})
	g, err := NewServer(Config{
		Credentials: s.identity(t, "m", org, api.NodeRole_MANAGER).ServerCredentials(),
		Authorizer:  NewMembers(s.store, org),
	}, health{check: func(context.Context) error {
		close(asked)
		<-answer
		return nil
	}}.register)
	if err != nil {
		t.Fatal(err)
	}
	l := loopback(t)
	served := make(chan error, 1)
	go func() { served <- g.Serve(l) }()
	c := dial(t, l.Addr().String(), s.identity(t, "m2", org, api.NodeRole_MANAGER))
	done := make(chan error, 1)
	go func() {
		_, err := c.Health.Check(t.Context(), &api.HealthCheckRequest{})
		done <- err
	}()
	<-asked
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	<-served // nothing is accepted any more
	close(answer)
	if err := <-done; err != nil {
		t.Errorf("the request ended with %v", err)
	}
	g.Stop()
}
