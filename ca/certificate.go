package ca

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"time"

	"skep/api"
	"skep/model"
)

// A chain is the node's certificate and, while roots rotate, one intermediate.
const maxChain = 8

// Certificate is a node's certificate with its key, held against a root when it
// was read. It is immutable.
type Certificate struct {
	// NodeID is the common name.
	NodeID string
	// ClusterID is the organization.
	ClusterID string
	// Role is the organizational unit.
	Role api.NodeRole
	// NotBefore and NotAfter bound its validity.
	NotBefore, NotAfter time.Time

	pem  []byte
	key  Key
	pair tls.Certificate
}

// NewCertificate reads a chain, PEM with the node's own certificate first, and
// holds it against the key and the root: the chain must lead to the root, the
// public key must be key's, the subject complete. Validity in time is not
// looked at here, see Valid.
func NewCertificate(root *Root, chain []byte, key Key) (*Certificate, error) {
	c := &Certificate{pem: bytes.Clone(chain), key: key}
	intermediates := x509.NewCertPool()
	issuers := root.certs
	rest := chain
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != certificateBlock || len(c.pair.Certificate) == maxChain {
			return nil, model.Errorf(model.Invalid, "node certificate: more than %d blocks, or a block of type %.64q in its chain", maxChain, block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, model.Errorf(model.Invalid, "node certificate: %w", err)
		}
		if c.pair.Leaf == nil {
			c.pair.Leaf = cert
		} else {
			intermediates.AddCert(cert)
			issuers = append(issuers[:len(issuers):len(issuers)], cert)
		}
		c.pair.Certificate = append(c.pair.Certificate, block.Bytes)
	}
	leaf := c.pair.Leaf
	if leaf == nil {
		return nil, model.Errorf(model.Invalid, "node certificate: no PEM certificate in %d bytes", len(chain))
	}
	if !key.matches(leaf) {
		return nil, model.Errorf(model.Invalid, "node certificate: it was issued for another key")
	}
	c.pair.PrivateKey = key.private
	c.NotBefore, c.NotAfter = leaf.NotBefore, leaf.NotAfter
	if err := c.readSubject(leaf); err != nil {
		return nil, err
	}
	// Any moment at which all are valid serves: time itself is Valid's to judge.
	at := leaf.NotBefore
	for _, cert := range issuers {
		if cert.NotBefore.After(at) {
			at = cert.NotBefore
		}
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: root.pool, Intermediates: intermediates, CurrentTime: at,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return nil, model.Errorf(model.Invalid, "node certificate of %s: it was not issued by this swarm's root: %w", c.NodeID, err)
	}
	return c, nil
}

func (c *Certificate) readSubject(leaf *x509.Certificate) error {
	name := leaf.Subject
	if name.CommonName == "" || len(name.Organization) == 0 || name.Organization[0] == "" {
		return model.Errorf(model.Invalid, "node certificate: its subject %q lacks the node's or the cluster's ID", name)
	}
	for _, ou := range name.OrganizationalUnit {
		if role, ok := RoleOf(ou); ok {
			c.NodeID, c.ClusterID, c.Role = name.CommonName, name.Organization[0], role
			return nil
		}
	}
	return model.Errorf(model.Invalid, "node certificate: its subject %q has no role", name)
}

// PEM returns the chain as it was issued. Do not change it.
func (c *Certificate) PEM() []byte { return c.pem }

// Issuer returns what node descriptions carry of the certificate's issuer: its
// subject and its public key, both DER. The key is empty while the issuer is an
// intermediate that was not sent.
func (c *Certificate) Issuer(root *Root) (subject, publicKey []byte) {
	subject = c.pair.Leaf.RawIssuer
	for _, cert := range root.certs {
		if bytes.Equal(cert.RawSubject, subject) && c.pair.Leaf.CheckSignatureFrom(cert) == nil {
			return subject, cert.RawSubjectPublicKeyInfo
		}
	}
	if len(c.pair.Certificate) > 1 {
		if cert, err := x509.ParseCertificate(c.pair.Certificate[1]); err == nil {
			return subject, cert.RawSubjectPublicKeyInfo
		}
	}
	return subject, nil
}

// Valid returns nil when the certificate is valid at now, otherwise an error
// that names the clock.
func (c *Certificate) Valid(now time.Time) error {
	return checkValidity("the certificate of node "+c.NodeID, c.pair.Leaf, now)
}
