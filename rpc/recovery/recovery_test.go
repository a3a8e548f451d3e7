package recovery

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/test/bufconn"

	"skep/api"
	"skep/api/skep"
	"skep/ca"
	"skep/client"
	"skep/control/issuer"
	"skep/internal/badinput"
	"skep/loop"
	"skep/model"
	"skep/rpc"
	"skep/rpc/caserver"
	"skep/store"

	"google.golang.org/protobuf/proto"
)

const (
	clusterID = "thecluster"
	lifetime  = 24 * time.Hour
	day       = 24 * time.Hour
)

// swarm is a manager as far as certificates go, in a bubble; nodes that renew
// reach it in memory.
type swarm struct {
	root     *ca.Root
	signer   *ca.Signer
	store    *store.Store
	listener *bufconn.Listener
}

// newSwarm begins a swarm whose own certificate is renewed by nobody: it lives as long
// as the root.
func newSwarm(t *testing.T) *swarm {
	t.Helper()
	root, keyPEM, cert, err := ca.Bootstrap(clusterID, "manager", time.Now(), 1000*day)
	if err != nil {
		t.Fatal(err)
	}
	rootCA, err := ca.NewRootCA(root, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ca.NewSigner(root, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	s := &swarm{root: root, signer: signer, store: store.NewLocal(store.Config{}), listener: bufconn.Listen(1 << 20)}
	s.write(t, func(tx *store.Tx) error {
		return errors.Join(
			tx.Create(&api.Cluster{Id: clusterID, RootCa: rootCA, Spec: &api.ClusterSpec{Annotations: &api.Annotations{Name: "default"}}}),
			tx.Create(&api.Node{Id: "manager", Role: api.NodeRole_MANAGER}),
		)
	})
	g, err := rpc.NewServer(
		rpc.Config{Credentials: ca.NewIdentity(root, cert, nil).ServerCredentials(), Authorizer: rpc.NewMembers(s.store, clusterID)},
		caserver.New(caserver.Config{Store: s.store, ClusterID: clusterID}).Register,
		New(Config{Store: s.store, ClusterID: clusterID}).Register)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- g.Serve(s.listener) }()
	runner := loop.NewRunner(loop.Config{
		Store: s.store, Loops: []loop.Any{issuer.New(issuer.Config{ClusterID: clusterID}).Loop()},
		NewID: func() string { return model.NewID(rand.Reader) }, Rand: mathrand.New(mathrand.NewPCG(1, 1)),
	})
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- runner.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ran
		runner.Close()
		g.Stop()
		<-served
	})
	return s
}

func (s *swarm) write(t *testing.T, f func(*store.Tx) error) {
	t.Helper()
	if err := s.store.Update(context.Background(), f); err != nil {
		t.Fatal(err)
	}
}

// node makes a node whose certificate begins now.
func (s *swarm) node(t *testing.T, id string, role api.NodeRole) *ca.Identity {
	t.Helper()
	key, err := ca.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := key.Request()
	if err != nil {
		t.Fatal(err)
	}
	chain, err := s.signer.Sign(csr, ca.Subject{NodeID: id, Org: clusterID, Role: role}, time.Now(), lifetime)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.NewCertificate(s.root, chain, key)
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, func(tx *store.Tx) error {
		return tx.Create(&api.Node{Id: id, Role: role, Spec: &api.NodeSpec{Membership: api.NodeSpec_ACCEPTED, DesiredRole: role},
			Certificate: &api.Certificate{Csr: csr, Cn: id, Role: role, Certificate: chain, Status: &api.IssuanceStatus{State: api.IssuanceStatus_ISSUED}}})
	})
	return ca.NewIdentity(s.root, cert, nil)
}

func (s *swarm) joiner() *client.Joiner {
	return &client.Joiner{
		Managers: client.NewManagers("manager:1"), Version: "test",
		Dial: func(ctx context.Context, _ string) (net.Conn, error) { return s.listener.DialContext(ctx) },
	}
}

// Fault 22, the half of it that is about certificates: nodes were down for longer
// than theirs lived.
func TestANodeWhoseCertificateExpiredWhileItWasDownComesBack(t *testing.T) {
	t.Parallel()
	for _, role := range []api.NodeRole{api.NodeRole_WORKER, api.NodeRole_MANAGER} {
		t.Run(role.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newSwarm(t)
				n := s.node(t, "n", role)
				time.Sleep(80 * day)
				if _, _, err := s.joiner().Renew(t.Context(), n); model.KindOf(err) != model.Precondition || !strings.Contains(err.Error(), "expired") {
					t.Errorf("an expired certificate renews: %v", err)
				}
				root, cert, err := s.joiner().Recover(t.Context(), n)
				if err != nil {
					t.Fatal(err)
				}
				if cert.NodeID != "n" || cert.Role != role || cert.ClusterID != clusterID || cert.Valid(time.Now()) != nil {
					t.Errorf("came back as %s, %s of %s", cert.NodeID, cert.Role, cert.ClusterID)
				}
				n.Replace(root, cert)
				if _, next, err := s.joiner().Renew(t.Context(), n); err != nil || next.NodeID != "n" {
					t.Errorf("then it renews as everybody: %v", err)
				}
				if got := s.store.Read().Nodes.Len(); got != 2 {
					t.Errorf("%d nodes, want the manager and the one that came back", got)
				}
			})
		})
	}
}

