package issuer

import (
	"bytes"
	"context"
	"runtime"
	"sync"
	"time"

	"skep/api"
	"skep/ca"
	"skep/loop"
	"skep/model"
	"skep/store"
)

// Config is what an Issuer is made of.
type Config struct {
	// ClusterID is the ID of the cluster object. Required.
	ClusterID string
	// Now is the wall clock of certificates; nil is time.Now.
	Now func() time.Time
}

// Issuer signs. It may be used by several goroutines.
type Issuer struct {
	cfg   Config
	turns chan struct{} // one for each signature under way

	mu     sync.Mutex
	root   *api.RootCA // what signer was made of
	signer *ca.Signer
}

// New returns an issuer.
func New(cfg Config) *Issuer {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Issuer{cfg: cfg, turns: make(chan struct{}, runtime.GOMAXPROCS(0))}
}

// Loop returns the loop over node IDs.
func (i *Issuer) Loop() loop.Loop[string] {
	return loop.Loop[string]{
		Name: "issuer",
		Keys: func(c store.Change, dirty func(string)) {
			if node, ok := c.New.(*api.Node); ok && waits(node) {
				dirty(node.GetId())
			}
		},
		All: func(s *store.Snapshot, dirty func(string)) {
			for node := range s.Nodes.All() {
				if waits(node) {
					dirty(node.GetId())
				}
			}
		},
		Plan: i.plan,
	}
}

func (i *Issuer) plan(_ *loop.Env, s *store.Snapshot, keys []string, out *loop.Plan[string]) {
	for _, id := range keys {
		if node, ok := s.Nodes.Get(id); ok && waits(node) {
			out.Effect(signature{issuer: i, nodeID: id})
		}
	}
}

// waits reports whether a node's certificate is to be signed.
func waits(n *api.Node) bool {
	switch n.GetCertificate().GetStatus().GetState() {
	case api.IssuanceStatus_PENDING:
		return n.GetSpec().GetMembership() == api.NodeSpec_ACCEPTED
	case api.IssuanceStatus_RENEW:
		return true
	default:
		return false
	}
}

// signature is the effect that signs the certificate of one node.
type signature struct {
	issuer *Issuer
	nodeID string
}

// Key is the node's: one signature at a time for each.
func (e signature) Key() string { return "sign/" + e.nodeID }

// Do signs what the node waits for at this moment, if it still does.
func (e signature) Do(ctx context.Context, s *store.Store) error {
	// The request may still be on its way through the log. What is signed for it
	// is written after it, and seen by nobody before that is committed.
	head := s.Proposed()
	node, ok := head.Nodes.Get(e.nodeID)
	if !ok || !waits(node) {
		return nil
	}
	cluster, ok := head.Clusters.Get(e.issuer.cfg.ClusterID)
	if !ok {
		return model.Errorf(model.Unavailable, "sign the certificate of node %s: there is no cluster object yet", e.nodeID)
	}
	select {
	case e.issuer.turns <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	signed, err := e.issuer.sign(cluster, node)
	<-e.issuer.turns
	if err != nil {
		return err
	}
	return s.Update(ctx, func(tx *store.Tx) error {
		now, ok := tx.Nodes.Get(e.nodeID)
		if !ok || !waits(now) || !sameRequest(now, node) {
			return nil // another request came in between: it has its own signature
		}
		next := model.Shallow(now)
		next.Certificate = signed
		return tx.Update(next)
	})
}

func sameRequest(a, b *api.Node) bool {
	return a.GetRole() == b.GetRole() && bytes.Equal(a.GetCertificate().GetCsr(), b.GetCertificate().GetCsr())
}

// sign returns the certificate of a node, issued or failed. An error means that
// it is not known yet which.
func (i *Issuer) sign(cluster *api.Cluster, node *api.Node) (*api.Certificate, error) {
	signer, err := i.signerOf(cluster.GetRootCa())
	if err != nil {
		return nil, err
	}
	cert := model.Shallow(node.GetCertificate())
	cert.Role = node.GetRole()
	subject := ca.Subject{NodeID: node.GetId(), Org: cluster.GetId(), Role: node.GetRole()}
	lifetime := cluster.GetSpec().GetCaConfig().GetNodeCertExpiry().AsDuration()
	chain, err := signer.Sign(cert.GetCsr(), subject, i.cfg.Now(), lifetime)
	switch {
	case err == nil:
		cert.Certificate, cert.Status = chain, &api.IssuanceStatus{State: api.IssuanceStatus_ISSUED}
	case model.KindOf(err) == model.Invalid:
		cert.Status = &api.IssuanceStatus{State: api.IssuanceStatus_FAILED, Err: err.Error()}
	default:
		return nil, err
	}
	return cert, nil
}

// signerOf returns the signer of a root. Objects never change, so the same
// object has the same signer.
func (i *Issuer) signerOf(root *api.RootCA) (*ca.Signer, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.signer != nil && i.root == root {
		return i.signer, nil
	}
	trusted, err := ca.ParseRoot(root.GetCaCert(), i.cfg.Now())
	if err != nil {
		return nil, err
	}
	signer, err := ca.NewSigner(trusted, root.GetCaKey())
	if err != nil {
		return nil, err
	}
	i.root, i.signer = root, signer
	return signer, nil
}
