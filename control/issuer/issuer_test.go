package issuer

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"skep/api"
	"skep/ca"
	"skep/internal/cfssltest"
	"skep/loop"
	"skep/model"
	"skep/store"
)

const clusterID = "thecluster"

// cluster is a store whose cluster object has a root with its key.
type cluster struct {
	store  *store.Store
	root   *ca.Root
	keyPEM []byte
}

func newCluster(t testing.TB, key bool) cluster {
	t.Helper()
	root, keyPEM, err := ca.NewRoot(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	rootCA, err := ca.NewRootCA(root, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	if !key {
		rootCA.CaKey = nil
	}
	c := cluster{store: store.NewLocal(store.Config{Freeze: true}), root: root, keyPEM: keyPEM}
	c.write(t, func(tx *store.Tx) error {
		return tx.Create(&api.Cluster{Id: clusterID, RootCa: rootCA, Spec: &api.ClusterSpec{Annotations: &api.Annotations{Name: "default"}}})
	})
	return c
}

func (c cluster) write(t testing.TB, f func(*store.Tx) error) {
	t.Helper()
	if err := c.store.Update(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

// node makes a node with a request in a state.
func (c cluster) node(t testing.TB, id string, role api.NodeRole, state api.IssuanceStatus_State, membership api.NodeSpec_Membership) ca.Key {
	t.Helper()
	key, err := ca.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := key.Request()
	if err != nil {
		t.Fatal(err)
	}
	c.write(t, func(tx *store.Tx) error {
		return tx.Create(&api.Node{Id: id, Role: role, Spec: &api.NodeSpec{Membership: membership},
			Certificate: &api.Certificate{Csr: csr, Cn: id, Role: role, Status: &api.IssuanceStatus{State: state}}})
	})
	return key
}

func (c cluster) certificate(t testing.TB, id string) *api.Certificate {
	t.Helper()
	node, ok := c.store.Read().Nodes.Get(id)
	if !ok {
		t.Fatalf("there is no node %s", id)
	}
	return node.GetCertificate()
}

// settle steps until nothing is left to do, and returns the errors of effects.
func (c cluster) settle(t testing.TB, i *Issuer) []error {
	t.Helper()
	runner := loop.NewRunner(loop.Config{
		Store: c.store, Loops: []loop.Any{i.Loop()}, NewID: func() string { return model.NewID(rand.Reader) },
		Rand: mathrand.New(mathrand.NewPCG(1, 1)),
	})
	defer runner.Close()
	var errs []error
	for {
		_, busy, err := runner.Step(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		effects := runner.Effects()
		for _, e := range effects {
			if err := e.Do(t.Context(), c.store); err != nil {
				errs = append(errs, err)
			}
		}
		if !busy && len(effects) == 0 {
			return errs
		}
	}
}

func TestWhatIsSigned(t *testing.T) {
	t.Parallel()
	c := newCluster(t, true)
	tests := []struct {
		state      api.IssuanceStatus_State
		membership api.NodeSpec_Membership
		want       api.IssuanceStatus_State
	}{
		{api.IssuanceStatus_PENDING, api.NodeSpec_ACCEPTED, api.IssuanceStatus_ISSUED},
		{api.IssuanceStatus_PENDING, api.NodeSpec_PENDING, api.IssuanceStatus_PENDING},
		{api.IssuanceStatus_RENEW, api.NodeSpec_ACCEPTED, api.IssuanceStatus_ISSUED},
		{api.IssuanceStatus_RENEW, api.NodeSpec_PENDING, api.IssuanceStatus_ISSUED},
		{api.IssuanceStatus_ROTATE, api.NodeSpec_ACCEPTED, api.IssuanceStatus_ROTATE},
		{api.IssuanceStatus_ISSUED, api.NodeSpec_ACCEPTED, api.IssuanceStatus_ISSUED},
		{api.IssuanceStatus_FAILED, api.NodeSpec_ACCEPTED, api.IssuanceStatus_FAILED},
		{api.IssuanceStatus_UNKNOWN, api.NodeSpec_ACCEPTED, api.IssuanceStatus_UNKNOWN},
	}
	keys := make([]ca.Key, len(tests))
	for i, test := range tests {
		keys[i] = c.node(t, fmt.Sprint("n", i), api.NodeRole_WORKER, test.state, test.membership)
	}
	if errs := c.settle(t, New(Config{ClusterID: clusterID})); len(errs) > 0 {
		t.Fatal(errs)
	}
	for i, test := range tests {
		cert := c.certificate(t, fmt.Sprint("n", i))
		if got := cert.GetStatus().GetState(); got != test.want {
			t.Errorf("%s, %s: %s, want %s", test.state, test.membership, got, test.want)
		}
		signed := test.state != test.want
		if signed != (len(cert.GetCertificate()) > 0) {
			t.Errorf("%s, %s: a certificate of %d bytes", test.state, test.membership, len(cert.GetCertificate()))
		}
		if !signed {
			continue
		}
		if got, err := ca.NewCertificate(c.root, cert.GetCertificate(), keys[i]); err != nil || got.NodeID != fmt.Sprint("n", i) || got.ClusterID != clusterID {
			t.Errorf("%v, %v", got, err)
		}
	}
}

func TestTheRoleInTheCertificateIsTheNodesAtThisMoment(t *testing.T) {
	t.Parallel()
	c := newCluster(t, true)
	key := c.node(t, "n", api.NodeRole_WORKER, api.IssuanceStatus_RENEW, api.NodeSpec_ACCEPTED)
	c.write(t, func(tx *store.Tx) error {
		node, _ := tx.Nodes.Get("n")
		node = model.Shallow(node)
		node.Role = api.NodeRole_MANAGER
		return tx.Update(node)
	})
	c.settle(t, New(Config{ClusterID: clusterID}))
	cert := c.certificate(t, "n")
	got, err := ca.NewCertificate(c.root, cert.GetCertificate(), key)
	if err != nil || got.Role != api.NodeRole_MANAGER || cert.GetRole() != api.NodeRole_MANAGER {
		t.Errorf("%v, %v, %s", got, err, cert.GetRole())
	}
}

func TestABadRequestFailsWithTheReason(t *testing.T) {
	t.Parallel()
	c := newCluster(t, true)
	c.node(t, "n", api.NodeRole_WORKER, api.IssuanceStatus_PENDING, api.NodeSpec_ACCEPTED)
	c.write(t, func(tx *store.Tx) error {
		node, _ := tx.Nodes.Get("n")
		node = model.Shallow(node)
		node.Certificate = model.Shallow(node.Certificate)
		node.Certificate.Csr = []byte("garbage")
		return tx.Update(node)
	})
	if errs := c.settle(t, New(Config{ClusterID: clusterID})); len(errs) > 0 {
		t.Fatal(errs)
	}
	if s := c.certificate(t, "n").GetStatus(); s.GetState() != api.IssuanceStatus_FAILED || !strings.Contains(s.GetErr(), "no PEM block") {
		t.Errorf("status %v", s)
	}
}

func TestWithoutAKeyARequestWaits(t *testing.T) {
	t.Parallel()
	c := newCluster(t, false)
	c.node(t, "n", api.NodeRole_WORKER, api.IssuanceStatus_PENDING, api.NodeSpec_ACCEPTED)
	i := New(Config{ClusterID: clusterID})
	if errs := c.settle(t, i); len(errs) != 1 || !strings.Contains(errs[0].Error(), "no key here") {
		t.Errorf("errors %v", errs)
	}
	if s := c.certificate(t, "n").GetStatus().GetState(); s != api.IssuanceStatus_PENDING {
		t.Errorf("state %s", s)
	}
	c.write(t, func(tx *store.Tx) error {
		cluster, _ := tx.Clusters.Get(clusterID)
		cluster = model.Shallow(cluster)
		cluster.RootCa = model.Shallow(cluster.RootCa)
		cluster.RootCa.CaKey = c.keyPEM
		return tx.Update(cluster)
	})
	if errs := c.settle(t, i); len(errs) != 0 || c.certificate(t, "n").GetStatus().GetState() != api.IssuanceStatus_ISSUED {
		t.Errorf("with a key: %v, %v", errs, c.certificate(t, "n").GetStatus())
	}
}

func TestARequestThatIsReplacedWhileItIsSignedIsNotAnswered(t *testing.T) {
	t.Parallel()
	c := newCluster(t, true)
	c.node(t, "n", api.NodeRole_WORKER, api.IssuanceStatus_PENDING, api.NodeSpec_ACCEPTED)
	old, _ := c.store.Read().Nodes.Get("n")
	head, _ := c.store.Read().Clusters.Get(clusterID)
	i := New(Config{ClusterID: clusterID})
	signed, err := i.sign(t.Context(), head, old)
	if err != nil || signed.GetStatus().GetState() != api.IssuanceStatus_ISSUED {
		t.Fatal(err)
	}
	newer := model.Shallow(old)
	newer.Certificate = model.Shallow(old.Certificate)
	newer.Certificate.Csr = []byte("newer")
	if sameRequest(newer, old) {
		t.Error("another request passes for the one that was signed")
	}
	promoted := model.Shallow(old)
	promoted.Role = api.NodeRole_MANAGER
	if sameRequest(promoted, old) {
		t.Error("a request for another role passes for the one that was signed")
	}
}

func TestANodeThatIsGoneNeedsNoSignature(t *testing.T) {
	t.Parallel()
	c := newCluster(t, true)
	if err := (signature{issuer: New(Config{ClusterID: clusterID}), nodeID: "gone"}).Do(context.Background(), c.store); err != nil {
		t.Error(err)
	}
}

// While roots rotate, the new one signs, and the chain leads to the old one too.
func TestWhileRootsRotateTheNewOneSigns(t *testing.T) {
	t.Parallel()
	c := newCluster(t, true)
	next, nextKey, err := ca.NewRoot(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ca.NewSigner(c.root, c.keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	cross, err := signer.CrossSign(next, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	i := New(Config{ClusterID: clusterID})
	issued := func(id string) (ca.Key, []byte) {
		t.Helper()
		key := c.node(t, id, api.NodeRole_WORKER, api.IssuanceStatus_PENDING, api.NodeSpec_ACCEPTED)
		if errs := c.settle(t, i); len(errs) > 0 {
			t.Fatal(errs)
		}
		return key, c.certificate(t, id).GetCertificate()
	}
	issued("before") // so that what it is made of is known already
	c.changeRoot(t, func(r *api.RootCA) {
		r.RootRotation = &api.RootRotation{CaCert: next.PEM(), CaKey: nextKey, CrossSignedCaCert: cross}
	})
	key, chain := issued("during")
	for what, root := range map[string]*ca.Root{"old": c.root, "new": next} {
		if cert, err := ca.NewCertificate(root, chain, key); err != nil || !cert.NotAfter.After(time.Now()) {
			t.Errorf("who trusts the %s root refuses it: %v", what, err)
		}
	}
	c.changeRoot(t, func(r *api.RootCA) {
		r.CaCert, r.CaKey, r.RootRotation = next.PEM(), nextKey, nil
	})
	key, chain = issued("after")
	if _, err := ca.NewCertificate(next, chain, key); err != nil {
		t.Error(err)
	}
	if _, err := ca.NewCertificate(c.root, chain, key); err == nil || bytes.Count(chain, []byte("BEGIN")) != 1 {
		t.Error("after the rotation the old root is still led to")
	}
}

func (c cluster) changeRoot(t *testing.T, f func(*api.RootCA)) {
	t.Helper()
	c.write(t, func(tx *store.Tx) error {
		cluster, _ := tx.Clusters.Get(clusterID)
		cluster = model.Shallow(cluster)
		cluster.RootCa = model.Shallow(cluster.RootCa)
		f(cluster.RootCa)
		return tx.Update(cluster)
	})
}

// A swarm whose root's key an external CA has: it signs, its refusal is final, its
// absence is not.
func TestAnExternalCASigns(t *testing.T) {
	t.Parallel()
	c := newCluster(t, false)
	signer, err := ca.NewSigner(c.root, c.keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ca.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := key.Request()
	if err != nil {
		t.Fatal(err)
	}
	chain, err := signer.Sign(csr, ca.Subject{NodeID: "manager", Org: clusterID, Role: api.NodeRole_MANAGER}, time.Now(), 0)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.NewCertificate(c.root, chain, key)
	if err != nil {
		t.Fatal(err)
	}
	var mode atomic.Value // how the CA answers: "", "away" or "refuses"
	mode.Store("away")
	signs := cfssltest.Start(t, cfssltest.Config{Root: c.root, Key: c.keyPEM})
	other := cfssltest.Start(t, cfssltest.Config{Root: c.root, Key: c.keyPEM, Answer: func(w http.ResponseWriter, _ *http.Request) {
		if mode.Load() == "away" {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		_, _ = w.Write([]byte(`{"success":false,"errors":[{"code":1,"message":"policy"}]}`))
	}})
	i := New(Config{ClusterID: clusterID, External: &ca.External{Identity: ca.NewIdentity(c.root, cert, nil)}})
	use := func(url string) {
		c.write(t, func(tx *store.Tx) error {
			cluster, _ := tx.Clusters.Get(clusterID)
			cluster = model.Shallow(cluster)
			cluster.Spec = &api.ClusterSpec{CaConfig: &api.CAConfig{ExternalCas: []*api.ExternalCA{{Url: url}}}}
			return tx.Update(cluster)
		})
	}

	use(other.URL)
	nodeKey := c.node(t, "n", api.NodeRole_WORKER, api.IssuanceStatus_PENDING, api.NodeSpec_ACCEPTED)
	if errs := c.settle(t, i); len(errs) != 1 || !strings.Contains(errs[0].Error(), "HTTP status 502") {
		t.Errorf("while the CA is away: %v", errs)
	}
	if s := c.certificate(t, "n").GetStatus().GetState(); s != api.IssuanceStatus_PENDING {
		t.Errorf("while the CA is away the request is %s, want PENDING", s)
	}
	use(signs.URL)
	if errs := c.settle(t, i); len(errs) > 0 {
		t.Fatal(errs)
	}
	if _, err := ca.NewCertificate(c.root, c.certificate(t, "n").GetCertificate(), nodeKey); err != nil || signs.Signed() != 1 {
		t.Errorf("%v; it signed %d", err, signs.Signed())
	}
	mode.Store("refuses")
	use(other.URL)
	c.node(t, "m", api.NodeRole_WORKER, api.IssuanceStatus_PENDING, api.NodeSpec_ACCEPTED)
	if errs := c.settle(t, i); len(errs) > 0 {
		t.Fatal(errs)
	}
	if s := c.certificate(t, "m").GetStatus(); s.GetState() != api.IssuanceStatus_FAILED || !strings.Contains(s.GetErr(), "policy") {
		t.Errorf("after a refusal: %v", s)
	}
}

// A manager whose certificate expired takes a new one out of its own log, for the
// same key, if it is a manager there.
func TestAManagerIssuesItselfWhatItsOwnStateAllows(t *testing.T) {
	t.Parallel()
	c := newCluster(t, true)
	signer, err := ca.NewSigner(c.root, c.keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	later := func() time.Time { return time.Now().Add(1000 * time.Hour) }
	mine := func(id string, role api.NodeRole) *ca.Certificate {
		t.Helper()
		key := c.node(t, id, role, api.IssuanceStatus_ISSUED, api.NodeSpec_ACCEPTED)
		csr, err := key.Request()
		if err != nil {
			t.Fatal(err)
		}
		chain, err := signer.Sign(csr, ca.Subject{NodeID: id, Org: clusterID, Role: api.NodeRole_MANAGER}, time.Now(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := ca.NewCertificate(c.root, chain, key)
		if err != nil || cert.Valid(later()) == nil {
			t.Fatalf("it should have expired: %v", err)
		}
		return cert
	}
	i := New(Config{ClusterID: clusterID, Now: later})
	was := mine("manager", api.NodeRole_MANAGER)
	root, is, err := i.SelfIssue(t.Context(), c.store.Read(), was)
	if err != nil {
		t.Fatal(err)
	}
	if root.Digest() != c.root.Digest() || is.NodeID != was.NodeID || is.Role != was.Role || is.ClusterID != was.ClusterID || is.Valid(later()) != nil || is.NotAfter.After(later().Add(2*time.Hour)) {
		t.Errorf("%s, %v, until %v", is.NodeID, is.Role, is.NotAfter)
	}
	if _, _, err := i.SelfIssue(t.Context(), c.store.Read(), mine("demoted", api.NodeRole_WORKER)); model.KindOf(err) != model.Denied {
		t.Errorf("a demoted manager: got %v, want Denied", err)
	}
	if _, _, err := i.SelfIssue(t.Context(), store.NewLocal(store.Config{}).Read(), was); model.KindOf(err) != model.Unavailable {
		t.Errorf("without a cluster: got %v, want Unavailable", err)
	}
}
