package ca

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/credentials"

	"skep/api"
)

// pair returns two ends of a TCP connection on this machine.
func pair(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	type accepted struct {
		conn net.Conn
		err  error
	}
	got := make(chan accepted, 1)
	go func() {
		conn, err := l.Accept()
		got <- accepted{conn, err}
	}()
	client, err = net.Dial("tcp", l.Addr().String())
	a := <-got
	if err = errors.Join(err, a.err); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = client.Close(), a.conn.Close() })
	return client, a.conn
}

type side struct {
	conn net.Conn
	peer Peer
	err  error
}

// shake lets both sides shake hands. A server that refuses a client's
// certificate is heard by the client at its first read only, so both speak.
func shake(t *testing.T, client, server credentials.TransportCredentials) (c, s side) {
	t.Helper()
	left, right := pair(t)
	done := make(chan side, 1)
	go func() {
		s := finish(server.ServerHandshake(right))
		if s.err == nil {
			_, s.err = s.conn.Write([]byte{1})
		}
		done <- s
	}()
	c = finish(client.ClientHandshake(t.Context(), "ignored", left))
	if c.err == nil {
		_, c.err = io.ReadFull(c.conn, make([]byte, 1))
	} else {
		_ = left.Close()
	}
	return c, <-done
}

func finish(conn net.Conn, info credentials.AuthInfo, err error) side {
	p, _ := info.(Peer)
	return side{conn, p, err}
}

// stock speaks TLS with a configuration as it is, as other implementations do.
type stock struct{ config *tls.Config }

func (s stock) ClientHandshake(ctx context.Context, _ string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn := tls.Client(raw, s.config)
	err := conn.HandshakeContext(ctx)
	return conn, nil, err
}

func (s stock) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn := tls.Server(raw, s.config)
	err := conn.Handshake()
	return conn, nil, err
}
func (stock) Info() credentials.ProtocolInfo            { return credentials.ProtocolInfo{} }
func (s stock) Clone() credentials.TransportCredentials { return s }
func (stock) OverrideServerName(string) error           { return nil }

func (s swarm) identity(t testing.TB, nodeID string, role api.NodeRole, now time.Time) *Identity {
	t.Helper()
	return NewIdentity(s.root, s.issue(t, nodeID, role, begin, 0), at(now))
}

func negotiated(t *testing.T, conn net.Conn) string {
	t.Helper()
	c, ok := conn.(*tls.Conn)
	if !ok {
		t.Fatalf("a %T is no TLS connection", conn)
	}
	return c.ConnectionState().NegotiatedProtocol
}

func TestBothSidesLearnWhoIsThere(t *testing.T) {
	t.Parallel()
	s := newSwarm(t, "cluster")
	manager, worker := s.identity(t, "m", api.NodeRole_MANAGER, begin), s.identity(t, "w", api.NodeRole_WORKER, begin)
	c, srv := shake(t, worker.ClientCredentials(ManagerOU), manager.ServerCredentials())
	if c.err != nil || srv.err != nil {
		t.Fatal(c.err, srv.err)
	}
	if srv.peer.NodeID != "w" || srv.peer.Org != "cluster" || len(srv.peer.OUs) != 1 || srv.peer.OUs[0] != WorkerOU || !srv.peer.NotAfter.Equal(worker.Certificate().NotAfter) {
		t.Errorf("the server sees %+v", srv.peer)
	}
	if c.peer.NodeID != "m" || c.peer.OUs[0] != ManagerOU {
		t.Errorf("the client sees %+v", c.peer)
	}
	if got := negotiated(t, c.conn); got != "h2" {
		t.Errorf("protocol %q, want h2", got)
	}
}

func TestALPNIsSelectedWhenOfferedAndNotDemanded(t *testing.T) {
	t.Parallel()
	s := newSwarm(t, "cluster")
	manager := s.identity(t, "m", api.NodeRole_MANAGER, begin)
	worker := s.issue(t, "w", api.NodeRole_WORKER, begin, 0)
	tests := []struct {
		name   string
		offers []string
		want   string
	}{
		{"a first session", []string{"h2"}, "h2"},
		{"a session after a renewal", nil, ""},
		{"a client that speaks more", []string{"http/1.1", "h2"}, "h2"},
	}
	for _, test := range tests {
		t.Run("client: "+test.name, func(t *testing.T) {
			t.Parallel()
			client := stock{&tls.Config{RootCAs: s.root.pool, ServerName: ManagerOU, NextProtos: test.offers, Time: at(begin), Certificates: []tls.Certificate{worker.pair}}}
			c, srv := shake(t, client, manager.ServerCredentials())
			if c.err != nil || srv.err != nil {
				t.Fatal(c.err, srv.err)
			}
			if got := negotiated(t, srv.conn); got != test.want {
				t.Errorf("protocol %q, want %q", got, test.want)
			}
			if srv.peer.NodeID != "w" {
				t.Errorf("peer %+v", srv.peer)
			}
		})
		t.Run("server: "+test.name, func(t *testing.T) {
			t.Parallel()
			server := stock{&tls.Config{Certificates: []tls.Certificate{manager.Certificate().pair}, NextProtos: test.offers, Time: at(begin)}}
			c, srv := shake(t, NewIdentity(s.root, worker, at(begin)).ClientCredentials(ManagerOU), server)
			if c.err != nil || srv.err != nil {
				t.Fatal(c.err, srv.err)
			}
			if got := negotiated(t, c.conn); got != test.want {
				t.Errorf("protocol %q, want %q", got, test.want)
			}
		})
	}
}

