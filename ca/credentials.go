package ca

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"google.golang.org/grpc/credentials"

	"skep/model"
)

// handshakeTimeout bounds how long a peer may take to shake hands.
const handshakeTimeout = 15 * time.Second

// Peer is who is at the other end of a connection, taken from its certificate.
// The zero NodeID means that it showed none.
type Peer struct {
	credentials.CommonAuthInfo
	NodeID string
	Org    string
	OUs    []string
	// NotAfter is when the certificate expires; a connection may outlive it.
	NotAfter time.Time
}

// AuthType is "tls".
func (Peer) AuthType() string { return "tls" }

// ServerCredentials returns the server side of the node's TLS: 1.2 or newer, a
// client certificate is verified if one is shown, h2 is selected when offered
// and not demanded. Stock engines stop offering it after their first renewal.
func (i *Identity) ServerCredentials() credentials.TransportCredentials {
	return &transport{server: func() (*tls.Config, error) {
		s := i.state.Load()
		return &tls.Config{
			MinVersion:   tls.VersionTLS12,
			Time:         i.now,
			Certificates: []tls.Certificate{s.cert.pair},
			ClientAuth:   tls.VerifyClientCertIfGiven,
			ClientCAs:    s.root.pool,
			NextProtos:   []string{"h2"},
			// A resumed session would skip what a full handshake checks.
			SessionTicketsDisabled: true,
		}, nil
	}, now: i.now}
}

// ClientCredentials returns the client side of the node's TLS. The server must
// carry serverName (ManagerOU, or CAName when a certificate is asked for) and
// belong to this cluster.
func (i *Identity) ClientCredentials(serverName string) credentials.TransportCredentials {
	return &transport{client: func() (*tls.Config, error) {
		s := i.state.Load()
		if err := s.cert.Valid(i.now()); err != nil {
			return nil, err
		}
		config := clientConfig(serverName, s.root, i.now)
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &s.cert.pair, nil }
		config.VerifyConnection = func(state tls.ConnectionState) error {
			org := state.PeerCertificates[0].Subject.Organization
			if !slices.Contains(org, s.cert.ClusterID) {
				return model.Errorf(model.Denied, "the manager belongs to swarm %q, this node to %q", org, s.cert.ClusterID)
			}
			return nil
		}
		return config, nil
	}, now: i.now}
}

// JoinCredentials returns the client side of a node that has no certificate
// yet. Without a root nothing is verified: that is for downloading the root,
// which is then held against the join token, and for nothing else.
func JoinCredentials(root *Root, now func() time.Time) credentials.TransportCredentials {
	if now == nil {
		now = time.Now
	}
	return &transport{client: func() (*tls.Config, error) { return clientConfig(CAName, root, now), nil }, now: now}
}

func clientConfig(serverName string, root *Root, now func() time.Time) *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS12, Time: now, ServerName: serverName, NextProtos: []string{"h2"}}
	if root == nil {
		config.InsecureSkipVerify = true
	} else {
		config.RootCAs = root.pool
	}
	return config
}

// transport is both sides: a configuration is made for each handshake, so that
// the identity of the moment is used.
type transport struct {
	server, client func() (*tls.Config, error)
	now            func() time.Time
}

func (t *transport) ClientHandshake(ctx context.Context, _ string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if t.client == nil {
		return nil, nil, errors.New("these credentials are for servers")
	}
	config, err := t.client()
	if err != nil {
		return nil, nil, err
	}
	return t.handshake(ctx, tls.Client(raw, config))
}

func (t *transport) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if t.server == nil {
		return nil, nil, errors.New("these credentials are for clients")
	}
	config, err := t.server()
	if err != nil {
		return nil, nil, err
	}
	return t.handshake(context.Background(), tls.Server(raw, config))
}

func (t *transport) handshake(ctx context.Context, conn *tls.Conn) (net.Conn, credentials.AuthInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = conn.Close() // the handshake's error says more
		return nil, nil, t.explain(err)
	}
	return conn, peerOf(conn.ConnectionState()), nil
}

// explain turns the error of a handshake into one that says what to do.
func (t *transport) explain(err error) error {
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil {
		if said := checkValidity("the certificate of the peer", invalid.Cert, t.now()); said != nil {
			return fmt.Errorf("tls handshake: %w", said)
		}
	}
	var foreign x509.UnknownAuthorityError
	if errors.As(err, &foreign) {
		return model.Errorf(model.Denied, "tls handshake: the peer belongs to another swarm, or the root of this one has changed: %w", err)
	}
	return fmt.Errorf("tls handshake: %w", err)
}

func peerOf(state tls.ConnectionState) Peer {
	p := Peer{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}
	// A server counts a certificate only when its chain was verified. A client
	// that joins has verified nothing and so learns nobody's name.
	if len(state.VerifiedChains) == 0 {
		return p
	}
	leaf := state.PeerCertificates[0]
	p.NodeID, p.OUs, p.NotAfter = leaf.Subject.CommonName, leaf.Subject.OrganizationalUnit, leaf.NotAfter
	if len(leaf.Subject.Organization) > 0 {
		p.Org = leaf.Subject.Organization[0]
	}
	return p
}

// Info says that this is TLS.
func (t *transport) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone returns t: it has no state of its own.
func (t *transport) Clone() credentials.TransportCredentials { return t }

// OverrideServerName is refused: which name is verified is decided here.
func (t *transport) OverrideServerName(string) error {
	return errors.New("the server name of a swarm is fixed")
}
