package manager

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"skep/api"
	"skep/ca"
	"skep/model"
	"skep/store"
)

const (
	clusterName = "default"
	// The defaults that a new cluster's spec spells out.
	taskHistory     = 5
	heartbeatPeriod = 5 * time.Second
	snapshotEntries = 10_000
	keepEntries     = 500
	electionTicks   = 10
	heartbeatTicks  = 1
)

// Founding is what the first manager of a new swarm knows and nobody else: the
// root's private key, which from then on lives in the cluster object only.
type Founding struct {
	RootKey      []byte
	Availability api.NodeSpec_Availability
	// UnlockKey locks the managers from the beginning, unless it is zero.
	UnlockKey ca.UnlockKey
}

// found writes the cluster object and this manager's own node, if the swarm has
// none yet. It is the first thing that a leader does.
func (m *Manager) found(ctx context.Context) error {
	id := m.cfg.Identity
	s := m.store.Proposed()
	if _, ok := s.Clusters.Get(id.ClusterID()); ok {
		return nil
	}
	if m.cfg.Founding == nil {
		return hopeless{fmt.Errorf("the swarm's log holds no cluster %s: the raft directory was replaced or emptied; restore it from a backup, or start over with an empty state directory", id.ClusterID())}
	}
	cluster, err := newCluster(id, m.cfg.Founding)
	if err != nil {
		return hopeless{err}
	}
	return m.store.Update(ctx, func(tx *store.Tx) error {
		if err := tx.Create(cluster); err != nil {
			return err
		}
		return tx.Create(foundingNode(id, m.cfg.Founding.Availability))
	})
}

// demoteLost makes workers of the managers that a new group was forced without. One that comes
// back is refused by its old name, and must not become a member again by itself: the group
// would need it from then on. It is promoted like any other node.
func (m *Manager) demoteLost(ctx context.Context) error {
	members := make(map[string]bool)
	for _, member := range m.raft.Load().Status().Members {
		members[member.GetNodeId()] = true
	}
	return m.store.Update(ctx, func(tx *store.Tx) error {
		for _, n := range slices.Collect(tx.Nodes.All()) {
			if members[n.GetId()] || n.GetRole() != api.NodeRole_MANAGER && n.GetSpec().GetDesiredRole() != api.NodeRole_MANAGER {
				continue
			}
			worker := model.Shallow(n)
			worker.Role, worker.Spec = api.NodeRole_WORKER, model.Shallow(n.GetSpec())
			worker.Spec.DesiredRole = api.NodeRole_WORKER
			if err := tx.Update(worker); err != nil {
				return err
			}
		}
		return nil
	})
}

func newCluster(id *ca.Identity, founding *Founding) (*api.Cluster, error) {
	root, err := ca.NewRootCA(id.Root(), founding.RootKey)
	if err != nil {
		return nil, err
	}
	var unlock []*api.EncryptionKey
	if key := founding.UnlockKey; !key.IsZero() {
		unlock = []*api.EncryptionKey{{Subsystem: ca.ManagerOU, Key: key.Bytes()}}
	}
	return &api.Cluster{
		Id: id.ClusterID(),
		Spec: &api.ClusterSpec{
			Annotations:      &api.Annotations{Name: clusterName},
			Orchestration:    &api.OrchestrationConfig{TaskHistoryRetentionLimit: taskHistory},
			Raft:             &api.RaftConfig{SnapshotInterval: snapshotEntries, LogEntriesForSlowFollowers: keepEntries, HeartbeatTick: heartbeatTicks, ElectionTick: electionTicks},
			Dispatcher:       &api.DispatcherConfig{HeartbeatPeriod: durationpb.New(heartbeatPeriod)},
			CaConfig:         &api.CAConfig{NodeCertExpiry: durationpb.New(ca.DefaultLifetime)},
			TaskDefaults:     &api.TaskDefaults{},
			EncryptionConfig: &api.EncryptionConfig{AutoLockManagers: unlock != nil},
		},
		RootCa:     root,
		UnlockKeys: unlock,
	}, nil
}

func foundingNode(id *ca.Identity, availability api.NodeSpec_Availability) *api.Node {
	return &api.Node{
		Id: id.NodeID(),
		Spec: &api.NodeSpec{
			DesiredRole:  api.NodeRole_MANAGER,
			Membership:   api.NodeSpec_ACCEPTED,
			Availability: availability,
		},
		Role: api.NodeRole_MANAGER,
		Certificate: &api.Certificate{
			Role:        api.NodeRole_MANAGER,
			Cn:          id.NodeID(),
			Certificate: id.Certificate().PEM(),
			Status:      &api.IssuanceStatus{State: api.IssuanceStatus_ISSUED},
		},
	}
}
