package ca_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"skep/api"
	"skep/ca"
	"skep/model"
	"skep/vfs"
)

func newRoot(t *testing.T) (*ca.Root, []byte) {
	t.Helper()
	root, key, err := ca.NewRoot(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return root, key
}

// selfSigned makes a certificate of somebody's own.
func selfSigned(t *testing.T, change func(*x509.Certificate)) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "theirs"}, BasicConstraintsValid: true, IsCA: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(2 * 365 * 24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	change(c)
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestWhichRootsASwarmMayRotateTo(t *testing.T) {
	t.Parallel()
	root, key := newRoot(t)
	_, otherKey := newRoot(t)
	good := selfSigned(t, func(*x509.Certificate) {})
	tests := []struct {
		name, want string
		cert, key  []byte
	}{
		{"with its key", "", root.PEM(), key},
		{"without a key", "", root.PEM(), nil},
		{"somebody's own", "", good, nil},
		{"with blank lines around", "", append([]byte("\n \n"), append(bytes.Clone(root.PEM()), '\n', '\n')...), key},
		{"a key alone", "there is a key and no certificate", nil, key},
		{"another's key", "do not belong together", root.PEM(), otherKey},
		{"garbage", "no PEM certificate", []byte("garbage"), nil},
		{"two roots", "there are 2 certificates", append(bytes.Clone(root.PEM()), good...), nil},
		{"a leaf", "may not sign certificates", selfSigned(t, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature }), nil},
		{"soon over", "has to be valid for a year yet", selfSigned(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(364 * 24 * time.Hour) }), nil},
		{"over", "expired at", selfSigned(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), nil},
	}
	for _, test := range tests {
		got, err := ca.ParseSigningRoot(test.cert, test.key, time.Now())
		switch {
		case test.want == "" && (err != nil || !ca.SameCertificate(got.PEM(), test.cert) || bytes.HasPrefix(got.PEM(), []byte("\n"))):
			t.Errorf("%s: %v", test.name, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: got %v, want …%s…", test.name, err, test.want)
		}
	}
}

func TestACrossSignedRootIsTrustedByWhoKnowsTheOldRootAndByWhoKnowsTheNew(t *testing.T) {
	t.Parallel()
	old, oldKey := newRoot(t)
	next, nextKey := newRoot(t)
	signer, err := ca.NewSigner(old, oldKey)
	if err != nil {
		t.Fatal(err)
	}
	cross, err := signer.CrossSign(next, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	checkTrustedByBoth(t, old, next, nextKey, cross)
	if err := ca.CheckIntermediate(cross, next, next, time.Now()); model.KindOf(err) != model.Invalid {
		t.Errorf("the new root passes for the one that signed: %v", err)
	}
	if err := ca.CheckIntermediate(cross, old, old, time.Now()); model.KindOf(err) != model.Invalid {
		t.Errorf("an intermediate passes for another root's: %v", err)
	}
	if old.SharesKey(next) || !old.SharesKey(old) {
		t.Error("which roots share a key is wrong")
	}
}

// node is a node of a swarm with its files.
func node(t *testing.T, root *ca.Root, rootKey, intermediate []byte) (*ca.Identity, *ca.Files, *ca.Certificate) {
	t.Helper()
	signer, err := ca.NewSigner(root, rootKey)
	if err != nil {
		t.Fatal(err)
	}
	key, csr := request(t)
	chain, err := signer.Sign(csr, ca.Subject{NodeID: "n", Org: "cluster", Role: api.NodeRole_WORKER}, time.Now(), 0)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.NewCertificate(root, append(chain, intermediate...), key)
	if err != nil {
		t.Fatal(err)
	}
	files := ca.NewFiles(vfs.NewMem(), "certificates")
	if err := files.Save(root, cert); err != nil {
		t.Fatal(err)
	}
	return ca.NewIdentity(root, cert, nil), files, cert
}

// A node trusts another root only if that vouches for the certificate that it has:
// otherwise it could not prove to anybody who it is.
func TestANodeTrustsANewRootOfItsSwarmAndNoOther(t *testing.T) {
	t.Parallel()
	old, oldKey := newRoot(t)
	next, nextKey := newRoot(t)
	foreign, _ := newRoot(t)
	signer, err := ca.NewSigner(old, oldKey)
	if err != nil {
		t.Fatal(err)
	}
	cross, err := signer.CrossSign(next, time.Now())
	if err != nil {
		t.Fatal(err)
	}

	identity, files, _ := node(t, old, oldKey, nil)
	for what, bundle := range map[string][]byte{"another swarm's root": foreign.PEM(), "the new root, before it has signed": next.PEM()} {
		changed, err := identity.Trust(files, bundle)
		if changed || model.KindOf(err) != model.Denied || !strings.Contains(err.Error(), "leave and join again") {
			t.Errorf("%s: %v, %v, want Denied", what, changed, err)
		}
	}
	if changed, err := identity.Trust(files, []byte("garbage")); changed || model.KindOf(err) != model.Invalid {
		t.Errorf("garbage: %v, %v, want Invalid", changed, err)
	}
	if changed, err := identity.Trust(files, old.PEM()); changed || err != nil {
		t.Errorf("the same root again: %v, %v, want nothing", changed, err)
	}
	if kept, _, err := files.Load(time.Now()); err != nil || kept.Digest() != old.Digest() {
		t.Errorf("a refused root was stored: %v", err)
	}

	// A bundle of both is what a swarm may go through.
	if changed, err := identity.Trust(files, append(bytes.Clone(old.PEM()), foreign.PEM()...)); !changed || err != nil {
		t.Errorf("a bundle that holds the old root: %v, %v, want a change", changed, err)
	}

	// The certificate of a rotation: signed by the new root, with the way to the old one.
	identity, files, _ = node(t, next, nextKey, cross)
	if changed, err := identity.Trust(files, old.PEM()); !changed || err != nil {
		t.Fatalf("back to the old root by way of the intermediate: %v, %v", changed, err)
	}
	woken := identity.Changed()
	if changed, err := identity.Trust(files, next.PEM()); !changed || err != nil {
		t.Fatalf("the new root: %v, %v", changed, err)
	}
	select {
	case <-woken:
	default:
		t.Error("nobody was told")
	}
	root, cert, err := files.Load(time.Now())
	if err != nil || root.Digest() != next.Digest() || cert.NodeID != "n" || identity.Root().Digest() != next.Digest() {
		t.Errorf("after the rotation the node loads %v, %v", cert, err)
	}
}

// A certificate that was asked for under the old root arrives when the new one is
// trusted already: the new one stays.
func TestACertificateThatCrossesANewRootOnItsWayDoesNotBringBackTheOldOne(t *testing.T) {
	t.Parallel()
	old, oldKey := newRoot(t)
	next, nextKey := newRoot(t)
	signer, err := ca.NewSigner(old, oldKey)
	if err != nil {
		t.Fatal(err)
	}
	cross, err := signer.CrossSign(next, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	identity, files, cert := node(t, next, nextKey, cross)
	if _, err := identity.Trust(files, old.PEM()); err != nil {
		t.Fatal(err)
	}
	asked := identity.Root()
	if _, err := identity.Trust(files, next.PEM()); err != nil {
		t.Fatal(err)
	}
	under, err := cert.Under(asked)
	if err != nil {
		t.Fatal(err)
	}
	if err := identity.Take(files, asked, asked, under); err != nil {
		t.Fatal(err)
	}
	if root, _, err := files.Load(time.Now()); err != nil || root.Digest() != next.Digest() || identity.Root().Digest() != next.Digest() {
		t.Errorf("the old root is back: %v", err)
	}
}
