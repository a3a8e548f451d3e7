package ca_test

import (
	"context"
	"crypto/x509"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"skep/api"
	"skep/ca"
	"skep/internal/cfssltest"
	"skep/model"
)

// asking is a manager that asks external CAs for a swarm whose root has no key there.
type asking struct {
	root     *ca.Root
	key      []byte
	external *ca.External
}

func newAsking(t *testing.T) asking {
	t.Helper()
	root, key, cert, err := ca.Bootstrap("cluster", "manager", time.Now(), ca.DefaultLifetime)
	if err != nil {
		t.Fatal(err)
	}
	return asking{root: root, key: key, external: &ca.External{Identity: ca.NewIdentity(root, cert, nil)}}
}

func request(t *testing.T) (ca.Key, []byte) {
	t.Helper()
	key, err := ca.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := key.Request()
	if err != nil {
		t.Fatal(err)
	}
	return key, csr
}

func subject() ca.Subject {
	return ca.Subject{NodeID: "n", Org: "cluster", Role: api.NodeRole_MANAGER}
}

func TestAnExternalCASignsWhatTheSwarmCanUse(t *testing.T) {
	t.Parallel()
	a := newAsking(t)
	server := cfssltest.Start(t, cfssltest.Config{Root: a.root, Key: a.key})
	key, csr := request(t)
	if err := a.external.Probe(t.Context(), server.URL); err != nil {
		t.Fatal(err)
	}
	chain, err := a.external.Sign(t.Context(), []string{server.URL}, a.root, csr, subject())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.NewCertificate(a.root, chain, key)
	if err != nil || cert.NodeID != "n" || cert.ClusterID != "cluster" || cert.Role != api.NodeRole_MANAGER {
		t.Fatalf("%v, %v", cert, err)
	}
	if server.Signed() != 1 {
		t.Errorf("it signed %d times, want once", server.Signed())
	}
}

// What an external CA may do wrong, and whether that is final: a request that was
// refused fails, one that may go better later waits.
func TestWhatAnExternalCADoesWrongIsSaid(t *testing.T) {
	t.Parallel()
	a := newAsking(t)
	answer := func(status int, body string) func(*cfssltest.Config) {
		return func(c *cfssltest.Config) {
			c.Answer = func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(status)
				_, _ = w.Write([]byte(body))
			}
		}
	}
	change := func(f func(*x509.Certificate)) func(*cfssltest.Config) {
		return func(c *cfssltest.Config) { c.Change = f }
	}
	other, otherKey, err := ca.NewRoot(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, want string
		kind       model.Kind
		set        func(*cfssltest.Config)
	}{
		{"refused", "it refused: policy (code 7)", model.Invalid, answer(http.StatusBadRequest, `{"success":false,"errors":[{"code":7,"message":"policy"}]}`)},
		{"refused with status 200", "it refused: policy (code 7)", model.Invalid, answer(http.StatusOK, `{"success":false,"errors":[{"code":7,"message":"policy"}]}`)},
		{"refused without a word", "does not say why", model.Invalid, answer(http.StatusOK, `{"success":false}`)},
		{"broken", "HTTP status 500", model.Unavailable, answer(http.StatusInternalServerError, "oops")},
		{"no JSON", "no JSON of CFSSL", model.Unavailable, answer(http.StatusOK, "<html>")},
		{"nothing in it", "holds no certificate", model.Unavailable, answer(http.StatusOK, `{"success":true,"result":{}}`)},
		{"too large", "larger than", model.Unavailable, answer(http.StatusOK, strings.Repeat("x", 300<<10))},
		{"elsewhere", "HTTP status 302", model.Unavailable, func(c *cfssltest.Config) {
			c.Answer = func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "https://127.0.0.1:1/", http.StatusFound)
			}
		}},
		{"another node", "its subject is", model.Invalid, change(func(c *x509.Certificate) { c.Subject.CommonName = "other" })},
		{"another role", "its subject is", model.Invalid, change(func(c *x509.Certificate) { c.Subject.OrganizationalUnit = []string{ca.WorkerOU} })},
		{"another swarm", "its subject is", model.Invalid, change(func(c *x509.Certificate) { c.Subject.Organization = []string{"other"} })},
		{"a CA", "it is a CA's", model.Invalid, change(func(c *x509.Certificate) { c.IsCA = true })},
		{"expired", "expired", model.Invalid, change(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })},
		{"strangers are not let in", "certificate", model.Unavailable, func(c *cfssltest.Config) { c.Clients = []*ca.Root{other} }},
		{"a stranger", "certificate", model.Unavailable, func(c *cfssltest.Config) { c.Root, c.Key, c.Clients = other, otherKey, []*ca.Root{a.root} }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			cfg := cfssltest.Config{Root: a.root, Key: a.key}
			test.set(&cfg)
			server := cfssltest.Start(t, cfg)
			_, csr := request(t)
			_, err := a.external.Sign(t.Context(), []string{server.URL}, a.root, csr, subject())
			if model.KindOf(err) != test.kind || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got kind %v: %v, want kind %v: …%s…", model.KindOf(err), err, test.kind, test.want)
			}
		})
	}
}

