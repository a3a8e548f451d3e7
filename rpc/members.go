package rpc

import (
	"skep/api"
	"skep/model"
	"skep/store"
)

// Members is the Authorizer that asks a store, as committed here.
type Members struct {
	store     *store.Store
	clusterID string
}

// NewMembers returns the members of the cluster whose object a store holds.
func NewMembers(s *store.Store, clusterID string) *Members {
	return &Members{store: s, clusterID: clusterID}
}

// ClusterID returns the organization that certificates must carry.
func (m *Members) ClusterID() string { return m.clusterID }

// Node returns what the store knows of a node.
func (m *Members) Node(id string) (role api.NodeRole, known, removed bool) {
	head := m.store.Read()
	if node, ok := head.Nodes.Get(id); ok {
		role, known = node.GetRole(), true
	}
	if cluster, ok := head.Clusters.Get(m.clusterID); ok {
		_, removed = cluster.GetBlacklistedCertificates()[id]
	}
	if r, ok := head.Resources.Get(id); ok && r.GetKind() == model.RemovedNodeKind {
		removed = true
	}
	return role, known, removed
}
