package ca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"slices"
	"strings"
	"testing"
	"time"

	"skep/api"
	"skep/model"
)

func TestARootIsWhatStockPeersExpect(t *testing.T) {
	t.Parallel()
	s := newSwarm(t, "cluster")
	root := leaf(t, s.root.PEM())
	if root.Subject.String() != "CN=swarm-ca" {
		t.Errorf("subject %q, want CN=swarm-ca alone", root.Subject)
	}
	if !root.IsCA || root.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign || len(root.SubjectKeyId) == 0 {
		t.Errorf("CA %v, usage %b, SKI %x", root.IsCA, root.KeyUsage, root.SubjectKeyId)
	}
	if key, ok := root.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
		t.Errorf("key %T, want ECDSA P-256", root.PublicKey)
	}
	if got := root.NotAfter.Sub(root.NotBefore); got != rootLifetime {
		t.Errorf("valid for %s, want 20 years", got)
	}
	checkCritical(t, root, "2.5.29.15", "2.5.29.19")
}

func TestANodeCertificateIsWhatStockPeersExpect(t *testing.T) {
	t.Parallel()
	s := newSwarm(t, "thecluster")
	tests := []struct {
		role  api.NodeRole
		ou    string
		names []string
	}{
		{api.NodeRole_MANAGER, "swarm-manager", []string{"swarm-manager", "node1", "swarm-ca"}},
		{api.NodeRole_WORKER, "swarm-worker", []string{"swarm-worker", "node1"}},
	}
	for _, test := range tests {
		t.Run(test.ou, func(t *testing.T) {
			t.Parallel()
			cert := s.issue(t, "node1", test.role, begin, 48*time.Hour)
			x := leaf(t, cert.PEM())
			if x.Subject.CommonName != "node1" || !slices.Equal(x.Subject.Organization, []string{"thecluster"}) || !slices.Equal(x.Subject.OrganizationalUnit, []string{test.ou}) {
				t.Errorf("subject %q", x.Subject)
			}
			if !slices.Equal(x.DNSNames, test.names) {
				t.Errorf("names %v, want %v", x.DNSNames, test.names)
			}
			if x.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment || x.IsCA || !x.BasicConstraintsValid {
				t.Errorf("usage %b, CA %v", x.KeyUsage, x.IsCA)
			}
			if !slices.Equal(x.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}) {
				t.Errorf("extended usage %v", x.ExtKeyUsage)
			}
			if want := time.Date(2026, 3, 1, 11, 0, 0, 0, time.UTC); !x.NotBefore.Equal(want) || !x.NotAfter.Equal(want.Add(49*time.Hour)) {
				t.Errorf("valid %s to %s, want %s and 48 h after the hour of grace", x.NotBefore, x.NotAfter, want)
			}
			checkCritical(t, x, "2.5.29.15", "2.5.29.19")
			if cert.NodeID != "node1" || cert.ClusterID != "thecluster" || cert.Role != test.role {
				t.Errorf("read as %s of %s, %s", cert.NodeID, cert.ClusterID, cert.Role)
			}
			subject, key := cert.Issuer(s.root)
			root := leaf(t, s.root.PEM())
			if !bytes.Equal(subject, root.RawSubject) || !bytes.Equal(key, root.RawSubjectPublicKeyInfo) {
				t.Error("the issuer is not the root")
			}
		})
	}
}

func checkCritical(t *testing.T, cert *x509.Certificate, oids ...string) {
	t.Helper()
	for _, ext := range cert.Extensions {
		if want := slices.Contains(oids, ext.Id.String()); want && !ext.Critical {
			t.Errorf("extension %s is not critical", ext.Id)
		}
	}
}

func TestALifetimeThatIsTooShortIsTheDefault(t *testing.T) {
	t.Parallel()
	s := newSwarm(t, "cluster")
	for _, lifetime := range []time.Duration{0, -time.Hour, MinLifetime - 1} {
		cert := s.issue(t, "n", api.NodeRole_WORKER, begin, lifetime)
		if got := cert.NotAfter.Sub(cert.NotBefore) - backdate; got != DefaultLifetime {
			t.Errorf("lifetime %s gives %s, want %s", lifetime, got, DefaultLifetime)
		}
	}
}

func TestOnlyThePublicKeyOfARequestCounts(t *testing.T) {
	t.Parallel()
	s := newSwarm(t, "cluster")
	key, _ := NewKey()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:  pkix.Name{CommonName: "admin", Organization: []string{"other"}, OrganizationalUnit: []string{ManagerOU}},
		DNSNames: []string{"swarm-manager", "swarm-ca"},
	}, key.private)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := s.signer.Sign(pem.EncodeToMemory(&pem.Block{Type: requestBlock, Bytes: der}), Subject{NodeID: "n", Org: "cluster"}, begin, 0)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := NewCertificate(s.root, chain, key)
	if err != nil {
		t.Fatal(err)
	}
	if cert.NodeID != "n" || cert.Role != api.NodeRole_WORKER || slices.Contains(leaf(t, chain).DNSNames, "swarm-ca") {
		t.Errorf("the request chose %s, %s, %v", cert.NodeID, cert.Role, leaf(t, chain).DNSNames)
	}
}

