package recovery

import (
	"context"
	"time"

	"google.golang.org/grpc"

	"skep/api/skep"
	"skep/ca"
	"skep/control/issuer"
	"skep/model"
	"skep/rpc"
	"skep/store"
)

const (
	// Within is how long after its certificate expired a node may come back.
	Within = 90 * 24 * time.Hour
	// A node whose clock is ahead of ours finds its certificate expired a little
	// before we do.
	ahead = time.Hour
	// maxNodeID is longer than any node's ID.
	maxNodeID = 256
)

// Config is what a Server is made of. Store and ClusterID are required.
type Config struct {
	Store     *store.Store
	ClusterID string
	// Now is the wall clock of certificates; nil is time.Now.
	Now func() time.Time
}

// Server implements skep.RecoveryServer.
type Server struct {
	skep.UnimplementedRecoveryServer
	cfg     Config
	members *rpc.Members
	limit   limit
}

// New returns a server.
func New(cfg Config) *Server {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Server{cfg: cfg, members: rpc.NewMembers(cfg.Store, cfg.ClusterID), limit: limit{of: make(map[string]bucket)}}
}

// Register adds the service.
func (s *Server) Register(r grpc.ServiceRegistrar) { skep.RegisterRecoveryServer(r, s) }

// Renew takes the request of a node whose certificate expired.
func (s *Server) Renew(ctx context.Context, r *skep.RecoveryRequest) (*skep.RecoveryResponse, error) {
	id, csr := r.GetNodeId(), r.GetCsr()
	switch {
	case id == "" || len(id) > maxNodeID:
		return nil, model.Errorf(model.Invalid, "recover a node: the request names no node: set node_id to the ID in the certificate")
	case len(csr) == 0:
		return nil, model.Errorf(model.Invalid, "recover a node: the request has no CSR")
	}
	if caller := rpc.Caller(ctx); !caller.Local && !s.limit.take(caller.Addr, time.Now()) {
		return nil, model.Errorf(model.Exhausted, "recover a node: too many requests come from %s: wait a minute, then try again", hostOf(caller.Addr))
	}
	if err := ca.CheckRequest(csr); err != nil {
		return nil, err
	}
	node, ok := s.cfg.Store.Read().Nodes.Get(id)
	_, _, removed := s.members.Node(id)
	// The request's signature is looked at even when there is no such node, so that
	// neither words nor time tell which nodes there are.
	same, expired, err := ca.RequestedBy(csr, node.GetCertificate().GetCertificate())
	if model.KindOf(err) == model.Invalid && err != nil {
		return nil, err
	}
	if !ok || removed || err != nil || !same {
		return nil, model.Errorf(model.Denied,
			"recover node %.64s: this swarm knows no such node with such a key: it was removed, or its certificates were replaced: let it leave and join again", id)
	}
	switch now := s.cfg.Now(); {
	case now.Sub(expired) >= Within:
		return nil, model.Errorf(model.Denied, "recover node %s: its certificate expired at %s, more than %d days ago: let it leave and join again",
			id, expired.UTC().Format(time.RFC3339), int(Within.Hours()/24))
	case expired.Sub(now) > ahead:
		return nil, model.Errorf(model.Precondition,
			"recover node %s: its certificate is valid until %s, and the clock of the manager says %s: set the clock of the node, or let it renew",
			id, expired.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	if node, err = issuer.Renew(ctx, s.cfg.Store, id, csr); err != nil {
		return nil, err
	}
	return &skep.RecoveryResponse{NodeId: node.GetId()}, nil
}
