package rpc

import (
	"context"

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

// maxFollowed is how many changes wait for who follows; after more, all are asked about.
const maxFollowed = 4096

// Follow tells of nodes that come, go or change their role, as committed here.
func (m *Members) Follow(ctx context.Context, changed func(nodeID string)) {
	_, sub := m.store.Subscribe(maxFollowed, store.KindKey(store.KindNode), store.ObjectKey(store.KindCluster, m.clusterID), store.KindKey(store.KindResource))
	defer sub.Close()
	changed("")
	for {
		select {
		case <-sub.Ready():
		case <-ctx.Done():
			return
		}
		commits, resync := sub.Take()
		if resync {
			sub.Resync()
			changed("")
		}
		for _, commit := range commits {
			for _, c := range commit.Changes {
				rightsChanged(c, changed)
			}
		}
	}
}

// rightsChanged calls changed for each node whose rights c may have changed.
func rightsChanged(c store.Change, changed func(nodeID string)) {
	switch c.Kind {
	case store.KindNode:
		was, _ := c.Old.(*api.Node)
		is, _ := c.New.(*api.Node)
		if was == nil || is == nil || was.GetRole() != is.GetRole() {
			changed(c.ID())
		}
	case store.KindResource:
		was, _ := c.Old.(*api.Resource)
		is, _ := c.New.(*api.Resource)
		if was.GetKind() == model.RemovedNodeKind || is.GetKind() == model.RemovedNodeKind {
			changed(c.ID())
		}
	case store.KindCluster:
		was, _ := c.Old.(*api.Cluster)
		is, _ := c.New.(*api.Cluster)
		for id := range is.GetBlacklistedCertificates() {
			if _, known := was.GetBlacklistedCertificates()[id]; !known {
				changed(id)
			}
		}
	default:
	}
}
