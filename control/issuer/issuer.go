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
	// External asks external CAs; nil means that the swarm can have none.
	External External
}

// External is what this package needs of ca.External.
type External interface {
	Sign(ctx context.Context, urls []string, root *ca.Root, request []byte, subject ca.Subject) ([]byte, error)
}

// Issuer signs. It may be used by several goroutines.
type Issuer struct {
	cfg   Config
	turns chan struct{} // one for each signature under way

	mu   sync.Mutex
	made *signing // of the root of the moment
}

// signing is what certificates are signed with, and what it was made of. Objects
// never change, so the same objects make the same.
type signing struct {
	of     *api.RootCA
	config *api.CAConfig

	root         *ca.Root
	signer       *ca.Signer // nil without a key
	urls         []string   // of external CAs that sign for root
	intermediate []byte     // appended while roots rotate
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
	signed, err := e.issuer.sign(ctx, cluster, node)
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
func (i *Issuer) sign(ctx context.Context, cluster *api.Cluster, node *api.Node) (*api.Certificate, error) {
	cert := model.Shallow(node.GetCertificate())
	cert.Role = node.GetRole()
	subject := ca.Subject{NodeID: node.GetId(), Org: cluster.GetId(), Role: node.GetRole()}
	chain, err := i.chain(ctx, cluster, cert.GetCsr(), subject, cluster.GetSpec().GetCaConfig().GetNodeCertExpiry().AsDuration())
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

// chain returns a signed certificate, PEM, with the intermediate that leads to the
// root of today while roots rotate. Errors of kind Invalid are the request's fault.
func (i *Issuer) chain(ctx context.Context, cluster *api.Cluster, csr []byte, subject ca.Subject, lifetime time.Duration) ([]byte, error) {
	with, err := i.signingWith(cluster)
	if err != nil {
		return nil, err
	}
	var chain []byte
	if len(with.urls) > 0 && i.cfg.External != nil {
		if err := ca.CheckRequest(csr); err != nil {
			return nil, err
		}
		chain, err = i.cfg.External.Sign(ctx, with.urls, with.root, csr, subject)
	} else {
		chain, err = i.local(ctx, with, csr, subject, lifetime)
	}
	if err != nil {
		return nil, err
	}
	return append(bytes.TrimRight(chain, "\n"), append([]byte("\n"), with.intermediate...)...), nil
}

// local signs with the key that the cluster object holds.
func (i *Issuer) local(ctx context.Context, with *signing, csr []byte, subject ca.Subject, lifetime time.Duration) ([]byte, error) {
	if with.signer == nil {
		return nil, model.Errorf(model.Precondition, "sign the certificate of node %s: this swarm's root has no key here, and no external CA is configured for it: give one with ca_config.external_cas", subject.NodeID)
	}
	select {
	case i.turns <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-i.turns }()
	return with.signer.Sign(csr, subject, i.cfg.Now(), lifetime)
}

// signingWith returns what certificates are signed with at this moment: the root
// that is rotated to, if one is.
func (i *Issuer) signingWith(cluster *api.Cluster) (*signing, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	of, config := cluster.GetRootCa(), cluster.GetSpec().GetCaConfig()
	if i.made != nil && i.made.of == of && i.made.config == config {
		return i.made, nil
	}
	with := &signing{of: of, config: config}
	cert, key := of.GetCaCert(), of.GetCaKey()
	rotation := of.GetRootRotation()
	if rotation != nil {
		cert, key, with.intermediate = rotation.GetCaCert(), rotation.GetCaKey(), rotation.GetCrossSignedCaCert()
	}
	with.urls = ca.ExternalURLs(config.GetExternalCas(), cert, rotation == nil)
	var err error
	if with.root, err = ca.ParseRoot(cert, i.cfg.Now()); err != nil {
		return nil, err
	}
	if len(key) > 0 {
		if with.signer, err = ca.NewSigner(with.root, key); err != nil {
			return nil, err
		}
	}
	i.made = with
	return with, nil
}
