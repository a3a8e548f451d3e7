package issuer

import (
	"context"

	"skep/api"
	"skep/ca"
	"skep/model"
	"skep/store"
)

// SelfIssue returns the swarm's root and a certificate for a manager whose own has expired, for the
// same key, ID and role, out of the state that the manager itself holds: with it
// managers that were all down for too long find each other again, and one that is
// alone starts. It lives for ca.MinLifetime, so that the node renews it as usual once
// there is a leader; nothing is written. It is refused for a node that is no
// manager in that state. A manager that was removed meanwhile and does not know it
// gains nothing: the others ask their own state.
func (i *Issuer) SelfIssue(ctx context.Context, s *store.Snapshot, cert *ca.Certificate) (*ca.Root, *ca.Certificate, error) {
	cluster, ok := s.Clusters.Get(i.cfg.ClusterID)
	if !ok {
		return nil, nil, model.Errorf(model.Unavailable, "renew the certificate of manager %s: its log does not hold the swarm's root", cert.NodeID)
	}
	node, ok := s.Nodes.Get(cert.NodeID)
	if !ok || node.GetRole() != api.NodeRole_MANAGER {
		return nil, nil, model.Errorf(model.Denied, "renew the certificate of node %s: it is no manager of this swarm any more: let it leave and join again", cert.NodeID)
	}
	csr, err := cert.Key().Request()
	if err != nil {
		return nil, nil, err
	}
	chain, err := i.chain(ctx, cluster, csr, ca.Subject{NodeID: cert.NodeID, Org: cluster.GetId(), Role: api.NodeRole_MANAGER}, ca.MinLifetime)
	if err != nil {
		return nil, nil, err
	}
	root, err := ca.ParseRoot(cluster.GetRootCa().GetCaCert(), i.cfg.Now())
	if err != nil {
		return nil, nil, err
	}
	is, err := ca.NewCertificate(root, chain, cert.Key())
	return root, is, err
}
