package rpc

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"

	"skep/api"
	"skep/ca"
	"skep/client"
	"skep/store"
)

const org = "thecluster"

// swarm is a root, its signer and a store whose cluster has them.
type swarm struct {
	root   *ca.Root
	signer *ca.Signer
	store  *store.Store
}

func newSwarm(t testing.TB) swarm {
	t.Helper()
	root, key, err := ca.NewRoot(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ca.NewSigner(root, key)
	if err != nil {
		t.Fatal(err)
	}
	s := swarm{root: root, signer: signer, store: store.NewLocal(store.Config{})}
	s.write(t, func(tx *store.Tx) error {
		return tx.Create(&api.Cluster{
			Id: org, Spec: &api.ClusterSpec{Annotations: &api.Annotations{Name: "default"}},
			BlacklistedCertificates: map[string]*api.BlacklistedCertificate{"removed": {}},
		})
	})
	return s
}

func (s swarm) write(t testing.TB, f func(*store.Tx) error) {
	t.Helper()
	if err := s.store.Update(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

// node makes a node in the store.
func (s swarm) node(t testing.TB, id string, role api.NodeRole) {
	t.Helper()
	s.write(t, func(tx *store.Tx) error { return tx.Create(&api.Node{Id: id, Role: role}) })
}

// identity is that of a node whose certificate lives as long as usual, or as it is told.
func (s swarm) identity(t testing.TB, id, org string, role api.NodeRole, lives ...time.Duration) *ca.Identity {
	t.Helper()
	key, err := ca.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	request, err := key.Request()
	if err != nil {
		t.Fatal(err)
	}
	chain, err := s.signer.Sign(request, ca.Subject{NodeID: id, Org: org, Role: role}, time.Now(), append(lives, 0)[0])
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.NewCertificate(s.root, chain, key)
	if err != nil {
		t.Fatal(err)
	}
	return ca.NewIdentity(s.root, cert, nil)
}

// serve runs a server until the test ends and returns its address.
func serve(t testing.TB, l net.Listener, cfg Config, register ...func(grpc.ServiceRegistrar)) string {
	t.Helper()
	g, err := NewServer(cfg, register...)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- g.Serve(l) }()
	t.Cleanup(func() {
		g.Stop()
		if err := <-done; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Errorf("Serve returned %v", err)
		}
	})
	return l.Addr().String()
}

func loopback(t testing.TB) net.Listener {
	t.Helper()
	l, err := ListenRemote("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// remote serves over mTLS as a manager of s and returns its address.
func (s swarm) remote(t testing.TB, cfg Config, register ...func(grpc.ServiceRegistrar)) string {
	t.Helper()
	cfg.Credentials = s.identity(t, "manager", org, api.NodeRole_MANAGER).ServerCredentials()
	cfg.Authorizer = NewMembers(s.store, org)
	return serve(t, loopback(t), cfg, register...)
}

func dial(t testing.TB, addr string, identity *ca.Identity) client.Clients {
	t.Helper()
	conn, err := client.Dial(addr, identity.ClientCredentials(ca.ManagerOU))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return client.New(conn)
}

// health answers Health.Check with a function.
type health struct {
	api.UnimplementedHealthServer
	check func(context.Context) error
}

func (h health) Check(ctx context.Context, _ *api.HealthCheckRequest) (*api.HealthCheckResponse, error) {
	return &api.HealthCheckResponse{Status: api.HealthCheckResponse_SERVING}, h.check(ctx)
}

func (h health) register(r grpc.ServiceRegistrar) { api.RegisterHealthServer(r, h) }

// watch answers Watch.Watch with a function.
type watch struct {
	api.UnimplementedWatchServer
	watch func(grpc.ServerStreamingServer[api.WatchMessage]) error
}

func (w watch) Watch(_ *api.WatchRequest, stream grpc.ServerStreamingServer[api.WatchMessage]) error {
	return w.watch(stream)
}

func (w watch) register(r grpc.ServiceRegistrar) { api.RegisterWatchServer(r, w) }