func TestTheNextExternalCAIsAskedWhenOneIsAway(t *testing.T) {
	t.Parallel()
	a := newAsking(t)
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	away := "https://" + gone.Addr().String() + "/sign"
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	server := cfssltest.Start(t, cfssltest.Config{Root: a.root, Key: a.key})
	_, csr := request(t)
	if _, err := a.external.Sign(t.Context(), []string{away, server.URL}, a.root, csr, subject()); err != nil {
		t.Error(err)
	}
	_, err = a.external.Sign(t.Context(), []string{away}, a.root, csr, subject())
	if model.KindOf(err) != model.Unavailable || !strings.Contains(err.Error(), away) {
		t.Errorf("got %v, want Unavailable with %s", err, away)
	}
	if err := a.external.Probe(t.Context(), away); model.KindOf(err) != model.Unavailable {
		t.Errorf("probe: got %v, want Unavailable", err)
	}
	if _, err := a.external.Sign(t.Context(), nil, a.root, csr, subject()); model.KindOf(err) != model.Precondition {
		t.Errorf("without a URL: got %v, want Precondition", err)
	}
}

func TestAnExternalCACrossSignsTheRootThatComesNext(t *testing.T) {
	t.Parallel()
	a := newAsking(t)
	next, nextKey, err := ca.NewRoot(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	server := cfssltest.Start(t, cfssltest.Config{Root: a.root, Key: a.key})
	cross, err := a.external.CrossSign(t.Context(), []string{server.URL}, a.root, next, nextKey)
	if err != nil {
		t.Fatal(err)
	}
	checkTrustedByBoth(t, a.root, next, nextKey, cross)

	stubborn := cfssltest.Start(t, cfssltest.Config{Root: a.root, Key: a.key, Change: func(c *x509.Certificate) { c.IsCA = false }})
	if _, err := a.external.CrossSign(t.Context(), []string{stubborn.URL}, a.root, next, nextKey); model.KindOf(err) != model.Invalid {
		t.Errorf("an intermediate that is no CA: got %v, want Invalid", err)
	}
	hanging, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.external.CrossSign(hanging, []string{server.URL}, a.root, next, nextKey); err == nil {
		t.Error("it was asked for nobody")
	}
}

// checkTrustedByBoth checks that what next signs is trusted by who knows next only
// and, with the intermediate, by who knows old only.
func checkTrustedByBoth(t *testing.T, old, next *ca.Root, nextKey, cross []byte) {
	t.Helper()
	if err := ca.CheckIntermediate(cross, old, next, time.Now()); err != nil {
		t.Error(err)
	}
	signer, err := ca.NewSigner(next, nextKey)
	if err != nil {
		t.Fatal(err)
	}
	key, csr := request(t)
	leaf, err := signer.Sign(csr, subject(), time.Now(), 0)
	if err != nil {
		t.Fatal(err)
	}
	chain := append(leaf, cross...)
	for who, root := range map[string]*ca.Root{"old": old, "new": next} {
		cert, err := ca.NewCertificate(root, chain, key)
		if err != nil {
			t.Errorf("who trusts the %s root does not trust the new certificate: %v", who, err)
			continue
		}
		subject, public := cert.Issuer(root)
		want := next.Certificates()[0]
		if string(subject) != string(want.RawSubject) || string(public) != string(want.RawSubjectPublicKeyInfo) {
			t.Errorf("under the %s root the issuer is not the new root", who)
		}
	}
	if _, err := ca.NewCertificate(old, leaf, key); err == nil {
		t.Error("the old root vouches for the new certificate without the intermediate")
	}
}
