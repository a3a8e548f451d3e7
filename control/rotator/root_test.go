package rotator_test

import (
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"skep/api"
	"skep/ca"
	"skep/control/rotator"
	"skep/loop/looptest"
	"skep/model"
	"skep/store"
)

// Each file is a story of one swarm with the root A, and of others that it rotates to.
//
//	node NAME…        nodes that are READY and have and show certificates of the root
//	joined NAME…      nodes that were given a certificate of the root that signs now,
//	                  and have not said anything yet
//	pending NAME      a node that was not let in
//	nodes N           n1 to nN
//	rotate ROOT       UpdateCluster begins a rotation
//	cancel            and ends it
//	ask NAME…         nodes ask for a certificate
//	given NAME…       nodes are given one of the root that signs now
//	shows NAME… ROOT  nodes say whose certificate they have
//	down, up NAME…    nodes are down, or back
//	remove NAME…      nodes are removed
//	wait 1s           time passes, and what is due happens
//	no-randomness     join tokens cannot be made, until it is said again
//
// Each prints the swarm's root and where nodes are, those together that are alike.
func TestHowARootIsRotated(t *testing.T) {
	t.Parallel()
	datadriven.Walk(t, "testdata/root", func(t *testing.T, path string) {
		r := newRotation(t)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var args []string
			for _, a := range d.CmdArgs {
				args = append(args, a.Key)
			}
			r.do(t, d.Cmd, args)
			r.cluster.Settle(t)
			return r.show()
		})
	})
}

type rotation struct {
	cluster *looptest.Cluster
	roots   map[string]*ca.Root
	keys    map[string][]byte
	broken  bool
}

func newRotation(t *testing.T) *rotation {
	t.Helper()
	r := &rotation{roots: map[string]*ca.Root{}, keys: map[string][]byte{}}
	r.cluster = looptest.New(rotator.Root{ClusterID: "c", New: func(root *ca.Root, key []byte) (*api.RootCA, error) {
		if r.broken {
			return nil, errors.New("no randomness")
		}
		return ca.NewRootCA(root, key)
	}}.Loop())
	for _, name := range []string{"A", "B", "C"} {
		var err error
		if r.roots[name], r.keys[name], err = ca.NewRoot(r.cluster.Now()); err != nil {
			t.Fatal(err)
		}
	}
	root, err := ca.NewRootCA(r.roots["A"], r.keys["A"])
	if err != nil {
		t.Fatal(err)
	}
	root.LastForcedRotation = 3
	r.cluster.Do(t, func(tx *store.Tx) error { return tx.Create(&api.Cluster{Id: "c", RootCa: root}) })
	return r
}

func (r *rotation) do(t *testing.T, command string, args []string) {
	t.Helper()
	switch command {
	case "rotate", "cancel":
		r.change(t, func(root *api.RootCA) {
			root.RootRotation = nil
			if command == "rotate" {
				root.RootRotation = &api.RootRotation{CaCert: r.roots[args[0]].PEM(), CaKey: r.keys[args[0]], CrossSignedCaCert: []byte("cross")}
			}
		})
	case "wait":
		d, err := time.ParseDuration(args[0])
		if err != nil {
			t.Fatal(err)
		}
		r.cluster.Wait(d)
	case "no-randomness":
		r.broken = !r.broken
	case "nodes":
		n, err := strconv.Atoi(args[0])
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for i := range n {
			all = append(all, "n"+strconv.Itoa(i+1))
		}
		r.do(t, "node", all)
	case "node", "joined", "pending":
		for _, id := range args {
			r.create(t, id, command)
		}
	case "shows":
		root := args[len(args)-1]
		for _, id := range args[:len(args)-1] {
			r.edit(t, id, func(n *api.Node) { n.Description = r.description(root) })
		}
	default:
		for _, id := range args {
			r.edit(t, id, r.edits(t, command))
		}
	}
}

// edits returns what a command changes in a node.
func (r *rotation) edits(t *testing.T, command string) func(*api.Node) {
	t.Helper()
	state := func(s api.NodeStatus_State) func(*api.Node) {
		return func(n *api.Node) { n.Status = &api.NodeStatus{State: s} }
	}
	switch command {
	case "down":
		return state(api.NodeStatus_DOWN)
	case "up":
		return state(api.NodeStatus_READY)
	case "ask":
		return func(n *api.Node) {
			n.Certificate = model.Shallow(n.Certificate)
			n.Certificate.Status = &api.IssuanceStatus{State: api.IssuanceStatus_RENEW}
		}
	case "given":
		return func(n *api.Node) { n.Certificate = r.issue(t, n.GetId()) }
	case "remove":
		return nil
	}
	t.Fatalf("there is no command %q", command)
	return nil
}

