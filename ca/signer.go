package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"time"

	"skep/api"
	"skep/model"
)

const (
	// DefaultLifetime is how long a node certificate is valid when the cluster
	// does not say.
	DefaultLifetime = 90 * 24 * time.Hour
	// MinLifetime is the shortest lifetime that is honoured.
	MinLifetime = time.Hour
	// A request of an RSA key of 8192 bits takes 3 KB; no node sends more.
	maxRequest = 16 << 10
)

// Signer signs node certificates with the key of a root. It may be used by
// several goroutines.
type Signer struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// NewSigner joins a root certificate and its key, both PEM.
func NewSigner(root *Root, keyPEM []byte) (*Signer, error) {
	block, _ := pem.Decode(keyPEM)
	if block == nil {
		return nil, model.Errorf(model.Precondition, "this swarm's root has no key here: certificates cannot be signed")
	}
	key, err := parsePrivateKey(block)
	if err != nil {
		return nil, fmt.Errorf("key of the root: %w", err)
	}
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	for _, cert := range root.certs {
		if ok && public.Equal(cert.PublicKey) {
			return &Signer{cert: cert, key: key}, nil
		}
	}
	return nil, model.Errorf(model.Precondition, "the key of the root belongs to none of the %d root certificates", len(root.certs))
}

// Subject is whom a certificate is for.
type Subject struct {
	NodeID string
	// Org is the cluster's ID.
	Org  string
	Role api.NodeRole
}

// Sign issues a certificate for the public key of a request, PEM in and out.
// Everything else that the request asks for is ignored. A lifetime below
// MinLifetime is DefaultLifetime. Errors of kind Invalid are the request's fault.
func (s *Signer) Sign(request []byte, subject Subject, now time.Time, lifetime time.Duration) ([]byte, error) {
	public, err := requestKey(request)
	if err != nil {
		return nil, err
	}
	if lifetime < MinLifetime {
		lifetime = DefaultLifetime
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	ou := OU(subject.Role)
	names := []string{ou, subject.NodeID}
	if subject.Role == api.NodeRole_MANAGER {
		names = append(names, CAName)
	}
	begin := now.Round(time.Minute).Add(-backdate).UTC()
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{Organization: []string{subject.Org}, OrganizationalUnit: []string{ou}, CommonName: subject.NodeID},
		NotBefore:             begin,
		NotAfter:              begin.Add(backdate + lifetime),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		DNSNames:              names,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, s.cert, public, s.key)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate of node %s: %w", subject.NodeID, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: certificateBlock, Bytes: der}), nil
}

// CheckRequest reports what is wrong with the form of a certificate signing
// request. Sign looks at its signature too.
func CheckRequest(request []byte) error {
	_, err := parseRequest(request)
	return err
}

func requestKey(request []byte) (crypto.PublicKey, error) {
	parsed, err := parseRequest(request)
	if err != nil {
		return nil, err
	}
	// The signature shows that whoever asks holds the private key.
	if err := parsed.CheckSignature(); err != nil {
		return nil, model.Errorf(model.Invalid, "certificate request: its signature is wrong: %w", err)
	}
	return parsed.PublicKey, nil
}

func parseRequest(request []byte) (*x509.CertificateRequest, error) {
	if len(request) > maxRequest {
		return nil, model.Errorf(model.Invalid, "certificate request: %d bytes, at most %d are taken", len(request), maxRequest)
	}
	block, rest := pem.Decode(request)
	switch {
	case block == nil:
		return nil, model.Errorf(model.Invalid, "certificate request: no PEM block in %d bytes", len(request))
	case block.Type != requestBlock:
		return nil, model.Errorf(model.Invalid, "certificate request: a PEM block of type %.64q is no request", block.Type)
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, model.Errorf(model.Invalid, "certificate request: %d bytes after the request", len(rest))
	}
	parsed, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, model.Errorf(model.Invalid, "certificate request: %w", err)
	}
	switch public := parsed.PublicKey.(type) {
	case *ecdsa.PublicKey:
	case *rsa.PublicKey:
		if size := public.N.BitLen(); size < 2048 || size > 8192 {
			return nil, model.Errorf(model.Invalid, "certificate request: an RSA key of %d bits, 2048 to 8192 are taken", size)
		}
	default:
		return nil, model.Errorf(model.Invalid, "certificate request: a key of type %s, ECDSA and RSA are taken", parsed.PublicKeyAlgorithm)
	}
	return parsed, nil
}
