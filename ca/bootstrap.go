package ca

import (
	"time"

	"skep/api"
)

// Bootstrap makes what a new cluster begins with: its root, the root's key for
// the cluster object, and the certificate of its first manager.
func Bootstrap(clusterID, nodeID string, now time.Time, lifetime time.Duration) (root *Root, keyPEM []byte, cert *Certificate, err error) {
	if root, keyPEM, err = NewRoot(now); err != nil {
		return nil, nil, nil, err
	}
	signer, err := NewSigner(root, keyPEM)
	if err != nil {
		return nil, nil, nil, err
	}
	key, err := NewKey()
	if err != nil {
		return nil, nil, nil, err
	}
	request, err := key.Request()
	if err != nil {
		return nil, nil, nil, err
	}
	chain, err := signer.Sign(request, Subject{NodeID: nodeID, Org: clusterID, Role: api.NodeRole_MANAGER}, now, lifetime)
	if err != nil {
		return nil, nil, nil, err
	}
	if cert, err = NewCertificate(root, chain, key); err != nil {
		return nil, nil, nil, err
	}
	return root, keyPEM, cert, nil
}

// NewRootCA returns a root as the cluster object carries it, with its key and
// new join tokens.
func NewRootCA(root *Root, keyPEM []byte) (*api.RootCA, error) {
	worker, err := NewToken(root)
	if err != nil {
		return nil, err
	}
	manager, err := NewToken(root)
	if err != nil {
		return nil, err
	}
	return &api.RootCA{
		CaKey:      keyPEM,
		CaCert:     root.pem,
		CaCertHash: HashOf(root.pem),
		JoinTokens: &api.JoinTokens{Worker: worker.Reveal(), Manager: manager.Reveal()},
	}, nil
}