func (r *rotation) create(t *testing.T, id, how string) {
	t.Helper()
	n := &api.Node{Id: id, Spec: &api.NodeSpec{Membership: api.NodeSpec_ACCEPTED}, Certificate: r.issue(t, id), Status: &api.NodeStatus{}}
	switch how {
	case "node":
		n.Status.State, n.Description = api.NodeStatus_READY, r.description("A")
	case "pending":
		n.Spec.Membership, n.Certificate = api.NodeSpec_PENDING, &api.Certificate{Status: &api.IssuanceStatus{State: api.IssuanceStatus_PENDING}}
	}
	r.cluster.Do(t, func(tx *store.Tx) error { return tx.Create(n) })
}

// edit changes a node; nil removes it.
func (r *rotation) edit(t *testing.T, id string, f func(*api.Node)) {
	t.Helper()
	r.cluster.Do(t, func(tx *store.Tx) error {
		n, ok := tx.Nodes.Get(id)
		if !ok {
			return fmt.Errorf("there is no node %s", id)
		}
		if f == nil {
			return tx.Delete(n)
		}
		n = model.Shallow(n)
		f(n)
		return tx.Update(n)
	})
}

func (r *rotation) change(t *testing.T, f func(*api.RootCA)) {
	t.Helper()
	r.cluster.Do(t, func(tx *store.Tx) error {
		c, _ := tx.Clusters.Get("c")
		c = model.Shallow(c)
		c.RootCa = model.Shallow(c.RootCa)
		f(c.RootCa)
		return tx.Update(c)
	})
}

func (r *rotation) root() *api.RootCA {
	c, _ := r.cluster.Store.Proposed().Clusters.Get("c")
	return c.GetRootCa()
}

func (r *rotation) name(cert []byte) string {
	for name, root := range r.roots {
		if ca.SameCertificate(cert, root.PEM()) {
			return name
		}
	}
	return "?"
}

// issue signs a certificate with the root that signs now.
func (r *rotation) issue(t *testing.T, id string) *api.Certificate {
	t.Helper()
	name := r.name(r.root().GetCaCert())
	if rotation := r.root().GetRootRotation(); rotation != nil {
		name = r.name(rotation.GetCaCert())
	}
	signer, err := ca.NewSigner(r.roots[name], r.keys[name])
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
	chain, err := signer.Sign(csr, ca.Subject{NodeID: id, Org: "c", Role: api.NodeRole_WORKER}, r.cluster.Now(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return &api.Certificate{Csr: csr, Certificate: chain, Status: &api.IssuanceStatus{State: api.IssuanceStatus_ISSUED}}
}

func (r *rotation) description(root string) *api.NodeDescription {
	cert := r.roots[root].Certificates()[0]
	return &api.NodeDescription{TlsInfo: &api.NodeTLSInfo{
		TrustRoot: r.roots["A"].PEM(), CertIssuerSubject: cert.RawSubject, CertIssuerPublicKey: cert.RawSubjectPublicKeyInfo,
	}}
}

func (r *rotation) show() string {
	s := r.cluster.Store.Proposed()
	root := r.root()
	out := "root " + r.name(root.GetCaCert())
	if rotation := root.GetRootRotation(); rotation != nil {
		out += ", rotates to " + r.name(rotation.GetCaCert())
	}
	for role, text := range map[string]string{"worker": root.GetJoinTokens().GetWorker(), "manager": root.GetJoinTokens().GetManager()} {
		if token, err := ca.ParseToken(text); err != nil || token.Digest != ca.DigestOf(root.GetCaCert()) {
			out += fmt.Sprintf("; the %s token is another root's (%v)", role, err)
		}
	}
	if root.GetCaCertHash() != ca.HashOf(root.GetCaCert()) || root.GetLastForcedRotation() != 3 {
		out += "; it is not whole"
	}
	if block, _ := pem.Decode(root.GetCaKey()); block == nil {
		out += "; its key is gone"
	}
	out += "\n"
	of := map[string][]string{}
	for _, n := range slices.SortedFunc(s.Nodes.All(), func(a, b *api.Node) int { return strings.Compare(a.GetId(), b.GetId()) }) {
		what := n.GetCertificate().GetStatus().GetState().String()
		if n.GetStatus().GetState() == api.NodeStatus_DOWN {
			what += ", down"
		}
		of[what] = append(of[what], n.GetId())
	}
	for _, what := range slices.Sorted(maps.Keys(of)) {
		ids := strings.Join(of[what], " ")
		if len(of[what]) > 5 {
			ids = fmt.Sprint(len(of[what]), " nodes")
		}
		out += what + ": " + ids + "\n"
	}
	return out
}
