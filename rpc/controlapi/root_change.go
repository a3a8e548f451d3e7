package controlapi

import (
	"bytes"
	"context"
	"errors"

	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/ca"
	"skep/model"
)

// ExternalCA is what this package needs of ca.External.
type ExternalCA interface {
	// Probe returns nil when an external CA can be reached at a URL.
	Probe(ctx context.Context, url string, roots ...*ca.Root) error
	// CrossSign returns next's certificate as an intermediate below old.
	CrossSign(ctx context.Context, urls []string, old, next *ca.Root, nextKeyPEM []byte) ([]byte, error)
}

// planRoot returns the root that cluster c has with a new spec. It is the one that
// it has unless the spec gives a signing certificate or another force_rotate; then
//
//   - the certificate of today's root ends a rotation that is under way and may give
//     today's key; when none is under way it may take the key too;
//   - the certificate that is rotated to gets another key, or loses it;
//   - any other, or a new one of the swarm's own when none is given, becomes what is
//     rotated to. The root of today signs it, so that whoever trusts that trusts what
//     the new one signs.
//
// Keys are never shown, so a certificate alone takes its key away only where an
// external CA is to sign instead.
//
// Whoever is to sign has to be there: a key, or an external CA that answers. Errors
// have kind Invalid when the spec is wrong.
func (s *Server) planRoot(ctx context.Context, c *api.Cluster, spec *api.ClusterSpec) (*api.RootCA, error) {
	was, is, root := c.GetSpec().GetCaConfig(), spec.GetCaConfig(), c.GetRootCa()
	changed := !proto.Equal(&api.CAConfig{ExternalCas: was.GetExternalCas()}, &api.CAConfig{ExternalCas: is.GetExternalCas()})
	if changed {
		if err := checkExternalCAs(is.GetExternalCas()); err != nil {
			return nil, err
		}
	}
	cert, key := bytes.TrimSpace(is.GetSigningCaCert()), bytes.TrimSpace(is.GetSigningCaKey())
	if len(cert)+len(key) == 0 && is.GetForceRotate() == root.GetLastForcedRotation() {
		if changed {
			return root, s.checkSigners(ctx, is, root)
		}
		return root, nil
	}
	var next *ca.Root
	var err error
	if len(cert)+len(key) > 0 {
		if next, err = ca.ParseSigningRoot(cert, key, s.now()); err != nil {
			return nil, err
		}
	}
	current, err := ca.ParseRoot(root.GetCaCert(), s.now())
	if err != nil {
		return nil, model.Errorf(model.Internal, "the root of the swarm cannot be used: %w", err)
	}
	if next == nil {
		if next, key, err = ca.NewRoot(s.now()); err != nil {
			return nil, err
		}
	}
	planned, rotation := &api.RootCA{}, root.GetRootRotation()
	if root != nil {
		planned = model.Shallow(root)
	}
	planned.LastForcedRotation = is.GetForceRotate()
	switch {
	case ca.SameCertificate(next.PEM(), root.GetCaCert()):
		planned.RootRotation = nil
		planned.CaKey = key
		if urls := ca.ExternalURLs(is.GetExternalCas(), root.GetCaCert(), true); len(key) == 0 && (rotation != nil || len(urls) == 0) {
			planned.CaKey = root.GetCaKey()
		}
	case rotation != nil && ca.SameCertificate(next.PEM(), rotation.GetCaCert()):
		planned.RootRotation = model.Shallow(rotation)
		planned.RootRotation.CaKey = key
		if urls := ca.ExternalURLs(is.GetExternalCas(), rotation.GetCaCert(), false); len(key) == 0 && len(urls) == 0 {
			planned.RootRotation.CaKey = rotation.GetCaKey()
		}
	case next.SharesKey(current):
		return nil, model.Errorf(model.Invalid, "signing CA: it has the key of the root that the swarm has: nothing would be safer with it; give one with another key")
	default:
		cross, err := s.crossSign(ctx, is, root, current, next, key)
		if err != nil {
			return nil, err
		}
		planned.RootRotation = &api.RootRotation{CaCert: next.PEM(), CaKey: key, CrossSignedCaCert: cross}
	}
	return planned, s.checkSigners(ctx, is, planned)
}

