package rotator

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"encoding/pem"
	"time"

	"skep/api"
	"skep/ca"
	"skep/loop"
	"skep/model"
	"skep/store"
)

const (
	// Every rootPeriod so many nodes are told to renew their certificates, or a part of
	// all if that is more: a rotation takes about a minute however large the swarm is.
	rootPeriod = time.Second
	rootBatch  = 30
	rootPart   = 60
	// A node looks at what it says of itself every 20 s. One that has been sent a
	// certificate of the new root and has said nothing else for this long did not keep
	// it: it is told again.
	rootPatience = 45 * time.Second
)

// Root brings all nodes to the root that the swarm rotates to, and then makes that
// the swarm's.
type Root struct {
	// ClusterID is the ID of the cluster object. Required.
	ClusterID string
	// New makes the root object, with join tokens, that a rotation ends with; nil is
	// ca.NewRootCA.
	New func(root *ca.Root, keyPEM []byte) (*api.RootCA, error)
}

// rootStep is what there is to do for a rotation.
type rootStep string

const (
	// rootNext is to tell the next nodes.
	rootNext rootStep = "next"
	// rootEnd is to end the rotation if all nodes are there.
	rootEnd rootStep = "end"
)

// Loop returns the loop over the steps of a rotation.
func (r Root) Loop() loop.Loop[rootStep] {
	if r.New == nil {
		r.New = ca.NewRootCA
	}
	return loop.Loop[rootStep]{
		Name: "root",
		Keys: func(c store.Change, dirty func(rootStep)) {
			switch o := cmp.Or(c.New, c.Old).(type) {
			case *api.Cluster:
				if was, ok := c.Old.(*api.Cluster); o.GetId() == r.ClusterID && (!ok || was.GetRootCa() != o.GetRootCa()) {
					dirty(rootNext)
					dirty(rootEnd)
				}
			case *api.Node:
				dirty(rootEnd)
			}
		},
		All: func(_ *store.Snapshot, dirty func(rootStep)) {
			dirty(rootNext)
			dirty(rootEnd)
		},
		Plan: r.plan,
	}
}

func (r Root) plan(env *loop.Env, s *store.Snapshot, steps []rootStep, out *loop.Plan[rootStep]) {
	cluster, ok := s.Clusters.Get(r.ClusterID)
	rotation := cluster.GetRootCa().GetRootRotation()
	if !ok || rotation == nil {
		return
	}
	root, err := ca.ParseRoot(rotation.GetCaCert(), env.Now)
	if err != nil || len(root.Certificates()) != 1 {
		out.WakeAt(rootNext, env.Now.Add(time.Minute)) // UpdateCluster lets no such root in; a clock may be wrong
		return
	}
	to := target{cert: root.Certificates()[0]}
	for _, step := range steps {
		switch step {
		case rootNext:
			r.next(env, s, to, out)
		case rootEnd:
			if !allAt(s, to) {
				continue
			}
			if out.Full() {
				out.Again(step)
				continue
			}
			r.end(env, cluster, root, out)
			return
		}
	}
}

// allAt reports whether all nodes are where the rotation goes.
func allAt(s *store.Snapshot, to target) bool {
	for n := range s.Nodes.All() {
		if !to.reached(n) {
			return false
		}
	}
	return true
}

// next tells the next nodes to renew.
func (r Root) next(env *loop.Env, s *store.Snapshot, to target, out *loop.Plan[rootStep]) {
	var told []*api.Node
	limit := min(max(rootBatch, s.Nodes.Len()/rootPart), out.Left())
	for n := range s.Nodes.All() {
		if len(told) == limit {
			break
		}
		if !to.reached(n) && to.tells(n, env.Now) {
			told = append(told, n)
		}
	}
	for _, n := range told {
		n = model.Shallow(n)
		n.Certificate = model.Shallow(n.Certificate)
		n.Certificate.Status = &api.IssuanceStatus{State: api.IssuanceStatus_ROTATE}
		out.Update(n)
	}
	out.WakeAt(rootNext, env.Now.Add(rootPeriod))
}

// end makes what was rotated to the swarm's root, with join tokens of its own.
func (r Root) end(env *loop.Env, cluster *api.Cluster, root *ca.Root, out *loop.Plan[rootStep]) {
	was := cluster.GetRootCa()
	is, err := r.New(root, was.GetRootRotation().GetCaKey())
	if err != nil {
		out.WakeAt(rootEnd, env.Now.Add(time.Minute)) // without randomness nothing here works
		return
	}
	is.LastForcedRotation = was.GetLastForcedRotation()
	cluster = model.Shallow(cluster)
	cluster.RootCa = is
	out.Update(cluster)
}

// target is the root that nodes are to have their certificates from.
type target struct{ cert *x509.Certificate }

// reached reports whether a node is where the rotation goes: it says itself that its
// certificate is the new root's. A node that has never said anything has no other
// certificate than the one that it was given, and one that was not let in yet has none.
func (t target) reached(n *api.Node) bool {
	if is := n.GetDescription().GetTlsInfo(); is != nil {
		return bytes.Equal(is.GetCertIssuerPublicKey(), t.cert.RawSubjectPublicKeyInfo) && bytes.Equal(is.GetCertIssuerSubject(), t.cert.RawSubject)
	}
	if n.GetDescription() != nil {
		return false
	}
	if len(n.GetCertificate().GetCertificate()) == 0 {
		return n.GetSpec().GetMembership() == api.NodeSpec_PENDING
	}
	return t.signed(n)
}

// signed reports whether the certificate that a node was last given is the new root's.
func (t target) signed(n *api.Node) bool {
	block, _ := pem.Decode(n.GetCertificate().GetCertificate())
	if block == nil {
		return false
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	return err == nil && bytes.Equal(leaf.RawIssuer, t.cert.RawSubject) && leaf.CheckSignatureFrom(t.cert) == nil
}

// tells reports whether a node that is not there yet is to be told to renew: it is
// there to hear it, it was not told, and its renewal is not under way.
func (t target) tells(n *api.Node, now time.Time) bool {
	switch n.GetCertificate().GetStatus().GetState() {
	case api.IssuanceStatus_ROTATE, api.IssuanceStatus_RENEW, api.IssuanceStatus_PENDING:
		return false
	default:
	}
	if n.GetCertificate() == nil || n.GetStatus().GetState() != api.NodeStatus_READY {
		return false
	}
	return !t.signed(n) || now.Sub(n.GetMeta().GetUpdatedAt().AsTime()) >= rootPatience
}
