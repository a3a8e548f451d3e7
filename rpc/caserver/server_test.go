package caserver

import (
	"context"
	"crypto/rand"
	"errors"
	mathrand "math/rand/v2"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"skep/api"
	"skep/ca"
	"skep/client"
	"skep/control/issuer"
	"skep/loop"
	"skep/model"
	"skep/rpc"
	"skep/store"
)

const clusterID = "thecluster"

// swarm is a manager as far as certificates go: a store, an issuer and a server
// with mTLS on a port of this machine.
type swarm struct {
	identity *ca.Identity
	store    *store.Store
	addr     string
	tokens   *api.JoinTokens
}

func newSwarm(t testing.TB) swarm {
	t.Helper()
	return newSwarmOn(t, store.NewLocal(store.Config{}))
}

// newSwarmOn begins a swarm on a store that leads.
func newSwarmOn(t testing.TB, on *store.Store) swarm {
	t.Helper()
	root, key, cert, err := ca.Bootstrap(clusterID, "manager", time.Now(), 0)
	if err != nil {
		t.Fatal(err)
	}
	rootCA, err := ca.NewRootCA(root, key)
	if err != nil {
		t.Fatal(err)
	}
	s := swarm{identity: ca.NewIdentity(root, cert, nil), store: on, tokens: rootCA.GetJoinTokens()}
	s.write(t, func(tx *store.Tx) error {
		return errors.Join(
			tx.Create(&api.Cluster{
				Id: clusterID, RootCa: rootCA, Spec: &api.ClusterSpec{Annotations: &api.Annotations{Name: "default"}},
				BlacklistedCertificates: map[string]*api.BlacklistedCertificate{"removed": {}},
			}),
			tx.Create(&api.Node{Id: "manager", Role: api.NodeRole_MANAGER, Spec: &api.NodeSpec{Membership: api.NodeSpec_ACCEPTED}}),
		)
	})
	g, err := rpc.NewServer(rpc.Config{Credentials: s.identity.ServerCredentials(), Authorizer: rpc.NewMembers(s.store, clusterID)},
		New(Config{Store: s.store, ClusterID: clusterID}).Register)
	if err != nil {
		t.Fatal(err)
	}
	l, err := rpc.ListenRemote("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- g.Serve(l) }()
	t.Cleanup(func() {
		g.Stop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	})
	return s
}

func (s swarm) write(t testing.TB, f func(*store.Tx) error) {
	t.Helper()
	if err := s.store.Update(context.Background(), f); err != nil {
		t.Fatal(err)
	}
}

// issue signs what waits until the test ends.
func (s swarm) issue(t testing.TB) {
	t.Helper()
	runner := loop.NewRunner(loop.Config{
		Store: s.store, Loops: []loop.Any{issuer.New(issuer.Config{ClusterID: clusterID}).Loop()},
		NewID: func() string { return model.NewID(rand.Reader) }, Rand: mathrand.New(mathrand.NewPCG(1, 1)),
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- runner.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
	})
}

func (s swarm) joiner() *client.Joiner {
	return &client.Joiner{Managers: client.NewManagers(s.addr), Version: "test"}
}

func token(t testing.TB, text string) ca.Token {
	t.Helper()
	parsed, err := ca.ParseToken(text)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func request(t testing.TB) []byte {
	t.Helper()
	key, err := ca.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := key.Request()
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

func TestANodeJoinsWithTheWorkerToken(t *testing.T) {
	t.Parallel()
	s := newSwarm(t)
	s.issue(t)
	root, cert, err := s.joiner().Join(t.Context(), token(t, s.tokens.GetWorker()), api.NodeSpec_DRAIN)
	if err != nil {
		t.Fatal(err)
	}
	if root.Digest() != s.identity.Root().Digest() || cert.ClusterID != clusterID || cert.Role != api.NodeRole_WORKER {
		t.Errorf("joined %s as %s", cert.ClusterID, cert.Role)
	}
	node, ok := s.store.Read().Nodes.Get(cert.NodeID)
	if !ok {
		t.Fatalf("node %s is not in the store", cert.NodeID)
	}
	if node.GetRole() != api.NodeRole_WORKER || node.GetSpec().GetDesiredRole() != api.NodeRole_WORKER ||
		node.GetSpec().GetMembership() != api.NodeSpec_ACCEPTED || node.GetSpec().GetAvailability() != api.NodeSpec_DRAIN {
		t.Errorf("node %v", node)
	}
	if c := node.GetCertificate(); c.GetStatus().GetState() != api.IssuanceStatus_ISSUED || c.GetCn() != node.GetId() || len(c.GetCsr()) == 0 {
		t.Errorf("certificate %v", c)
	}
}

func TestANodeRenewsItsOwnCertificateWithTheRoleOfTheStore(t *testing.T) {
	t.Parallel()
	s := newSwarm(t)
	s.issue(t)
	root, cert, err := s.joiner().Join(t.Context(), token(t, s.tokens.GetWorker()), api.NodeSpec_ACTIVE)
	if err != nil {
		t.Fatal(err)
	}
	identity := ca.NewIdentity(root, cert, nil)
	_, next, err := s.joiner().Renew(t.Context(), identity)
	if err != nil {
		t.Fatal(err)
	}
	if next.NodeID != cert.NodeID || next.Role != api.NodeRole_WORKER || string(next.PEM()) == string(cert.PEM()) {
		t.Errorf("renewed as %s, %s", next.NodeID, next.Role)
	}
	if _, err := store.Edit(t.Context(), s.store, cert.NodeID, nil, func(n *api.Node) error { n.Role = api.NodeRole_MANAGER; return nil }); err != nil {
		t.Fatal(err)
	}
	if _, next, err = s.joiner().Renew(t.Context(), identity); err != nil || next.Role != api.NodeRole_MANAGER {
		t.Errorf("promoted: %v, %v", next, err)
	}
	if n := s.store.Read().Nodes.Len(); n != 2 {
		t.Errorf("%d nodes, want the manager and the worker", n)
	}
	s.write(t, func(tx *store.Tx) error { return tx.Remove(store.KindNode, cert.NodeID) })
	if _, _, err = s.joiner().Renew(t.Context(), identity); model.KindOf(err) != model.NotFound {
		t.Errorf("gone: %v", err)
	}
}

func TestAManagerThatCannotBeReachedIsNamed(t *testing.T) {
	t.Parallel()
	l, err := rpc.ListenRemote("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = (&client.Joiner{Managers: client.NewManagers(addr)}).DownloadRoot(ctx, "")
	if model.KindOf(err) != model.Unavailable || !strings.Contains(err.Error(), addr) || !strings.Contains(err.Error(), "check the address") {
		t.Errorf("error %v", err)
	}
}

func TestJoinsThatMustFailSayWhyAndChangeNothing(t *testing.T) {
	t.Parallel()
	s, other := newSwarm(t), newSwarm(t)
	s.issue(t)
	own := s.tokens.GetWorker()
	wrong := own[:len(own)-3] + "000"
	if wrong == own {
		wrong = own[:len(own)-3] + "001"
	}
	before := time.Now().AddDate(-1, 0, 0)
	tests := []struct {
		name, token string
		now         func() time.Time
		version     string
		want        string
	}{
		{"a wrong secret", wrong, nil, "test", "A valid join token is necessary to join this cluster"},
		{"the token of another swarm", other.tokens.GetWorker(), nil, "test", "remote CA does not match fingerprint"},
		{"the manager token of a stock engine", s.tokens.GetManager(), nil, "", "does not take stock engines as managers"},
		{"a clock before the root", own, func() time.Time { return before }, "test", "set the clock"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			j := s.joiner()
			j.Now, j.Version = test.now, test.version
			began := time.Now()
			_, _, err := j.Join(t.Context(), token(t, test.token), api.NodeSpec_ACTIVE)
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), s.addr) {
				t.Errorf("error %v, want %q and the manager's address", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), test.token[len(test.token)-20:]) {
				t.Errorf("the error tells the token: %v", err)
			}
			if took := time.Since(began); took > time.Second {
				t.Errorf("it took %s to say what no other attempt can mend", took)
			}
			if n := s.store.Read().Nodes.Len(); n != 1 {
				t.Errorf("%d nodes", n)
			}
		})
	}
}

// as returns the context of a request by a node with a certificate.
func as(ctx context.Context, nodeID, org string) context.Context {
	return rpc.WithCaller(ctx, rpc.Identity{NodeID: nodeID, Org: org, Roles: []string{ca.WorkerOU}})
}

func TestRequestsThatAreRefusedChangeNothing(t *testing.T) {
	t.Parallel()
	s := newSwarm(t)
	srv := New(Config{Store: s.store, ClusterID: clusterID})
	csr := request(t)
	anybody := t.Context()
	tests := []struct {
		name string
		ctx  context.Context
		req  *api.IssueNodeCertificateRequest
		kind model.Kind
	}{
		{"empty", anybody, &api.IssueNodeCertificateRequest{}, model.Invalid},
		{"no CSR", anybody, &api.IssueNodeCertificateRequest{Token: s.tokens.GetWorker()}, model.Invalid},
		{"no token", anybody, &api.IssueNodeCertificateRequest{Csr: csr}, model.Invalid},
		{"garbage for a CSR", anybody, &api.IssueNodeCertificateRequest{Csr: []byte("x"), Token: s.tokens.GetWorker()}, model.Invalid},
		{"a huge CSR", anybody, &api.IssueNodeCertificateRequest{Csr: make([]byte, 1<<20), Token: s.tokens.GetWorker()}, model.Invalid},
		{"a huge token", anybody, &api.IssueNodeCertificateRequest{Csr: csr, Token: strings.Repeat("x", 1<<20)}, model.Invalid},
		{"an unknown availability", anybody, &api.IssueNodeCertificateRequest{Csr: csr, Token: s.tokens.GetWorker(), Availability: 9}, model.Invalid},
		{"a node that is gone", as(anybody, "ghost", clusterID), &api.IssueNodeCertificateRequest{Csr: csr, Token: s.tokens.GetWorker()}, model.NotFound},
		{"a removed node", as(anybody, "removed", clusterID), &api.IssueNodeCertificateRequest{Csr: csr, Token: s.tokens.GetWorker()}, model.Denied},
		{"a node of another swarm without a token", as(anybody, "manager", "other"), &api.IssueNodeCertificateRequest{Csr: csr}, model.Invalid},
		{"forged forwarding", metadata.NewIncomingContext(anybody, metadata.Pairs("forwarded_cert", "true", "forwarded_cert_cn", "manager", "forwarded_cert_org", clusterID, "forwarded_cert_ou", ca.ManagerOU)),
			&api.IssueNodeCertificateRequest{Csr: csr}, model.Invalid},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			before := s.store.Read().Version()
			if _, err := srv.IssueNodeCertificate(test.ctx, test.req); model.KindOf(err) != test.kind || err == nil {
				t.Errorf("error %v (kind %d), want kind %d", err, model.KindOf(err), test.kind)
			}
			if after := s.store.Read().Version(); after != before {
				t.Errorf("the store went from version %d to %d", before, after)
			}
		})
	}
}

