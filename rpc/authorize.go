package rpc

import (
	"slices"
	"strings"
	"time"

	"skep/api"
	"skep/api/skep"
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

// presentable refuses a caller whom no manager would let in, without asking the store: a
// manager that passes a request on may know less than the leader.
func (s *server) presentable(id Identity, m *method) error {
	switch {
	case m.open || id.Local:
		return nil
	case id.forger != "" && id.byManager:
		return nil // it may be a manager that only the leader knows of
	case id.forger != "":
		return errForger(id, m)
	case id.NodeID == "":
		return errNoCertificate(m)
	}
	return s.certified(id)
}

func errForger(id Identity, m *method) error {
	return model.Errorf(model.Denied, "%s: node %s says who asks this, and only a manager of this swarm may: ask for yourself, or ask another manager", m.full, id.forger)
}

func errNoCertificate(m *method) error {
	return model.Errorf(model.Denied, "%s needs a certificate of this swarm: join the swarm first, or ask over a manager's socket", m.full)
}

// authorize returns the caller of m as it may act, or an error of kind Denied.
// The certificate and the store must both give a role: a demoted manager still
// holds its old certificate and acts as a worker, a promoted worker has yet to
// fetch its new one.
func (s *server) authorize(id Identity, m *method) (Identity, error) {
	if m.open || id.Local {
		return id, nil
	}
	if m.route == Local && id.Forwarder != "" {
		// No manager does that, and a manager could speak as another one: raft asks whose a message is.
		return id, model.Errorf(model.Denied, "%s is answered by the manager that is asked, for who asks it: manager %s cannot pass it on", m.full, id.Forwarder)
	}
	if id.forger != "" {
		return id, errForger(id, m)
	}
	if id.NodeID == "" {
		return id, errNoCertificate(m)
	}
	stored, err := s.member(id)
	if err != nil && m.amongManagers() && s.unknownManager(id) {
		return id, nil
	}
	if err != nil {
		return id, err
	}
	acts := ""
	switch {
	case stored == api.NodeRole_MANAGER && id.Is(ca.ManagerOU):
		acts = ca.ManagerOU
	case id.Is(ca.ManagerOU), id.Is(ca.WorkerOU):
		acts = ca.WorkerOU
	}
	if !slices.Contains(m.roles, acts) {
		return id, model.Errorf(model.Denied, "%s is for %s: node %s has a certificate for %s and is %s in this swarm",
			m.full, strings.Join(m.roles, ", "), id.NodeID, strings.Join(id.Roles, ", "), ca.OU(stored))
	}
	id.Roles = []string{acts}
	return id, nil
}

// amongManagers reports whether a method is what managers say to each other to agree on
// anything at all.
func (m *method) amongManagers() bool {
	switch m.service {
	case api.Raft_ServiceDesc.ServiceName, api.Health_ServiceDesc.ServiceName, skep.Replication_ServiceDesc.ServiceName:
		return true
	}
	return false
}

// unknownManager reports whether id has the certificate of a manager that the store has not
// heard of because this manager is new or was away: it must learn of its leader from the
// leader. Whoever follows another one, or leads, knows all managers.
func (s *server) unknownManager(id Identity) bool {
	if s.cfg.Leadership == nil {
		return false
	}
	leader, _ := s.cfg.Leadership.Leader()
	if leader.Self || leader.NodeID != "" && leader.NodeID != id.NodeID {
		return false
	}
	_, known, removed := s.cfg.Authorizer.Node(id.NodeID)
	return !known && !removed && id.Is(ca.ManagerOU) && s.certified(id) == nil
}

// certified refuses a certificate of another swarm, or one that has expired meanwhile.
func (s *server) certified(id Identity) error {
	if want := s.cfg.Authorizer.ClusterID(); id.Org != want {
		return model.Errorf(model.Denied, "the certificate of node %s is for swarm %q, this is swarm %q", id.NodeID, id.Org, want)
	}
	if now := s.cfg.Now(); !id.NotAfter.IsZero() && now.After(id.NotAfter) {
		return model.Errorf(model.Denied, "the certificate of node %s expired at %s, and the clock of this manager says %s", id.NodeID, id.NotAfter.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return nil
}

// member returns the role of id in the store, or an error when it is no node of
// this swarm at this moment.
func (s *server) member(id Identity) (api.NodeRole, error) {
	if err := s.certified(id); err != nil {
		return 0, err
	}
	role, known, removed := s.cfg.Authorizer.Node(id.NodeID)
	switch {
	case !removed && !known && !s.knowsAll():
		return 0, model.Errorf(model.Denied, "this manager does not know node %s, and may not have caught up with the others yet: try again; if the others say that the node was removed, let it leave and join again", id.NodeID)
	case removed || !known:
		return 0, model.Errorf(model.Denied, "node %s was removed from the swarm: let it leave and join again", id.NodeID)
	}
	return role, nil
}

// knowsAll reports whether a node that this manager does not know is none of the swarm's: a
// leader knows all, others may be behind.
func (s *server) knowsAll() bool {
	if s.cfg.Leadership == nil {
		return true
	}
	leader, _ := s.cfg.Leadership.Leader()
	return leader.Self
}
