package ca

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"

	"skep/model"
)

// Under returns the same certificate held against another root: of the swarm's
// new root it knows that it is the swarm's when that vouches for the certificate
// too, directly or by way of an intermediate in its chain. Validity in time is not
// looked at.
func (c *Certificate) Under(root *Root) (*Certificate, error) {
	if len(c.pem) == 0 {
		return nil, model.Errorf(model.Invalid, "there is no certificate that a root could vouch for")
	}
	return NewCertificate(root, c.pem, c.key)
}

// Key returns the key that the certificate is for.
func (c *Certificate) Key() Key { return c.key }

// Trusting returns an identity with the same certificate that trusts another
// root, if that vouches for the certificate; the error is of kind Denied otherwise.
// i is not changed.
func (i *Identity) Trusting(root *Root) (*Identity, error) {
	cert, err := i.Certificate().Under(root)
	if err != nil {
		return nil, foreignRoot(i, root, err)
	}
	return NewIdentity(root, cert, i.now), nil
}

// Trust makes the root certificates that a manager sent, PEM, the trusted ones, if
// they vouch for the node's own certificate, in files first. It reports whether
// they are others than before. Bytes that are those trusted already cost nothing.
func (i *Identity) Trust(files *Files, bundle []byte) (changed bool, err error) {
	if len(bundle) == 0 || bytes.Equal(bundle, i.Root().PEM()) {
		return false, nil
	}
	root, err := ParseRoot(bundle, i.now())
	if err != nil {
		return false, err
	}
	i.saving.Lock()
	defer i.saving.Unlock()
	cert, err := i.Certificate().Under(root)
	if err != nil {
		return false, foreignRoot(i, root, err)
	}
	if err := files.SaveRoot(root); err != nil {
		return false, err
	}
	i.Replace(root, cert)
	return true, nil
}

// Take makes a new certificate the node's, in files first. asked is the root that
// was trusted when it was asked for, root the one that it was held against; should
// a newer one be trusted by now, that stays if it vouches for the certificate.
func (i *Identity) Take(files *Files, asked, root *Root, cert *Certificate) error {
	i.saving.Lock()
	defer i.saving.Unlock()
	if newer := i.Root(); root == asked && newer != asked {
		if under, err := cert.Under(newer); err == nil {
			root, cert = newer, under
		}
	}
	if err := files.Save(root, cert); err != nil {
		return err
	}
	i.Replace(root, cert)
	return nil
}

func foreignRoot(i *Identity, root *Root, err error) error {
	return model.Errorf(model.Denied,
		"the root %s does not vouch for the certificate of node %s: it is another swarm's, or this swarm replaced its root while the node was away: let the node leave and join again: %w",
		root.Digest(), i.NodeID(), err)
}

// RequestedBy says whether a request, PEM, is signed by the key that a chain, PEM
// with the node's own certificate first, was issued for, and when that certificate
// ends. The error says what cannot be read.
func RequestedBy(request, chain []byte) (same bool, notAfter time.Time, err error) {
	public, err := requestKey(request)
	if err != nil {
		return false, time.Time{}, err
	}
	block, _ := pem.Decode(chain)
	if block == nil {
		return false, time.Time{}, model.Errorf(model.Internal, "node certificate: no PEM certificate in %d bytes", len(chain))
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return false, time.Time{}, fmt.Errorf("node certificate: %w", err)
	}
	key, ok := public.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(leaf.PublicKey), leaf.NotAfter, nil
}
