package ca

import (
	"crypto/x509"
	"encoding/pem"
	"testing"
	"time"

	"skep/api"
)

// begin is the moment at which the tests' clocks stand.
var begin = time.Date(2026, 3, 1, 12, 0, 20, 0, time.UTC)

func at(t time.Time) func() time.Time { return func() time.Time { return t } }

// swarm is a root with its signer.
type swarm struct {
	org    string
	root   *Root
	keyPEM []byte
	signer *Signer
}

func newSwarm(t testing.TB, org string) swarm {
	t.Helper()
	root, keyPEM, err := NewRoot(begin)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := NewSigner(root, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return swarm{org: org, root: root, keyPEM: keyPEM, signer: signer}
}

// issue returns a certificate made at when.
func (s swarm) issue(t testing.TB, nodeID string, role api.NodeRole, when time.Time, lifetime time.Duration) *Certificate {
	t.Helper()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	request, err := key.Request()
	if err != nil {
		t.Fatal(err)
	}
	chain, err := s.signer.Sign(request, Subject{NodeID: nodeID, Org: s.org, Role: role}, when, lifetime)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := NewCertificate(s.root, chain, key)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func leaf(t testing.TB, chain []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(chain)
	if block == nil {
		t.Fatalf("no PEM in %q", chain)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}
