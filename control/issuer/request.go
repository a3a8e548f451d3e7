package issuer

import (
	"bytes"
	"context"

	"skep/api"
	"skep/store"
)

// Renew asks for a new certificate for a node that there is, and returns the node.
// A request that was made before and is under way or answered is the same request.
// The error is of kind NotFound when there is no such node.
func Renew(ctx context.Context, s *store.Store, nodeID string, csr []byte) (*api.Node, error) {
	return store.Edit(ctx, s, nodeID, nil, func(n *api.Node) error {
		if Asked(n, csr) {
			return nil
		}
		n.Certificate = &api.Certificate{
			Csr: csr, Cn: n.GetId(), Role: n.GetRole(),
			Status: &api.IssuanceStatus{State: api.IssuanceStatus_RENEW},
			// Until there is another, this is the one that the node uses: should the node be
			// removed or its certificate expire meanwhile, it says until when and whose it is.
			Certificate: n.GetCertificate().GetCertificate(),
		}
		return nil
	})
}

// Asked reports whether a request for the certificate that a node is to have is
// under way or answered: whoever made it did not see our answer.
func Asked(n *api.Node, csr []byte) bool {
	cert := n.GetCertificate()
	if !bytes.Equal(cert.GetCsr(), csr) || cert.GetRole() != n.GetRole() {
		return false
	}
	switch cert.GetStatus().GetState() {
	case api.IssuanceStatus_PENDING, api.IssuanceStatus_RENEW, api.IssuanceStatus_ISSUED:
		return true
	default:
		return false
	}
}