func TestTheRoleThatComesBackIsTheOneInTheStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSwarm(t)
		n := s.node(t, "n", api.NodeRole_MANAGER)
		time.Sleep(10 * day)
		if _, err := store.Edit(t.Context(), s.store, "n", nil, func(n *api.Node) error { n.Role = api.NodeRole_WORKER; return nil }); err != nil {
			t.Fatal(err)
		}
		if _, cert, err := s.joiner().Recover(t.Context(), n); err != nil || cert.Role != api.NodeRole_WORKER {
			t.Errorf("a manager that was demoted while it was down: %v", err)
		}
	})
}

func TestWhoIsNotTheNodeComesNotBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSwarm(t)
		n := s.node(t, "n", api.NodeRole_WORKER)
		gone := s.node(t, "gone", api.NodeRole_WORKER)
		removed := s.node(t, "removed", api.NodeRole_WORKER)
		s.write(t, func(tx *store.Tx) error {
			r, err := model.NewRemovedNode("removed", nil)
			return errors.Join(err, tx.Create(r), tx.Remove(store.KindNode, "gone"))
		})
		time.Sleep(10 * day)
		srv := New(Config{Store: s.store, ClusterID: clusterID})
		request := func(k ca.Key) []byte {
			csr, err := k.Request()
			if err != nil {
				t.Fatal(err)
			}
			return csr
		}
		other, err := ca.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		before := s.store.Read().Version()
		var words []string
		for _, test := range []struct {
			name, id string
			csr      []byte
			kind     model.Kind
		}{
			{"another key", "n", request(other), model.Denied},
			{"the key of another node", "n", request(gone.Certificate().Key()), model.Denied},
			{"a node that is gone", "gone", request(gone.Certificate().Key()), model.Denied},
			{"a node that was removed", "removed", request(removed.Certificate().Key()), model.Denied},
			{"a node that never was", "never", request(other), model.Denied},
			{"a node without a certificate", "manager", request(other), model.Denied},
			{"no node", "", request(other), model.Invalid},
			{"a huge ID", strings.Repeat("x", 1<<20), request(other), model.Invalid},
			{"no request", "n", nil, model.Invalid},
			{"garbage", "n", []byte("garbage"), model.Invalid},
			{"garbage for a node that never was", "never", []byte("garbage"), model.Invalid},
			{"a certificate for a request", "n", n.Certificate().PEM(), model.Invalid},
		} {
			_, err := srv.Renew(t.Context(), &skep.RecoveryRequest{NodeId: test.id, Csr: test.csr})
			if model.KindOf(err) != test.kind || err == nil {
				t.Errorf("%s: %v (kind %d), want kind %d", test.name, err, model.KindOf(err), test.kind)
			}
			if test.kind == model.Denied {
				words = append(words, strings.ReplaceAll(err.Error(), "node "+test.id+":", "node X:"))
			}
		}
		for _, w := range words {
			if w != words[0] {
				t.Errorf("which of the reasons it is shows in the words:\n%s\n%s", w, words[0])
			}
		}
		if after := s.store.Read().Version(); after != before {
			t.Error("what was refused changed something")
		}
		if _, _, err := s.joiner().Recover(t.Context(), n); err != nil {
			t.Errorf("the node itself: %v", err)
		}
	})
}

func TestWhenANodeMayComeBack(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		after time.Duration // the certificate ended
		want  model.Kind
		said  string
	}{
		"long before":          {-12 * time.Hour, model.Precondition, "set the clock of the node"},
		"its clock runs ahead": {-30 * time.Minute, 0, ""},
		"just expired":         {time.Minute, 0, ""},
		"almost 90 days":       {90*day - time.Minute, 0, ""},
		"90 days":              {90 * day, model.Denied, "leave and join again"},
		"years":                {900 * day, model.Denied, "leave and join again"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newSwarm(t)
				n := s.node(t, "n", api.NodeRole_WORKER)
				time.Sleep(time.Until(n.Certificate().NotAfter) + test.after)
				csr, err := n.Certificate().Key().Request()
				if err != nil {
					t.Fatal(err)
				}
				resp, err := New(Config{Store: s.store, ClusterID: clusterID}).Renew(t.Context(), &skep.RecoveryRequest{NodeId: "n", Csr: csr})
				if test.want == 0 {
					if err != nil || resp.GetNodeId() != "n" {
						t.Errorf("%v, %v", resp, err)
					}
				} else if model.KindOf(err) != test.want || !strings.Contains(err.Error(), test.said) {
					t.Errorf("error %v", err)
				}
			})
		})
	}
}