func TestRequestsThatCannotBeSignedSayWhy(t *testing.T) {
	t.Parallel()
	encode := func(key any) []byte {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: requestBlock, Bytes: der})
	}
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	big, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	key, _ := NewKey()
	good := encode(key.private)
	if err := CheckRequest(good); err != nil {
		t.Fatalf("a good request: %v", err)
	}
	if err := CheckRequest(encode(big)); err != nil {
		t.Errorf("an RSA request: %v", err)
	}
	block, _ := pem.Decode(good)
	forged := bytes.Clone(block.Bytes)
	forged[len(forged)-1] ^= 1
	tests := []struct {
		name    string
		request []byte
		want    string
	}{
		{"empty", nil, "no PEM block"},
		{"garbage", []byte("garbage"), "no PEM block"},
		{"huge", bytes.Repeat([]byte("x"), maxRequest+1), "at most"},
		{"a certificate", newSwarm(t, "c").root.PEM(), "no request"},
		{"not DER", pem.EncodeToMemory(&pem.Block{Type: requestBlock, Bytes: []byte("x")}), "certificate request"},
		{"two", append(bytes.Clone(good), good...), "after the request"},
		{"an Ed25519 key", encode(ed), "ECDSA and RSA"},
		{"a forged signature", pem.EncodeToMemory(&pem.Block{Type: requestBlock, Bytes: forged}), "signature"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := newSwarm(t, "c").signer.Sign(test.request, Subject{NodeID: "n", Org: "c"}, begin, 0)
			if form := CheckRequest(test.request); form == nil != (test.want == "signature") {
				t.Errorf("its form is judged %v", form)
			}
			if err == nil || !strings.Contains(err.Error(), test.want) || model.KindOf(err) != model.Invalid {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

func TestARootKeyOfAnotherRootIsRefused(t *testing.T) {
	t.Parallel()
	a, b := newSwarm(t, "a"), newSwarm(t, "b")
	if _, err := NewSigner(a.root, b.keyPEM); err == nil || !strings.Contains(err.Error(), "belongs to none") {
		t.Errorf("error %v", err)
	}
	if _, err := NewSigner(a.root, nil); err == nil || !strings.Contains(err.Error(), "no key here") {
		t.Errorf("error %v", err)
	}
}

func TestRootBundlesThatCannotBeTrustedSayWhy(t *testing.T) {
	t.Parallel()
	s := newSwarm(t, "cluster")
	node := s.issue(t, "n", api.NodeRole_MANAGER, begin, 0)
	tests := []struct {
		name   string
		bundle []byte
		now    time.Time
		want   string
		kind   model.Kind
	}{
		{"empty", nil, begin, "no PEM certificate", model.Invalid},
		{"garbage", []byte("x"), begin, "no PEM certificate", model.Invalid},
		{"garbage after it", append(bytes.Clone(s.root.PEM()), 'x'), begin, "after the last", model.Invalid},
		{"a key", s.keyPEM, begin, "no certificate", model.Invalid},
		{"not self-signed", node.PEM(), begin, "not signed by itself", model.Invalid},
		{"too many", bytes.Repeat(s.root.PEM(), maxRoots+1), begin, "more than", model.Invalid},
		{"clock before it", s.root.PEM(), begin.AddDate(-30, 0, 0), "set the clock", model.Precondition},
		{"expired", s.root.PEM(), begin.AddDate(30, 0, 0), "expired at", model.Precondition},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := ParseRoot(test.bundle, test.now)
			if err == nil || !strings.Contains(err.Error(), test.want) || model.KindOf(err) != test.kind {
				t.Errorf("error %v (kind %d), want %q (kind %d)", err, model.KindOf(err), test.want, test.kind)
			}
		})
	}
}

func TestCertificatesAreHeldAgainstKeyAndRoot(t *testing.T) {
	t.Parallel()
	a, b := newSwarm(t, "a"), newSwarm(t, "b")
	cert := a.issue(t, "n", api.NodeRole_WORKER, begin, 0)
	other, _ := NewKey()
	tests := []struct {
		name  string
		root  *Root
		chain []byte
		key   Key
		want  string
	}{
		{"empty", a.root, nil, cert.key, "no PEM"},
		{"another key", a.root, cert.PEM(), other, "another key"},
		{"no key", a.root, cert.PEM(), Key{}, "another key"},
		{"another root", b.root, cert.PEM(), cert.key, "not issued by this swarm's root"},
		{"a key in the chain", a.root, append(bytes.Clone(cert.PEM()), a.keyPEM...), cert.key, "a block of type"},
		{"not DER", a.root, pem.EncodeToMemory(&pem.Block{Type: certificateBlock, Bytes: []byte("x")}), cert.key, "node certificate"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if _, err := NewCertificate(test.root, test.chain, test.key); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

func FuzzCheckRequest(f *testing.F) {
	key, err := NewKey()
	if err != nil {
		f.Fatal(err)
	}
	request, err := key.Request()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(request)
	block, _ := pem.Decode(request)
	f.Add(block.Bytes)
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, request := range [][]byte{text, pem.EncodeToMemory(&pem.Block{Type: requestBlock, Bytes: text})} {
			if err := CheckRequest(request); err != nil && model.KindOf(err) != model.Invalid {
				t.Errorf("kind %d: %v", model.KindOf(err), err)
			}
		}
	})
}

func FuzzParseCertificates(f *testing.F) {
	s := newSwarm(f, "c")
	cert := s.issue(f, "n", api.NodeRole_WORKER, begin, 0)
	f.Add(s.root.PEM())
	f.Add(cert.PEM())
	f.Fuzz(func(_ *testing.T, text []byte) {
		_, _ = ParseRoot(text, begin)
		_, _ = NewCertificate(s.root, text, cert.key)
		_, _ = parseKeyFile(text)
	})
}

func BenchmarkSign(b *testing.B) {
	s := newSwarm(b, "cluster")
	key, _ := NewKey()
	request, _ := key.Request()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.signer.Sign(request, Subject{NodeID: "n", Org: "cluster"}, begin, 0); err != nil {
			b.Fatal(err)
		}
	}
}
