package ca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"

	"skep/model"
)

const (
	certificateBlock = "CERTIFICATE"
	rootLifetime     = 20 * 365 * 24 * time.Hour
	// Certificates are backdated so that a peer whose clock is a little behind
	// accepts them.
	backdate = time.Hour
	// A bundle with more roots than this was not made by a manager.
	maxRoots = 16
)

// Root is a set of trusted root certificates with the exact bytes they came in.
// It is immutable.
type Root struct {
	pem   []byte
	certs []*x509.Certificate
	pool  *x509.CertPool
}

// NewRoot makes the root of a new cluster. It returns the root, and its private
// key as PEM for the cluster object and nothing else.
func NewRoot(now time.Time) (root *Root, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make the key of a root: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, nil, err
	}
	begin := now.Round(time.Minute).Add(-backdate).UTC()
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: CAName},
		NotBefore:             begin,
		NotAfter:              begin.Add(rootLifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		SignatureAlgorithm:    x509.ECDSAWithSHA256,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, fmt.Errorf("sign a root: %w", err)
	}
	keyPEM, err = encodePrivateKey(key, nil)
	if err != nil {
		return nil, nil, err
	}
	root, err = ParseRoot(pem.EncodeToMemory(&pem.Block{Type: certificateBlock, Bytes: der}), now)
	return root, keyPEM, err
}

// ParseRoot reads a bundle of root certificates and holds it against the rules
// for roots: each block a certificate, self-signed with SHA-256 or better by an
// RSA or ECDSA key, and valid at now.
func ParseRoot(bundle []byte, now time.Time) (*Root, error) {
	r := &Root{pem: bytes.Clone(bundle), pool: x509.NewCertPool()}
	rest := bundle
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if len(r.certs) == maxRoots {
			return nil, model.Errorf(model.Invalid, "root certificates: more than %d in one bundle", maxRoots)
		}
		cert, err := parseRootBlock(block, now)
		if err != nil {
			return nil, err
		}
		r.certs = append(r.certs, cert)
		r.pool.AddCert(cert)
	}
	if len(r.certs) == 0 {
		return nil, model.Errorf(model.Invalid, "root certificates: no PEM certificate in %d bytes", len(bundle))
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, model.Errorf(model.Invalid, "root certificates: %d bytes after the last certificate are no PEM", len(rest))
	}
	return r, nil
}

func parseRootBlock(block *pem.Block, now time.Time) (*x509.Certificate, error) {
	if block.Type != certificateBlock {
		return nil, model.Errorf(model.Invalid, "root certificates: a PEM block of type %q is no certificate", block.Type)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, model.Errorf(model.Invalid, "root certificates: %w", err)
	}
	switch cert.SignatureAlgorithm {
	case x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
		x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512:
	default:
		return nil, model.Errorf(model.Invalid, "root certificate %q: signature algorithm %s is not accepted: use RSA or ECDSA with SHA-256, SHA-384 or SHA-512",
			cert.Subject.CommonName, cert.SignatureAlgorithm)
	}
	if err := cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature); err != nil {
		return nil, model.Errorf(model.Invalid, "root certificate %q is not signed by itself: %w", cert.Subject.CommonName, err)
	}
	if err := checkValidity(fmt.Sprintf("root certificate %q", cert.Subject.CommonName), cert, now); err != nil {
		return nil, err
	}
	return cert, nil
}

// PEM returns the exact bytes that the root came in. Do not change them.
func (r *Root) PEM() []byte { return r.pem }

// Certificates returns the trusted certificates. Do not change them.
func (r *Root) Certificates() []*x509.Certificate { return r.certs }

// Digest returns the part of a join token that stands for this root.
func (r *Root) Digest() string { return DigestOf(r.pem) }

// DigestOf returns the digest of a root bundle's exact bytes as join tokens
// carry it: SHA-256 in base 36, padded to 50 characters.
func DigestOf(bundle []byte) string {
	sum := sha256.Sum256(bundle)
	return base36(sum[:], digestLength)
}

// HashOf returns the digest of a root bundle as the cluster object carries it:
// "sha256:" and 64 hexadecimal digits.
func HashOf(bundle []byte) string {
	sum := sha256.Sum256(bundle)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// checkValidity says in words when a certificate is not valid at now. A clock
// that is wrong is the usual reason, so the error names it.
func checkValidity(what string, cert *x509.Certificate, now time.Time) error {
	switch {
	case now.Before(cert.NotBefore):
		return model.Errorf(model.Precondition,
			"%s is not valid before %s, and the clock of this machine says %s: set the clock, then try again",
			what, clock(cert.NotBefore), clock(now))
	case now.After(cert.NotAfter):
		return model.Errorf(model.Precondition,
			"%s expired at %s, and the clock of this machine says %s: if the clock is right, the certificate has to be replaced",
			what, clock(cert.NotAfter), clock(now))
	}
	return nil
}

func clock(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// newSerial returns a random certificate serial number of 159 bits, the most
// that RFC 5280 allows while staying positive.
func newSerial() (*big.Int, error) {
	var raw [20]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	raw[0] &= 0x7f
	return new(big.Int).SetBytes(raw[:]), nil
}
