package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"

	"skep/model"
)

const (
	requestBlock = "CERTIFICATE REQUEST"
	keyBlock     = "PRIVATE KEY"

	encryptedKeyBlock = "ENCRYPTED PRIVATE KEY"
)

// Key is the private key of a node. It prints nothing.
type Key struct{ private *ecdsa.PrivateKey }

// NewKey makes a P-256 key.
func NewKey() (Key, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Key{}, fmt.Errorf("make a node key: %w", err)
	}
	return Key{private}, nil
}

// Request returns a certificate signing request for the key, as PEM. It names
// nobody: who it is for is the issuer's decision.
func (k Key) Request() ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{SignatureAlgorithm: x509.ECDSAWithSHA256}, k.private)
	if err != nil {
		return nil, fmt.Errorf("make a certificate request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: requestBlock, Bytes: der}), nil
}

// String keeps keys out of messages.
func (Key) String() string { return "[secret]" }

// GoString keeps keys out of %#v.
func (Key) GoString() string { return "[secret]" }

// LogValue keeps keys out of logs.
func (Key) LogValue() slog.Value { return slog.StringValue("[secret]") }

// matches reports whether cert was issued for this key.
func (k Key) matches(cert *x509.Certificate) bool {
	return k.private != nil && k.private.PublicKey.Equal(cert.PublicKey)
}

// isOf reports whether the first certificate of a chain, PEM, was issued for this key.
func (k Key) isOf(chain []byte) bool {
	block, _ := pem.Decode(chain)
	if block == nil {
		return false
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	return err == nil && k.matches(cert)
}

func encodePrivateKey(key crypto.PrivateKey, headers map[string]string) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode a private key: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: keyBlock, Headers: headers, Bytes: der})
	if text == nil {
		return nil, model.Errorf(model.Invalid, "encode a private key: a header has a colon in its name")
	}
	return text, nil
}

// parsePrivateKey reads PKCS#8, or the SEC 1 and PKCS#1 forms that older peers
// write.
func parsePrivateKey(block *pem.Block) (crypto.Signer, error) {
	var key any
	var err error
	switch block.Type {
	case keyBlock:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case encryptedKeyBlock:
		return nil, model.Errorf(model.Precondition, "the private key is encrypted: it needs the swarm's unlock key")
	default:
		return nil, model.Errorf(model.Invalid, "a PEM block of type %q is no private key", block.Type)
	}
	if err != nil {
		return nil, model.Errorf(model.Invalid, "private key: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, model.Errorf(model.Invalid, "private key: %T cannot sign", key)
	}
	return signer, nil
}
