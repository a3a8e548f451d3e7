package manager

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"testing"

	"github.com/moby/swarmkit/v2/api"
	"github.com/moby/swarmkit/v2/ca"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
)

// tlsCredentials are a TLS client that offers what its configuration says and no
// more. grpc's own always offer "h2", and refuse a server that does not take it.
type tlsCredentials struct{ config *tls.Config }

// ClientHandshake implements credentials.TransportCredentials.
func (c tlsCredentials) ClientHandshake(ctx context.Context, _ string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn := tls.Client(raw, c.config)
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, nil, err
	}
	return conn, credentials.TLSInfo{State: conn.ConnectionState()}, nil
}

// ServerHandshake implements credentials.TransportCredentials; a client has none.
func (tlsCredentials) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, net.ErrClosed
}

// Info implements credentials.TransportCredentials.
func (tlsCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements credentials.TransportCredentials.
func (c tlsCredentials) Clone() credentials.TransportCredentials { return c }

// OverrideServerName implements credentials.TransportCredentials.
func (tlsCredentials) OverrideServerName(string) error { return nil }

// dial connects to the manager's port for other nodes.
func (m *swarmd) dial(t *testing.T, with credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	conn := must(grpc.NewClient("passthrough:///"+m.addr, grpc.WithTransportCredentials(with)))(t)
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestHTTP2IsChosenWhenOfferedAndNotDemanded(t *testing.T) {
	t.Parallel()
	m := start(t)
	w := m.member(t, m.cluster(t).RootCA.JoinTokens.Worker)
	for _, offered := range [][]string{{"h2"}, {"http/1.1", "h2"}, nil} {
		config := w.security.ClientTLSCreds.Config().Clone()
		config.NextProtos = offered
		conn := must((&tls.Dialer{Config: config}).DialContext(m.ctx, "tcp", m.addr))(t)
		want := ""
		if offered != nil {
			want = "h2"
		}
		state := conn.(*tls.Conn).ConnectionState()
		if state.NegotiatedProtocol != want {
			t.Errorf("offered %q, the manager chose %q, want %q", offered, state.NegotiatedProtocol, want)
		}
		if state.Version != tls.VersionTLS13 {
			t.Errorf("TLS version is %x, want 1.3", state.Version)
		}
		conn.Close()

		// Chosen or not, it is gRPC that is spoken.
		got := must(api.NewCAClient(m.dial(t, tlsCredentials{config})).GetRootCACertificate(m.ctx, &api.GetRootCACertificateRequest{}))(t)
		if len(got.Certificate) == 0 {
			t.Errorf("offered %q: got no root certificate", offered)
		}
	}
}

func TestAStockWorkerRenewsItsCertificateAndGoesOn(t *testing.T) {
	t.Parallel()
	m := start(t)
	w := m.worker(t, "worker")
	web := m.create(t, service("web", 1))
	m.until(t, "a task runs", func() bool { return len(m.running(t, web.ID)) == 1 })
	before := m.running(t, web.ID)[0]

	// That the node has something new to say of itself makes the agent open a new
	// session as soon as it has the new certificate.
	old := w.leaf(t)
	w.executor.change(func() { w.executor.cpus = 16e9 })
	if err := ca.RenewTLSConfigNow(w.ctx, w.security, w.broker, w.paths.RootCA); err != nil {
		t.Fatal(err)
	}
	if leaf := w.leaf(t); leaf.Subject.CommonName != w.id || leaf.SerialNumber.Cmp(old.SerialNumber) == 0 || leaf.Equal(old) {
		t.Errorf("renewed the certificate of %v as that of %v, with the serial numbers %v and %v", old.Subject, leaf.Subject, old.SerialNumber, leaf.SerialNumber)
	}
	if offers := w.security.ClientTLSCreds.Config().NextProtos; len(offers) > 0 {
		t.Fatalf("after a renewal the library offers %q: this test is to see that offering none works", offers)
	}
	w.executor.until(m.ctx, t, "the worker has another session", func() bool { return w.sessions == 2 })
	m.until(t, "the manager knows what the node said", func() bool {
		n := m.node(t, w.id)
		return n.Status.State == api.NodeStatus_READY && n.Description.Resources.NanoCPUs == 16e9
	})

	m.update(t, web.ID, func(s *api.ServiceSpec) { s.GetReplicated().Replicas = 2 })
	m.until(t, "another task runs beside the first", func() bool {
		tasks := m.running(t, web.ID)
		return len(tasks) == 2 && (tasks[0].ID == before.ID || tasks[1].ID == before.ID)
	})
	w.executor.mu.Lock()
	defer w.executor.mu.Unlock()
	for _, err := range w.failures {
		// The agent may count the end that it made of the first one as a failure.
		if !errors.Is(err, context.Canceled) && status.Code(err) != codes.Canceled {
			t.Errorf("a session failed with %v", err)
		}
	}
}
