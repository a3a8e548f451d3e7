package rpc

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
)

const (
	// MaxReceive is the largest message that a server takes.
	MaxReceive = 4 << 20
	// DefaultMaxStreams bounds the concurrent streams of one connection.
	DefaultMaxStreams = 256

	// TLS connections and those of the unix socket buffer what they read
	// themselves, so gRPC reads unbuffered. Writes are gathered in a buffer
	// that idle connections give back.
	readBuffer  = 0
	writeBuffer = 16 << 10
	// Requests are handled on this many goroutines that stay, with the stacks that
	// requests need; growing a new one's was a twelfth of the cost of a small
	// write. Streams hold theirs as long as they last; what finds none free gets a
	// new one: there are as many as clients that write at once, on a busy day.
	streamWorkers = 512
	// connectTimeout bounds how long a new connection may take until it speaks HTTP/2.
	connectTimeout = 20 * time.Second
	// A connection that is silent for keepaliveTime is asked for a sign of life; one
	// that gives none within keepaliveTimeout is closed, and its requests end.
	keepaliveTime    = 10 * time.Second
	keepaliveTimeout = 5 * time.Second
	// clientPings is how often a client may ask the same at most.
	clientPings = 2 * time.Second
)

// Config is what a server is made of.
type Config struct {
	// Credentials serve TLS connections: ca.Identity.ServerCredentials for the
	// remote port, LocalCredentials for the unix socket. Required.
	Credentials credentials.TransportCredentials
	// Authorizer judges callers with certificates. Required unless every caller
	// is local.
	Authorizer Authorizer
	// Local is the identity of callers over the unix socket: this node's own.
	// Local is set on what it returns. Nil means that such callers are nobody.
	Local func() Identity
	// Addr is where other managers reach this one: it signs what it passes on to the leader.
	Addr string
	// Leadership routes. Nil answers everything here, at once.
	Leadership Leadership
	// Gate is closed to end without failing requests; servers may share one. Nil lets all in.
	Gate *Gate
	// Unknown answers methods that are not registered, for instance with the
	// sentence that this node is a worker. Nil is Unimplemented.
	Unknown func(fullMethod string) error
	// MaxStreams bounds the concurrent streams of one connection; 0 is DefaultMaxStreams.
	MaxStreams uint32
	// Now is the wall clock that certificates are held against; nil is time.Now.
	Now func() time.Time
	// Log takes errors of handlers at debug, panics at error; nil discards.
	Log *slog.Logger
	// Metrics counts requests; nil counts nothing. Servers may share one.
	Metrics *Metrics
}

// server is the interceptors' state; it never changes once NewServer returned.
type server struct {
	cfg     Config
	methods map[string]*method
	live    *live
	codec   frames
}

// NewServer returns a server with the services that register adds. It fails
// when a method has no rule or no route. Serve it, and Stop it: Stop returns when
// its handlers have.
func NewServer(cfg Config, register ...func(grpc.ServiceRegistrar)) (*grpc.Server, error) {
	if cfg.Credentials == nil {
		return nil, errors.New("new server: it has no credentials")
	}
	if cfg.Authorizer == nil && cfg.Local == nil {
		return nil, errors.New("new server: it has no authorizer")
	}
	if cfg.Authorizer == nil {
		cfg.Authorizer = nobody{}
	}
	if cfg.MaxStreams == 0 {
		cfg.MaxStreams = DefaultMaxStreams
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &server{cfg: cfg, methods: make(map[string]*method), live: newLive(cfg.Authorizer), codec: newFrames()}
	g := grpc.NewServer(
		grpc.Creds(newPolitely(&lapsing{TransportCredentials: cfg.Credentials, now: cfg.Now})),
		grpc.InTapHandle(s.tap),
		grpc.ForceServerCodecV2(s.codec),
		grpc.MaxRecvMsgSize(MaxReceive),
		grpc.MaxConcurrentStreams(cfg.MaxStreams),
		grpc.ReadBufferSize(readBuffer),
		grpc.WriteBufferSize(writeBuffer),
		grpc.NumStreamWorkers(streamWorkers),
		grpc.ConnectionTimeout(connectTimeout),
		grpc.WaitForHandlers(true),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: clientPings, PermitWithoutStream: true}),
		grpc.UnknownServiceHandler(s.unknown),
		grpc.ChainUnaryInterceptor(s.recoverUnary, s.observeUnary, s.admitUnary),
		grpc.ChainStreamInterceptor(s.recoverStream, s.observeStream, s.admitStream),
	)
	for _, r := range register {
		r(g)
	}
	services := g.GetServiceInfo()
	names := make([]string, 0, len(services))
	for name := range services {
		names = append(names, name)
	}
	slices.Sort(names) // the same fault gives the same error
	var faults []error
	for _, name := range names {
		methods, err := methodsOf(name)
		faults = append(faults, err)
		for _, m := range methods {
			s.methods[m.full] = m
		}
	}
	if err := errors.Join(faults...); err != nil {
		g.Stop()
		return nil, fmt.Errorf("new server: %w", err)
	}
	return g, nil
}