// Fault 49: the answer was lost, and the node asks again.
func TestARepeatedRecoveryIsTheSameRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSwarm(t)
		n := s.node(t, "n", api.NodeRole_WORKER)
		time.Sleep(10 * day)
		csr, err := n.Certificate().Key().Request()
		if err != nil {
			t.Fatal(err)
		}
		srv := New(Config{Store: s.store, ClusterID: clusterID})
		for range 3 {
			if _, err := srv.Renew(t.Context(), &skep.RecoveryRequest{NodeId: "n", Csr: csr}); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		version := s.store.Read().Version()
		// Once signed the node is not expired any more: who kept the request, which is
		// public, gets nothing done with it.
		if _, err := srv.Renew(t.Context(), &skep.RecoveryRequest{NodeId: "n", Csr: csr}); model.KindOf(err) != model.Precondition {
			t.Errorf("replayed: %v", err)
		}
		if s.store.Read().Version() != version {
			t.Error("a replayed request wrote something")
		}
	})
}

func TestRecoveryIsLimitedForEachAddress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSwarm(t)
		srv := New(Config{Store: s.store, ClusterID: clusterID})
		key, err := ca.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		csr, err := key.Request()
		if err != nil {
			t.Fatal(err)
		}
		ask := func(id rpc.Identity) model.Kind {
			_, err := srv.Renew(rpc.WithCaller(t.Context(), id), &skep.RecoveryRequest{NodeId: "n", Csr: csr})
			return model.KindOf(err)
		}
		taken := 0
		for port := range 3 * burst {
			if ask(rpc.Identity{Addr: fmt.Sprintf("10.0.0.1:%d", port)}) != model.Exhausted {
				taken++
			}
		}
		if taken != burst {
			t.Errorf("%d requests were taken at once, want %d", taken, burst)
		}
		if ask(rpc.Identity{Addr: "10.0.0.2:1"}) != model.Denied || ask(rpc.Identity{Addr: "10.0.0.1:1", Local: true}) != model.Denied {
			t.Error("others are limited with it")
		}
		time.Sleep(each)
		if ask(rpc.Identity{Addr: "10.0.0.1:1"}) != model.Denied || ask(rpc.Identity{Addr: "10.0.0.1:1"}) != model.Exhausted {
			t.Errorf("after %v one more is taken, and no two", each)
		}
		for i := range 3 * addresses {
			srv.limit.take(fmt.Sprintf("%d.%d.0.9:1", i>>8, i&255), time.Now())
		}
		if len(srv.limit.of) > addresses+1 {
			t.Errorf("%d addresses are remembered", len(srv.limit.of))
		}
	})
}

// A manager that was alone, and all managers of a swarm that was switched off for
// too long, begin with a certificate out of their own state.
func TestAManagerOutOfItsOwnState(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSwarm(t)
		n, worker := s.node(t, "n", api.NodeRole_MANAGER), s.node(t, "w", api.NodeRole_WORKER)
		time.Sleep(200 * day)
		i := issuer.New(issuer.Config{ClusterID: clusterID})
		version := s.store.Read().Version()
		_, cert, err := i.SelfIssue(t.Context(), s.store.Read(), n.Certificate())
		if err != nil {
			t.Fatal(err)
		}
		if cert.NodeID != "n" || cert.Role != api.NodeRole_MANAGER || cert.ClusterID != clusterID || cert.Valid(time.Now()) != nil || time.Until(cert.NotAfter) > ca.MinLifetime+time.Minute {
			t.Errorf("it is %s, %s of %s until %s", cert.NodeID, cert.Role, cert.ClusterID, cert.NotAfter)
		}
		if s.store.Read().Version() != version {
			t.Error("it wrote to the store")
		}
		n.Replace(s.root, cert)
		if _, renewed, err := s.joiner().Renew(t.Context(), n); err != nil || renewed.Role != api.NodeRole_MANAGER {
			t.Errorf("then it renews as everybody: %v", err)
		}
		if _, _, err := i.SelfIssue(t.Context(), s.store.Read(), worker.Certificate()); model.KindOf(err) != model.Denied {
			t.Errorf("a worker: %v", err)
		}
		if _, _, err := i.SelfIssue(t.Context(), store.NewLocal(store.Config{}).Read(), n.Certificate()); model.KindOf(err) != model.Unavailable {
			t.Errorf("an empty log: %v", err)
		}
	})
}

func TestNoRequestBreaksTheServer(t *testing.T) {
	t.Parallel()
	fresh := func(t testing.TB) badinput.Server {
		s := store.NewLocal(store.Config{})
		if err := s.Update(t.Context(), func(tx *store.Tx) error {
			return tx.Create(&api.Node{Id: "n", Certificate: &api.Certificate{Certificate: []byte("garbage")}})
		}); err != nil {
			t.Fatal(err)
		}
		return badinput.Server{Impl: New(Config{Store: s, ClusterID: clusterID}), State: func() string { return fmt.Sprint(s.Read().Version()) }}
	}
	key, err := ca.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := key.Request()
	if err != nil {
		t.Fatal(err)
	}
	badinput.Try(t, &skep.Recovery_ServiceDesc, fresh, []proto.Message{&skep.RecoveryRequest{NodeId: "n", Csr: csr}}, func(err error) bool {
		return model.KindOf(err) == model.Invalid || model.KindOf(err) == model.Denied || model.KindOf(err) == model.Exhausted
	})
}
