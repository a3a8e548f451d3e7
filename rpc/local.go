package rpc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"

	"google.golang.org/grpc/credentials"
)

const (
	// tlsHandshake is the first byte of a TLS connection; plain HTTP/2 begins with 'P'.
	tlsHandshake = 0x16
	// localBuffer is what a connection of the unix socket reads at once.
	localBuffer = 16 << 10
)

// localPeer marks connections of the unix socket. The file's permissions are
// what guards it.
type localPeer struct{ credentials.CommonAuthInfo }

// AuthType is "local".
func (localPeer) AuthType() string { return "local" }

// LocalCredentials serves the unix socket: plain HTTP/2, or TLS as the
// reference's CLI speaks it, whichever the client begins with. secure is the
// node's ca.Identity.ServerCredentials, nil while it has no certificate: then
// only plain HTTP/2 is taken.
func LocalCredentials(secure credentials.TransportCredentials) credentials.TransportCredentials {
	return &localCredentials{secure: secure}
}

type localCredentials struct {
	secure credentials.TransportCredentials
}

// ServerHandshake looks at the first byte. The deadline until which the client must
// have said it, and all that begins a connection of HTTP/2, is the server's.
func (c *localCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn := &peekedConn{Conn: raw, r: bufio.NewReaderSize(raw, localBuffer)}
	first, err := conn.r.Peek(1)
	if err != nil {
		return nil, nil, fmt.Errorf("accept a local connection: %w", err)
	}
	local := localPeer{credentials.CommonAuthInfo{SecurityLevel: credentials.NoSecurity}}
	if first[0] != tlsHandshake {
		return conn, local, nil
	}
	if c.secure == nil {
		return nil, nil, errors.New("accept a local connection: it speaks TLS, and this node has no certificate yet")
	}
	secured, _, err := c.secure.ServerHandshake(conn)
	return secured, local, err
}

func (c *localCredentials) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these credentials are for servers")
}

func (c *localCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "local"}
}

func (c *localCredentials) Clone() credentials.TransportCredentials { return c }

func (c *localCredentials) OverrideServerName(string) error {
	return errors.New("the server name of a socket is fixed")
}

// peekedConn reads what was looked at first.
type peekedConn struct {
	net.Conn
	r *bufio.Reader
}

func (c *peekedConn) Read(p []byte) (int, error) { return c.r.Read(p) }
