package ca

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"skep/api"
	"skep/model"
)

const (
	externalTimeout = 5 * time.Second
	// What an external CA answers is a certificate and a few words.
	maxExternalAnswer = 256 << 10
	// crossSignProfile is the profile with which an external CA signs CAs.
	crossSignProfile = "CA"
	maxExternalText  = 500 // of an error that is kept
)

// External asks external CAs for signatures, over the CFSSL protocol: JSON by POST
// over mutual TLS, this node's certificate on its side. It may be used by several
// goroutines.
type External struct {
	// Identity is the manager's. Required.
	Identity *Identity
	// Dial makes connections; nil is TCP.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// ExternalURLs returns where a swarm's external CAs are that sign for root, PEM,
// in their order. own says that root is the swarm's own at this moment: that is
// what an external CA without a certificate of its own signs for.
func ExternalURLs(cas []*api.ExternalCA, root []byte, own bool) []string {
	var urls []string
	for _, c := range cas {
		if c.GetProtocol() == api.ExternalCA_CFSSL && (len(c.GetCaCert()) == 0 && own || SameCertificate(c.GetCaCert(), root)) {
			urls = append(urls, c.GetUrl())
		}
	}
	return urls
}

// CheckExternalURL returns an error of kind Invalid when text is no address of an
// external CA.
func CheckExternalURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return model.Errorf(model.Invalid, "external CA: %.200q is no URL: it looks like https://host:port/path", text)
	case u.Scheme != "https" || u.Host == "":
		return model.Errorf(model.Invalid, "external CA: the URL %.200q does not begin with https:// and a host: certificates are asked for over TLS only", text)
	}
	return nil
}

// Probe returns nil when an external CA can be reached that roots, or the swarm's
// own root, vouch for.
func (e *External) Probe(ctx context.Context, text string, roots ...*Root) error {
	if err := CheckExternalURL(text); err != nil {
		return err
	}
	u, err := url.Parse(text)
	if err != nil {
		return model.Errorf(model.Invalid, "external CA: %w", err)
	}
	addr := u.Host
	if u.Port() == "" {
		addr = net.JoinHostPort(u.Hostname(), "443")
	}
	ctx, cancel := context.WithTimeout(ctx, externalTimeout)
	defer cancel()
	conn, err := e.dial(ctx, "tcp", addr)
	if err != nil {
		return model.Errorf(model.Unavailable, "external CA %s: %w", text, err)
	}
	defer conn.Close()
	config := e.config(roots)
	config.ServerName = u.Hostname()
	if err := tls.Client(conn, config).HandshakeContext(ctx); err != nil {
		return model.Errorf(model.Unavailable, "external CA %s: %w", text, err)
	}
	return nil
}

// Sign asks the external CAs at urls, in order, for the certificate of subject, and
// returns what the first that answers has signed, PEM, if it is that: for the key of
// the request, for the subject, by root. Errors of kind Invalid are final; others
// may pass.
func (e *External) Sign(ctx context.Context, urls []string, root *Root, request []byte, subject Subject) ([]byte, error) {
	ou := OU(subject.Role)
	hosts := []string{ou, subject.NodeID}
	if subject.Role == api.NodeRole_MANAGER {
		hosts = append(hosts, CAName)
	}
	chain, err := e.ask(ctx, urls, []*Root{root}, signRequest{
		Hosts: hosts, Request: string(request),
		Subject: &signSubject{CN: subject.NodeID, Names: []signName{{O: subject.Org, OU: ou}}},
	})
	if err != nil {
		return nil, err
	}
	if err := checkSigned(chain, root, request, subject, e.Identity.now()); err != nil {
		return nil, model.Errorf(model.Invalid, "external CA: what it signed is not what it was asked for: %w", err)
	}
	return chain, nil
}

// CrossSign asks the external CAs at urls, which sign for root old, for next's
// certificate as an intermediate. It takes next's key to ask.
func (e *External) CrossSign(ctx context.Context, urls []string, old, next *Root, nextKeyPEM []byte) ([]byte, error) {
	request, err := rootRequest(next, nextKeyPEM)
	if err != nil {
		return nil, err
	}
	name := next.certs[0].Subject
	subject := &signSubject{CN: name.CommonName, Names: []signName{{O: strings.Join(name.Organization, ","), OU: strings.Join(name.OrganizationalUnit, ",")}}}
	chain, err := e.ask(ctx, urls, []*Root{old, next}, signRequest{Hosts: []string{}, Request: string(request), Subject: subject, Profile: crossSignProfile})
	if err != nil {
		return nil, err
	}
	return chain, CheckIntermediate(chain, old, next, e.Identity.now())
}

