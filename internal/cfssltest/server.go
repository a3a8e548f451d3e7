package cfssltest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"skep/ca"
)

// Config is what a Server is made of. Root and Key are required.
type Config struct {
	Root *ca.Root
	// Key is the root's, PEM.
	Key []byte
	// Clients are the roots of those who may ask; Root if there are none.
	Clients []*ca.Root
	// Now is the clock of what it signs; nil is time.Now.
	Now func() time.Time
	// Change may alter what is about to be signed. Nil leaves it.
	Change func(*x509.Certificate)
	// Answer, unless nil, is what every request is answered with.
	Answer http.HandlerFunc
}

// Server is an external CA.
type Server struct {
	// URL is where it signs.
	URL string

	cfg    Config
	cert   *x509.Certificate
	key    crypto.Signer
	signed atomic.Int64
}

// Request is what a client of the protocol sends.
type Request struct {
	Hosts   []string `json:"hosts"`
	Request string   `json:"certificate_request"`
	Subject struct {
		CN    string `json:"CN"`
		Names []struct {
			O  string `json:"O"`
			OU string `json:"OU"`
		} `json:"names"`
	} `json:"subject"`
	Profile string `json:"profile"`
}

// Start runs a server until the test ends.
func Start(t testing.TB, cfg Config) *Server {
	t.Helper()
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Clients == nil {
		cfg.Clients = []*ca.Root{cfg.Root}
	}
	s := &Server{cfg: cfg, cert: cfg.Root.Certificates()[0]}
	block, _ := pem.Decode(cfg.Key)
	if block == nil {
		t.Fatal("the key of an external CA is no PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	s.key = key.(crypto.Signer)
	own, err := s.own()
	if err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	for _, root := range cfg.Clients {
		clients.AppendCertsFromPEM(root.PEM())
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/cfssl/sign", s.serve)
	server := httptest.NewUnstartedServer(mux)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{
		MinVersion: tls.VersionTLS12, Time: cfg.Now, Certificates: []tls.Certificate{own},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients,
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	s.URL = server.URL + "/api/v1/cfssl/sign"
	return s
}

// Signed returns how many certificates it has signed.
func (s *Server) Signed() int { return int(s.signed.Load()) }

// own makes the server's own certificate.
func (s *Server) own() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "external-ca"},
		NotBefore: s.cfg.Now().Add(-time.Hour), NotAfter: s.cfg.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, s.cert, key.Public(), s.key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if s.cfg.Answer != nil {
		s.cfg.Answer(w, r)
		return
	}
	type message struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}
	answer := struct {
		Success bool              `json:"success"`
		Result  map[string]string `json:"result"`
		Errors  []message         `json:"errors"`
	}{Errors: []message{}}
	var request Request
	err := json.NewDecoder(r.Body).Decode(&request)
	var signed []byte
	if err == nil {
		signed, err = s.sign(request)
	}
	if err != nil {
		answer.Errors = append(answer.Errors, message{Code: 1000, Message: err.Error()})
		w.WriteHeader(http.StatusBadRequest)
	} else {
		s.signed.Add(1)
		answer.Success, answer.Result = true, map[string]string{"certificate": string(signed)}
	}
	_ = json.NewEncoder(w).Encode(answer) // whoever asked sees it
}

func (s *Server) sign(r Request) ([]byte, error) {
	block, _ := pem.Decode([]byte(r.Request))
	if block == nil {
		return nil, errors.New("the request is no PEM")
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	if err := request.CheckSignature(); err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: r.Subject.CN}, DNSNames: r.Hosts, BasicConstraintsValid: true,
		NotBefore: s.cfg.Now().Add(-time.Hour), NotAfter: s.cfg.Now().Add(24 * time.Hour),
	}
	for _, name := range r.Subject.Names {
		if name.O != "" {
			template.Subject.Organization = append(template.Subject.Organization, name.O)
		}
		if name.OU != "" {
			template.Subject.OrganizationalUnit = append(template.Subject.OrganizationalUnit, name.OU)
		}
	}
	switch r.Profile {
	case "CA":
		template.IsCA, template.KeyUsage, template.NotAfter = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign, s.cert.NotAfter
	case "":
		template.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	default:
		return nil, errors.New("there is no such profile")
	}
	if s.cfg.Change != nil {
		s.cfg.Change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, s.cert, request.PublicKey, s.key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}
