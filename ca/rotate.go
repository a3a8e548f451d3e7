package ca

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"

	"skep/model"
)

// minRootLife is how long a root that a swarm is to use has to be valid yet.
const minRootLife = 365 * 24 * time.Hour

// ParseSigningRoot reads a root that a swarm is to rotate to, and its key, which
// may be empty when an external CA has it. Both are PEM. Its errors have kind Invalid.
func ParseSigningRoot(certPEM, keyPEM []byte, now time.Time) (*Root, error) {
	if len(certPEM) == 0 {
		return nil, model.Errorf(model.Invalid, "signing CA: there is a key and no certificate: give the root certificate that the key belongs to")
	}
	root, err := ParseRoot(bytes.TrimSpace(certPEM), now)
	if err != nil {
		return nil, model.Errorf(model.Invalid, "signing CA: %w", err)
	}
	// The exact bytes are what join tokens carry the digest of: one form for all.
	root, err = ParseRoot(pem.EncodeToMemory(&pem.Block{Type: certificateBlock, Bytes: root.certs[0].Raw}), now)
	if err != nil {
		return nil, model.Errorf(model.Invalid, "signing CA: %w", err)
	}
	if n := bytes.Count(certPEM, []byte("-----BEGIN ")); n != 1 {
		return nil, model.Errorf(model.Invalid, "signing CA: there are %d certificates: a swarm has one root; give one", n)
	}
	cert := root.certs[0]
	switch {
	case !cert.IsCA || cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return nil, model.Errorf(model.Invalid, "signing CA: the certificate %q may not sign certificates; give one of a CA", cert.Subject)
	case cert.NotAfter.Sub(now) < minRootLife:
		return nil, model.Errorf(model.Invalid, "signing CA: the certificate %q expires at %s: a root has to be valid for a year yet; give one that lives longer", cert.Subject, clock(cert.NotAfter))
	case len(keyPEM) == 0:
		return root, nil
	}
	if _, err := NewSigner(root, keyPEM); err != nil {
		return nil, model.Errorf(model.Invalid, "signing CA: its certificate and key do not belong together: %w", err)
	}
	return root, nil
}

// SameCertificate reports whether both are roots of the same first certificate,
// however they are written. PEM that cannot be read equals nothing.
func SameCertificate(a, b []byte) bool {
	x, _ := pem.Decode(a)
	y, _ := pem.Decode(b)
	return x != nil && y != nil && bytes.Equal(x.Bytes, y.Bytes)
}

// SharesKey reports whether a certificate of one root has the key of one of the other.
func (r *Root) SharesKey(other *Root) bool {
	for _, a := range r.certs {
		for _, b := range other.certs {
			if bytes.Equal(a.RawSubjectPublicKeyInfo, b.RawSubjectPublicKeyInfo) {
				return true
			}
		}
	}
	return false
}

// CrossSign returns the first certificate of next, signed by s instead of itself,
// PEM: who trusts the root of s can follow it to what next has signed.
func (s *Signer) CrossSign(next *Root, now time.Time) ([]byte, error) {
	cert := next.certs[0]
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		RawSubject:            cert.RawSubject,
		Subject:               cert.Subject,
		NotBefore:             now.Round(time.Minute).Add(-backdate).UTC(),
		NotAfter:              cert.NotAfter,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		SubjectKeyId:          cert.SubjectKeyId,
	}
	if s.cert.NotAfter.Before(template.NotAfter) {
		template.NotAfter = s.cert.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, template, s.cert, cert.PublicKey, s.key)
	if err != nil {
		return nil, fmt.Errorf("cross-sign the new root: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: certificateBlock, Bytes: der}), nil
}

// CheckIntermediate returns nil when the first certificate of an intermediate, PEM,
// is root next's as signed by root old.
func CheckIntermediate(intermediate []byte, old, next *Root, now time.Time) error {
	block, _ := pem.Decode(intermediate)
	if block == nil {
		return model.Errorf(model.Invalid, "intermediate certificate: no PEM certificate in %d bytes", len(intermediate))
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return model.Errorf(model.Invalid, "intermediate certificate: %w", err)
	}
	want := next.certs[0]
	if !bytes.Equal(cert.RawSubjectPublicKeyInfo, want.RawSubjectPublicKeyInfo) || !bytes.Equal(cert.RawSubject, want.RawSubject) || !cert.IsCA {
		return model.Errorf(model.Invalid, "intermediate certificate: it is for %q and not for the new root", cert.Subject)
	}
	if _, err := cert.Verify(x509.VerifyOptions{Roots: old.pool, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return model.Errorf(model.Invalid, "intermediate certificate: the old root did not sign it: %w", err)
	}
	return nil
}

// rootRequest returns a certificate signing request for a root, PEM, which is what an
// external CA cross-signs.
func rootRequest(root *Root, keyPEM []byte) ([]byte, error) {
	signer, err := NewSigner(root, keyPEM)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{RawSubject: signer.cert.RawSubject}, signer.key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate request for a root: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: requestBlock, Bytes: der}), nil
}