// The words of the CFSSL protocol, as far as they are used.
type (
	signRequest struct {
		Hosts   []string     `json:"hosts"`
		Request string       `json:"certificate_request"`
		Subject *signSubject `json:"subject,omitempty"`
		Profile string       `json:"profile"`
		Label   string       `json:"label"`
	}
	signSubject struct {
		CN    string     `json:"CN"`
		Names []signName `json:"names"`
	}
	signName struct {
		O  string `json:"O,omitempty"`
		OU string `json:"OU,omitempty"`
	}
	signAnswer struct {
		Success bool `json:"success"`
		Result  *struct {
			Certificate string `json:"certificate"`
		} `json:"result"`
		Errors []struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
	}
)

// ask sends a request to one URL after the other until one answers.
func (e *External) ask(ctx context.Context, urls []string, roots []*Root, r signRequest) ([]byte, error) {
	if len(urls) == 0 {
		return nil, model.Errorf(model.Precondition, "external CA: none is configured for this root: give its URL with ca_config.external_cas")
	}
	body, err := json.Marshal(r)
	if err != nil {
		return nil, model.Errorf(model.Internal, "external CA: %w", err)
	}
	var errs []error
	for _, u := range urls {
		chain, err := e.post(ctx, u, roots, body)
		if err == nil {
			return chain, nil
		}
		err = fmt.Errorf("external CA %.200s: %w", u, err)
		if model.KindOf(err) == model.Invalid || ctx.Err() != nil {
			return nil, err
		}
		errs = append(errs, err)
	}
	return nil, model.Errorf(model.Unavailable, "%w", errors.Join(errs...))
}

func (e *External) post(ctx context.Context, to string, roots []*Root, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, externalTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return nil, model.Errorf(model.Invalid, "%w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	transport := &http.Transport{DialContext: e.dial, TLSClientConfig: e.config(roots), DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}).Do(req)
	if err != nil {
		return nil, model.Errorf(model.Unavailable, "%w", err)
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxExternalAnswer+1))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, model.Errorf(model.Unavailable, "read its answer: %w", err)
	}
	return parseAnswer(resp.StatusCode, answer)
}

// parseAnswer reads what an external CA answered: a certificate, PEM, or an error,
// of kind Invalid when the CA refused the request.
func parseAnswer(code int, text []byte) ([]byte, error) {
	if len(text) > maxExternalAnswer {
		return nil, model.Errorf(model.Unavailable, "its answer is larger than %d bytes", maxExternalAnswer)
	}
	var answer signAnswer
	err := json.Unmarshal(text, &answer)
	switch {
	case err == nil && !answer.Success && len(answer.Errors) > 0:
		// Some CAs refuse with a code of HTTP too.
		return nil, model.Errorf(model.Invalid, "it refused: %.*s (code %d)", maxExternalText, answer.Errors[0].Message, answer.Errors[0].Code)
	case code != http.StatusOK:
		return nil, model.Errorf(model.Unavailable, "it answered with HTTP status %d", code)
	case err != nil:
		return nil, model.Errorf(model.Unavailable, "its answer is no JSON of CFSSL: %w", err)
	case !answer.Success:
		return nil, model.Errorf(model.Invalid, "it refused and does not say why")
	case answer.Result == nil || answer.Result.Certificate == "":
		return nil, model.Errorf(model.Unavailable, "its answer holds no certificate")
	}
	return []byte(answer.Result.Certificate), nil
}

// config is the TLS of a connection to an external CA: it belongs to one of roots,
// or to the root that this node trusts.
func (e *External) config(roots []*Root) *tls.Config {
	s := e.Identity.state.Load()
	pool := x509.NewCertPool()
	for _, r := range append([]*Root{s.root}, roots...) {
		for _, cert := range r.certs {
			pool.AddCert(cert)
		}
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, Time: e.Identity.now, RootCAs: pool,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &s.cert.pair, nil },
	}
}

func (e *External) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if e.Dial != nil {
		return e.Dial(ctx, network, addr)
	}
	return new(net.Dialer).DialContext(ctx, network, addr)
}

// checkSigned returns nil when a chain is what was asked for: the request's key, the
// subject, a way to root, and valid now.
func checkSigned(chain []byte, root *Root, request []byte, subject Subject, now time.Time) error {
	if same, _, err := RequestedBy(request, chain); err != nil {
		return err
	} else if !same {
		return model.Errorf(model.Invalid, "it is for another key")
	}
	block, rest := pem.Decode(chain)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return err
	}
	name := leaf.Subject
	if name.CommonName != subject.NodeID || len(name.Organization) != 1 || name.Organization[0] != subject.Org ||
		len(name.OrganizationalUnit) != 1 || name.OrganizationalUnit[0] != OU(subject.Role) {
		return model.Errorf(model.Invalid, "its subject is %.200q, want CN %s, O %s, OU %s", name, subject.NodeID, subject.Org, OU(subject.Role))
	}
	if leaf.IsCA {
		return model.Errorf(model.Invalid, "it is a CA's")
	}
	intermediates := x509.NewCertPool()
	intermediates.AppendCertsFromPEM(rest)
	_, err = leaf.Verify(x509.VerifyOptions{Roots: root.pool, Intermediates: intermediates, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return err
}