func TestAClientWithoutACertificateIsNobody(t *testing.T) {
	t.Parallel()
	s := newSwarm(t, "cluster")
	manager := s.identity(t, "m", api.NodeRole_MANAGER, begin)
	for name, root := range map[string]*Root{"that knows the root": s.root, "that downloads the root": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, srv := shake(t, JoinCredentials(root, at(begin)), manager.ServerCredentials())
			if c.err != nil || srv.err != nil {
				t.Fatal(c.err, srv.err)
			}
			if srv.peer.NodeID != "" || srv.peer.Org != "" || len(srv.peer.OUs) != 0 {
				t.Errorf("the server sees %+v", srv.peer)
			}
			if root == nil && c.peer.NodeID != "" {
				t.Errorf("the client believes an unverified name: %+v", c.peer)
			}
		})
	}
}

func TestHandshakesThatMustFailSayWhy(t *testing.T) {
	t.Parallel()
	s, foreign := newSwarm(t, "cluster"), newSwarm(t, "cluster")
	other := swarm{org: "other", root: s.root, signer: s.signer}
	late, early := begin.AddDate(1, 0, 0), begin.Add(-3*time.Hour)
	manager := s.identity(t, "m", api.NodeRole_MANAGER, begin)
	worker := s.identity(t, "w", api.NodeRole_WORKER, begin)
	tests := []struct {
		name           string
		client, server credentials.TransportCredentials
		clientSays     string
		serverSays     string
	}{
		{"a client of another swarm", foreign.identity(t, "w", api.NodeRole_WORKER, begin).ClientCredentials(ManagerOU), manager.ServerCredentials(), "another swarm", ""},
		{"a client of another swarm that trusts us", NewIdentity(s.root, foreign.issue(t, "w", api.NodeRole_WORKER, begin, 0), at(begin)).ClientCredentials(ManagerOU), manager.ServerCredentials(), "", "another swarm"},
		{"a manager of another swarm with our root", worker.ClientCredentials(ManagerOU), other.identity(t, "m", api.NodeRole_MANAGER, begin).ServerCredentials(), `belongs to swarm ["other"]`, ""},
		{"a worker that plays manager", worker.ClientCredentials(ManagerOU), s.identity(t, "w2", api.NodeRole_WORKER, begin).ServerCredentials(), "swarm-manager", ""},
		{"a worker that plays the CA", JoinCredentials(s.root, at(begin)), s.identity(t, "w2", api.NodeRole_WORKER, begin).ServerCredentials(), "swarm-ca", ""},
		{"our certificate expired", s.identity(t, "w", api.NodeRole_WORKER, late).ClientCredentials(ManagerOU), manager.ServerCredentials(), "expired at", ""},
		{"our clock is before our certificate", s.identity(t, "w", api.NodeRole_WORKER, early).ClientCredentials(ManagerOU), manager.ServerCredentials(), "set the clock", ""},
		{"the client's certificate expired", worker.ClientCredentials(ManagerOU), s.identity(t, "m", api.NodeRole_MANAGER, late).ServerCredentials(), "", "expired at"},
		{"the manager's clock is behind", worker.ClientCredentials(ManagerOU), s.identity(t, "m", api.NodeRole_MANAGER, early).ServerCredentials(), "", "set the clock"},
		{"a joining node's clock is behind", JoinCredentials(s.root, at(early)), manager.ServerCredentials(), "set the clock", ""},
		{"TLS 1.1", stock{&tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}}, manager.ServerCredentials(), "", "version"},
		{"a server of TLS 1.1", worker.ClientCredentials(ManagerOU), stock{&tls.Config{Certificates: []tls.Certificate{manager.Certificate().pair}, MaxVersion: tls.VersionTLS11}}, "version", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c, srv := shake(t, test.client, test.server)
			for who, said := range map[string]struct {
				err  error
				want string
			}{"client": {c.err, test.clientSays}, "server": {srv.err, test.serverSays}} {
				if said.err == nil {
					t.Errorf("the %s was content", who)
				} else if !strings.Contains(said.err.Error(), said.want) {
					t.Errorf("the %s says %q, want %q", who, said.err, said.want)
				}
			}
		})
	}
}

func TestANewIdentityIsUsedByTheNextHandshake(t *testing.T) {
	t.Parallel()
	s := newSwarm(t, "cluster")
	manager, node := s.identity(t, "m", api.NodeRole_MANAGER, begin), s.identity(t, "n", api.NodeRole_WORKER, begin)
	client, server := node.ClientCredentials(ManagerOU), manager.ServerCredentials()
	if _, srv := shake(t, client, server); srv.peer.OUs[0] != WorkerOU {
		t.Fatalf("peer %+v", srv.peer)
	}
	changed := node.Changed()
	node.Replace(s.root, s.issue(t, "n", api.NodeRole_MANAGER, begin, 0))
	select {
	case <-changed:
	default:
		t.Error("Replace woke nobody")
	}
	if _, srv := shake(t, client, server); srv.peer.OUs[0] != ManagerOU {
		t.Errorf("peer %+v", srv.peer)
	}
	if node.Role() != api.NodeRole_MANAGER {
		t.Errorf("role %s", node.Role())
	}
}

func TestAChainWithAnIntermediateIsSent(t *testing.T) {
	t.Parallel()
	s := newSwarm(t, "cluster")
	node := s.issue(t, "n", api.NodeRole_WORKER, begin, 0)
	chain := append(append([]byte(nil), node.PEM()...), s.root.PEM()...)
	cert, err := NewCertificate(s.root, chain, node.key)
	if err != nil {
		t.Fatal(err)
	}
	if len(cert.pair.Certificate) != 2 {
		t.Errorf("%d certificates, want 2", len(cert.pair.Certificate))
	}
	if _, err := x509.ParseCertificate(cert.pair.Certificate[1]); err != nil {
		t.Error(err)
	}
}