// crossSign has next signed by the root of today: by its key, or else by the
// external CA that has it.
func (s *Server) crossSign(ctx context.Context, config *api.CAConfig, root *api.RootCA, current, next *ca.Root, nextKey []byte) ([]byte, error) {
	if len(root.GetCaKey()) > 0 {
		signer, err := ca.NewSigner(current, root.GetCaKey())
		if err != nil {
			return nil, model.Errorf(model.Internal, "the root of the swarm cannot be used: %w", err)
		}
		return signer.CrossSign(next, s.now())
	}
	if len(nextKey) == 0 {
		return nil, model.Errorf(model.Invalid, "signing CA: rotating from one external CA to a different external CA is not supported: the key of neither is here; rotate to a root of the swarm's own first, with force_rotate")
	}
	urls := ca.ExternalURLs(config.GetExternalCas(), root.GetCaCert(), true)
	if len(urls) == 0 {
		return nil, model.Errorf(model.Invalid, "ca_config.external_cas lacks the external CA of today's root, which has to sign the new one: leave it in the list until the rotation has ended")
	}
	if s.external == nil {
		return nil, noExternal()
	}
	return s.external.CrossSign(ctx, urls, current, next, nextKey)
}

// checkSigners reports when nobody could sign for a root, or for the one that is
// rotated to.
func (s *Server) checkSigners(ctx context.Context, config *api.CAConfig, root *api.RootCA) error {
	if rotation := root.GetRootRotation(); rotation != nil {
		if len(rotation.GetCaKey()) > 0 {
			return nil
		}
		return s.reach(ctx, config, rotation.GetCaCert(), false)
	}
	if len(root.GetCaKey()) > 0 {
		return nil
	}
	return s.reach(ctx, config, root.GetCaCert(), true)
}

// reach returns nil when one of the external CAs for a root, PEM, can be reached.
func (s *Server) reach(ctx context.Context, config *api.CAConfig, cert []byte, own bool) error {
	urls := ca.ExternalURLs(config.GetExternalCas(), cert, own)
	if len(urls) == 0 {
		return model.Errorf(model.Invalid, "the root has no key here and no external CA of ca_config.external_cas signs for it: no node could join or renew; give its key, or an external CA with its certificate as ca_cert")
	}
	if s.external == nil {
		return noExternal()
	}
	root, err := ca.ParseRoot(cert, s.now())
	if err != nil {
		return err
	}
	var errs []error
	for _, url := range urls {
		err := s.external.Probe(ctx, url, root)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return model.Errorf(model.Invalid, "no external CA for the root can be reached, so no node could join or renew; start one, or give the right URL: %w", errors.Join(errs...))
}

func noExternal() error {
	return model.Errorf(model.Unimplemented, "this manager cannot ask external CAs; leave external_cas out and give the key of the root")
}

func checkExternalCAs(cas []*api.ExternalCA) error {
	for i, c := range cas {
		if c.GetProtocol() != api.ExternalCA_CFSSL {
			return model.Errorf(model.Invalid, "ca_config.external_cas.%d has protocol %d: only CFSSL is known; use that", i, c.GetProtocol())
		}
		if err := ca.CheckExternalURL(c.GetUrl()); err != nil {
			return model.Errorf(model.Invalid, "ca_config.external_cas.%d: %w", i, err)
		}
		if cert := c.GetCaCert(); len(cert) > 0 && !ca.SameCertificate(cert, cert) {
			return model.Errorf(model.Invalid, "ca_config.external_cas.%d: its ca_cert is no PEM certificate; give the root that it signs with, or nothing when that is the swarm's own", i)
		}
	}
	return nil
}