func TestANodeOfAnotherSwarmWithTheSameRootGetsANewID(t *testing.T) {
	t.Parallel()
	s := newSwarm(t)
	srv := New(Config{Store: s.store, ClusterID: clusterID})
	resp, err := srv.IssueNodeCertificate(as(t.Context(), "manager", "other"), &api.IssueNodeCertificateRequest{Csr: request(t), Token: s.tokens.GetWorker()})
	if err != nil || resp.GetNodeId() == "manager" || resp.GetNodeMembership() != api.NodeSpec_ACCEPTED {
		t.Errorf("%v, %v", resp, err)
	}
}

func TestARepeatedRenewalIsTheSameRequest(t *testing.T) {
	t.Parallel()
	s := newSwarm(t)
	srv := New(Config{Store: s.store, ClusterID: clusterID})
	csr := request(t)
	ctx := as(t.Context(), "manager", clusterID)
	var version uint64
	for i := range 3 {
		if _, err := srv.IssueNodeCertificate(ctx, &api.IssueNodeCertificateRequest{Csr: csr}); err != nil {
			t.Fatal(err)
		}
		if now := s.store.Read().Version(); i == 0 {
			version = now
		} else if now != version {
			t.Errorf("repetition %d wrote again", i)
		}
	}
	if _, err := store.Edit(ctx, s.store, "manager", nil, func(n *api.Node) error { n.Role = api.NodeRole_WORKER; return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := srv.IssueNodeCertificate(ctx, &api.IssueNodeCertificateRequest{Csr: csr}); err != nil {
		t.Fatal(err)
	}
	if node, _ := s.store.Read().Nodes.Get("manager"); node.GetCertificate().GetRole() != api.NodeRole_WORKER {
		t.Error("with another role it is another request, and was ignored")
	}
}

func TestARepeatedJoinIsTheSameNode(t *testing.T) {
	t.Parallel()
	s := newSwarm(t)
	srv := New(Config{Store: s.store, ClusterID: clusterID})
	req := &api.IssueNodeCertificateRequest{Csr: request(t), Token: s.tokens.GetWorker()}
	first, err := srv.IssueNodeCertificate(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	version := s.store.Read().Version()
	second, err := srv.IssueNodeCertificate(t.Context(), req)
	if err != nil || second.GetNodeId() != first.GetNodeId() || s.store.Read().Version() != version {
		t.Errorf("asked again it became %s, first it was %s (%v)", second.GetNodeId(), first.GetNodeId(), err)
	}
	other, err := srv.IssueNodeCertificate(t.Context(), &api.IssueNodeCertificateRequest{Csr: request(t), Token: s.tokens.GetWorker()})
	if err != nil || other.GetNodeId() == first.GetNodeId() {
		t.Errorf("another request became the same node (%v)", err)
	}
}

func TestAnIDThatIsTakenIsReplaced(t *testing.T) {
	t.Parallel()
	s := newSwarm(t)
	csr := request(t)
	taken := idOf(csr, api.NodeRole_WORKER)
	s.write(t, func(tx *store.Tx) error { return tx.Create(&api.Node{Id: taken}) })
	ids := []string{"manager", "fresh"}
	srv := New(Config{Store: s.store, ClusterID: clusterID, NewID: func() string { id := ids[0]; ids = ids[1:]; return id }})
	resp, err := srv.IssueNodeCertificate(t.Context(), &api.IssueNodeCertificateRequest{Csr: csr, Token: s.tokens.GetWorker()})
	if err != nil || resp.GetNodeId() != "fresh" {
		t.Errorf("%v, %v", resp, err)
	}
	always := New(Config{Store: s.store, ClusterID: clusterID, NewID: func() string { return "manager" }})
	if _, err := always.IssueNodeCertificate(t.Context(), &api.IssueNodeCertificateRequest{Csr: csr, Token: s.tokens.GetWorker()}); model.KindOf(err) != model.Exists {
		t.Errorf("error %v", err)
	}
}

func TestTheIDOfARemovedNodeIsNotGivenAgain(t *testing.T) {
	t.Parallel()
	s := newSwarm(t)
	srv := New(Config{Store: s.store, ClusterID: clusterID})
	req := &api.IssueNodeCertificateRequest{Csr: request(t), Token: s.tokens.GetWorker()}
	s.write(t, func(tx *store.Tx) error {
		cluster, _ := tx.Clusters.Get(clusterID)
		cluster = model.Shallow(cluster)
		cluster.BlacklistedCertificates = map[string]*api.BlacklistedCertificate{idOf(req.Csr, api.NodeRole_WORKER): {}}
		return tx.Update(cluster)
	})
	resp, err := srv.IssueNodeCertificate(t.Context(), req)
	if err != nil || resp.GetNodeId() == idOf(req.Csr, api.NodeRole_WORKER) {
		t.Errorf("%v, %v", resp, err)
	}
}

func TestAStatusRequestWaitsUntilTheAnswerIsFinal(t *testing.T) {
	t.Parallel()
	for _, final := range []api.IssuanceStatus_State{api.IssuanceStatus_ISSUED, api.IssuanceStatus_FAILED, api.IssuanceStatus_ROTATE} {
		t.Run(final.String(), func(t *testing.T) {
			t.Parallel()
			s := newSwarm(t)
			srv := New(Config{Store: s.store, ClusterID: clusterID})
			joined, err := srv.IssueNodeCertificate(t.Context(), &api.IssueNodeCertificateRequest{Csr: request(t), Token: s.tokens.GetWorker()})
			if err != nil {
				t.Fatal(err)
			}
			got := make(chan error, 1)
			go func() {
				resp, err := srv.NodeCertificateStatus(t.Context(), &api.NodeCertificateStatusRequest{NodeId: joined.GetNodeId()})
				if err == nil && (resp.GetStatus().GetState() != final || resp.GetCertificate().GetCn() != joined.GetNodeId()) {
					err = errors.New(resp.String())
				}
				got <- err
			}()
			for range 100 { // many changes that are no answer, more than the backlog
				edit(t, s, joined.GetNodeId(), func(n *api.Node) {
					n.Spec = &api.NodeSpec{Membership: api.NodeSpec_ACCEPTED, Availability: 1 - n.Spec.Availability}
				})
			}
			select {
			case err := <-got:
				t.Fatalf("answered before there was an answer: %v", err)
			default:
			}
			edit(t, s, joined.GetNodeId(), func(n *api.Node) {
				n.Certificate = model.Shallow(n.Certificate)
				n.Certificate.Status = &api.IssuanceStatus{State: final}
			})
			if err := <-got; err != nil {
				t.Error(err)
			}
		})
	}
}

func edit(t *testing.T, s swarm, id string, f func(*api.Node)) {
	t.Helper()
	if _, err := store.Edit(t.Context(), s.store, id, nil, func(n *api.Node) error { f(n); return nil }); err != nil {
		t.Fatal(err)
	}
}

func TestAStatusRequestEndsWhenTheNodeIsRemovedOrTheCallerLeaves(t *testing.T) {
	t.Parallel()
	s := newSwarm(t)
	srv := New(Config{Store: s.store, ClusterID: clusterID})
	for _, id := range []string{"", "ghost"} {
		want := map[string]model.Kind{"": model.Invalid, "ghost": model.NotFound}[id]
		if _, err := srv.NodeCertificateStatus(t.Context(), &api.NodeCertificateStatusRequest{NodeId: id}); model.KindOf(err) != want {
			t.Errorf("node %q: %v", id, err)
		}
	}
	joined, err := srv.IssueNodeCertificate(t.Context(), &api.IssueNodeCertificateRequest{Csr: request(t), Token: s.tokens.GetWorker()})
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan error, 2)
	ctx, cancel := context.WithCancel(t.Context())
	for _, ctx := range []context.Context{ctx, t.Context()} {
		go func() {
			_, err := srv.NodeCertificateStatus(ctx, &api.NodeCertificateStatusRequest{NodeId: joined.GetNodeId()})
			got <- err
		}()
	}
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Errorf("the caller left: %v", err)
	}
	s.write(t, func(tx *store.Tx) error { return tx.Remove(store.KindNode, joined.GetNodeId()) })
	if err := <-got; model.KindOf(err) != model.NotFound {
		t.Errorf("the node was removed: %v", err)
	}
}

func TestARequestThatCannotBeSignedFails(t *testing.T) {
	t.Parallel()
	s := newSwarm(t)
	s.issue(t)
	s.write(t, func(tx *store.Tx) error {
		return tx.Create(&api.Node{Id: "n", Spec: &api.NodeSpec{Membership: api.NodeSpec_ACCEPTED}, Certificate: &api.Certificate{
			Csr: []byte("garbage"), Cn: "n", Status: &api.IssuanceStatus{State: api.IssuanceStatus_PENDING},
		}})
	})
	resp, err := New(Config{Store: s.store, ClusterID: clusterID}).NodeCertificateStatus(t.Context(), &api.NodeCertificateStatusRequest{NodeId: "n"})
	if err != nil || resp.GetStatus().GetState() != api.IssuanceStatus_FAILED || !strings.Contains(resp.GetStatus().GetErr(), "no PEM block") {
		t.Errorf("%v, %v", resp, err)
	}
}

func TestTheRootAndTheUnlockKey(t *testing.T) {
	t.Parallel()
	s := newSwarm(t)
	conn, err := client.Dial(s.addr, ca.JoinCredentials(nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	anybody := client.New(conn)
	root, err := anybody.CA.GetRootCACertificate(t.Context(), &api.GetRootCACertificateRequest{})
	if err != nil || string(root.GetCertificate()) != string(s.identity.Root().PEM()) {
		t.Errorf("root: %v", err)
	}
	if _, err := anybody.CA.GetUnlockKey(t.Context(), &api.GetUnlockKeyRequest{}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("the unlock key for anybody: %v", err)
	}
	secure, err := client.Dial(s.addr, s.identity.ClientCredentials(ca.ManagerOU))
	if err != nil {
		t.Fatal(err)
	}
	defer secure.Close()
	key, err := client.New(secure).CA.GetUnlockKey(t.Context(), &api.GetUnlockKeyRequest{})
	if err != nil || len(key.GetUnlockKey()) != 0 || key.GetVersion().GetIndex() == 0 {
		t.Errorf("the unlock key: %v, %v", key, err)
	}
	empty := New(Config{Store: store.NewLocal(store.Config{}), ClusterID: clusterID})
	if _, err := empty.GetRootCACertificate(t.Context(), nil); model.KindOf(err) != model.Unavailable {
		t.Errorf("a manager that still starts: %v", err)
	}
}
