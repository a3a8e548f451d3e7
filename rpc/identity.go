package rpc

import (
	"context"
	"slices"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"skep/api"
	"skep/ca"
	"skep/model"
)

// Identity is who makes a request. The zero value is a caller without a
// certificate.
type Identity struct {
	// NodeID is the common name of the caller's certificate, empty without one.
	NodeID string
	// Org is the organization: the cluster the certificate was issued for.
	Org string
	// Roles are the organizational units.
	Roles []string
	// Addr is the address the request came from.
	Addr string
	// Local is true for requests over the unix socket: they are this node's own.
	Local bool
	// NotAfter is when the certificate expires; zero for local callers.
	NotAfter time.Time
	// Forwarder is the manager that passed the request on for the caller, empty when the
	// caller itself connected.
	Forwarder string

	// forger is the node that says it passes a request on, and is no manager.
	forger string
	// byManager is whether who connected has a manager's certificate.
	byManager bool
}

// Is reports whether the caller's certificate carries a role, ca.WorkerOU or
// ca.ManagerOU.
func (id Identity) Is(role string) bool { return slices.Contains(id.Roles, role) }

type callerKey struct{}

// WithCaller returns a context whose requests are made by id: for servers in
// this process and for tests of handlers.
func WithCaller(ctx context.Context, id Identity) context.Context {
	return context.WithValue(ctx, callerKey{}, id)
}

// Caller returns who makes the request of this context, the zero Identity when
// nobody is known.
func Caller(ctx context.Context) Identity {
	id, _ := ctx.Value(callerKey{}).(Identity)
	return id
}

// identify reads the caller from the connection.
func (s *server) identify(ctx context.Context) (Identity, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return Identity{}, model.Errorf(model.Internal, "a request without a connection")
	}
	switch auth := p.AuthInfo.(type) {
	case localPeer:
		if s.cfg.Local == nil {
			return Identity{Addr: p.Addr.String()}, nil
		}
		id := s.cfg.Local()
		id.Local = true
		return id, nil
	case ca.Peer:
		id := Identity{NodeID: auth.NodeID, Org: auth.Org, Roles: auth.OUs, Addr: p.Addr.String(), NotAfter: auth.NotAfter}
		id.byManager = id.Is(ca.ManagerOU)
		md, ok := metadata.FromIncomingContext(ctx)
		switch {
		case ok && s.passesOn(id, md):
			return forwarded(md, id), nil
		case ok && speaksForOthers(md):
			// Neither whom it names, nor itself: a manager that was demoted a moment ago
			// still passes on what others ask, and they must not get what is its own.
			return Identity{Addr: id.Addr, forger: id.NodeID, byManager: id.byManager}, nil
		}
		return id, nil
	}
	return Identity{Addr: p.Addr.String()}, nil
}

// passesOn reports whether the caller is a manager that makes a request for somebody else.
// What others say of that kind makes them nobody.
func (s *server) passesOn(id Identity, md metadata.MD) bool {
	if !passedOn(md) || !id.Is(ca.ManagerOU) {
		return false
	}
	role, err := s.member(id)
	return err == nil && role == api.NodeRole_MANAGER
}

// Self returns the identity that a node gives to callers of its own socket.
func Self(identity *ca.Identity, addr string) func() Identity {
	return func() Identity {
		cert := identity.Certificate()
		return Identity{NodeID: cert.NodeID, Org: cert.ClusterID, Roles: []string{ca.OU(cert.Role)}, Addr: addr, Local: true}
	}
}
