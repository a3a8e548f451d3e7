package client

import (
	"context"
	"math"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"skep/api"
	"skep/api/skep"
)

const (
	// dialTimeout bounds how long a manager may take to be reached,
	// handshakeTimeout how long it may take to shake hands after that.
	dialTimeout      = 5 * time.Second
	handshakeTimeout = 15 * time.Second
	// TLS connections buffer what they read, so gRPC does not.
	secureReadBuffer = 0
	// Nodes write small messages; what is larger passes the buffer by.
	secureWriteBuffer = 4 << 10
)

// Clients are the services of a manager over one connection.
type Clients struct {
	Control           api.ControlClient
	Watch             api.WatchClient
	Logs              api.LogsClient
	LogBroker         api.LogBrokerClient
	Dispatcher        api.DispatcherClient
	ResourceAllocator api.ResourceAllocatorClient
	CA                api.CAClient
	NodeCA            api.NodeCAClient
	Health            api.HealthClient
	Local             skep.LocalClient
	Recovery          skep.RecoveryClient
}

// New returns the services over a connection.
func New(conn grpc.ClientConnInterface) Clients {
	return Clients{
		Control:           api.NewControlClient(conn),
		Watch:             api.NewWatchClient(conn),
		Logs:              api.NewLogsClient(conn),
		LogBroker:         api.NewLogBrokerClient(conn),
		Dispatcher:        api.NewDispatcherClient(conn),
		ResourceAllocator: api.NewResourceAllocatorClient(conn),
		CA:                api.NewCAClient(conn),
		NodeCA:            api.NewNodeCAClient(conn),
		Health:            api.NewHealthClient(conn),
		Local:             skep.NewLocalClient(conn),
		Recovery:          skep.NewRecoveryClient(conn),
	}
}

// DialSocket returns a connection to the unix socket path. It is made at the
// first request; close it when done.
func DialSocket(path string, options ...grpc.DialOption) (*grpc.ClientConn, error) {
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	return grpc.NewClient("passthrough:///localhost", append(common(),
		append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(dial)}, options...)...)...)
}

// Dial returns a connection to the manager at addr, "host:port", with the
// credentials of a node: ca.Identity.ClientCredentials. It is made at the first
// request; close it when done.
func Dial(addr string, secure credentials.TransportCredentials, options ...grpc.DialOption) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+addr, append(common(), append([]grpc.DialOption{
		grpc.WithTransportCredentials(secure),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", addr)
		}),
		grpc.WithReadBufferSize(secureReadBuffer),
		grpc.WithWriteBufferSize(secureWriteBuffer),
	}, options...)...)...)
}

func common() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)),
		grpc.WithDisableServiceConfig(),
		// Managers are reached directly, whatever the environment says of proxies.
		grpc.WithNoProxy(),
		grpc.WithIdleTimeout(0),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 2, Jitter: 0.2, MaxDelay: 3 * time.Second},
			MinConnectTimeout: dialTimeout + handshakeTimeout,
		}),
	}
}

// noted remembers the error of the latest handshake. gRPC hands only its text on.
type noted struct {
	credentials.TransportCredentials
	latest *atomic.Pointer[error]
}

func note(c credentials.TransportCredentials) *noted {
	return &noted{TransportCredentials: c, latest: new(atomic.Pointer[error])}
}

func (n *noted) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := n.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil {
		n.latest.Store(&err)
	} else {
		n.latest.Store(nil)
	}
	return conn, info, err
}

func (n *noted) Clone() credentials.TransportCredentials { return n }

// err returns the error of the latest handshake, nil when it went well.
func (n *noted) err() error {
	if p := n.latest.Load(); p != nil {
		return *p
	}
	return nil
}
