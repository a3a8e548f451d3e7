package rpc

import (
	"slices"
	"time"

	"skep/api"
	"skep/ca"
	"skep/model"
)

// Authorizer is what the store says about callers. It is asked for each request
// and so must answer from memory.
type Authorizer interface {
	// ClusterID is the organization that certificates must carry.
	ClusterID() string
	// Node returns the role of a node as the store has it; known is false when
	// there is no such node, removed true when it was removed from the swarm.
	Node(id string) (role api.NodeRole, known, removed bool)
}

// authorize returns nil when id may call m.
func (s *server) authorize(id Identity, m *method) error {
	if m.open || id.Local {
		return nil
	}
	if id.NodeID == "" {
		return model.Errorf(model.Denied, "%s needs a certificate of this swarm: join the swarm first, or ask over a manager's socket", m.full)
	}
	if err := s.member(id); err != nil {
		return err
	}
	// The certificate and the store must both give a role that suffices: a
	// demoted manager still holds its old certificate, a promoted worker has
	// yet to fetch its new one.
	role, _, _ := s.cfg.Authorizer.Node(id.NodeID)
	stored := ca.OU(role)
	for _, allowed := range m.roles {
		if !id.Is(allowed) {
			continue
		}
		if stored == allowed || stored == ca.ManagerOU {
			return nil
		}
		// A demoted manager goes on as a worker.
		if slices.Contains(m.roles, ca.WorkerOU) {
			return nil
		}
	}
	return model.Errorf(model.Denied, "%s is for %v; node %s has certificate %v and is %s in this swarm", m.full, m.roles, id.NodeID, id.Roles, stored)
}

// member returns nil when id is a node of this swarm at this moment.
func (s *server) member(id Identity) error {
	if want := s.cfg.Authorizer.ClusterID(); id.Org != want {
		return model.Errorf(model.Denied, "the certificate of node %s is for swarm %q, this is swarm %q", id.NodeID, id.Org, want)
	}
	if now := s.cfg.Now(); !id.NotAfter.IsZero() && now.After(id.NotAfter) {
		return model.Errorf(model.Denied, "the certificate of node %s expired at %s", id.NodeID, id.NotAfter.UTC().Format(time.RFC3339))
	}
	_, known, removed := s.cfg.Authorizer.Node(id.NodeID)
	if removed || !known {
		return model.Errorf(model.Denied, "node %s was removed from the swarm: let it leave and join again", id.NodeID)
	}
	return nil
}
