package manager

import (
	"slices"
	"strings"

	"google.golang.org/grpc"

	"skep/api"
	"skep/api/skep"
	"skep/ca"
	"skep/control/allocator"
	"skep/control/dispatch"
	"skep/control/orchestrator"
	"skep/control/reaper"
	"skep/control/rotator"
	"skep/control/scheduler"
	"skep/loop"
	"skep/rpc/caserver"
	"skep/rpc/controlapi"
	"skep/rpc/dispatcher"
	"skep/rpc/insight"
	"skep/rpc/logbroker"
	"skep/rpc/raftserver"
	"skep/rpc/recovery"
	"skep/rpc/resourceapi"
	"skep/rpc/watchapi"
	"skep/template"
)

// services are what a manager answers.
type services struct {
	control    *controlapi.Server
	watch      *watchapi.Server
	ca         *caserver.Server
	dispatcher *dispatcher.Dispatcher
	health     *raftserver.Health
	rejected   *raftserver.Metrics
	insight    *insight.Server
	recovery   *recovery.Server
}

func (m *Manager) newServices(external *ca.External) services {
	cluster := m.cfg.Identity.ClusterID()
	var rejected *raftserver.Metrics
	if m.cfg.Metrics != nil {
		rejected = raftserver.NewMetrics(m.cfg.Metrics)
	}
	return services{
		rejected: rejected,
		control: controlapi.New(controlapi.Config{
			Store:          m.store,
			NewID:          newID,
			CheckTemplates: template.Check,
			Members:        group{m}.Members,
			Learners:       group{m}.Learners,
			NewJoinToken:   m.newJoinToken,
			External:       external,
			Now:            m.cfg.Now,
		}),
		watch:  watchapi.New(watchapi.Config{Store: m.store, Stop: m.stopping}),
		health: &raftserver.Health{},
		insight: insight.New(insight.Config{
			Store: m.store, ClusterID: cluster, Now: m.cfg.Now,
			Raft: func() insight.Raft { return insight.RaftOf(group{m}.status()) }, Changed: group{m}.Changed,
		}),
		ca:       caserver.New(caserver.Config{Store: m.store, ClusterID: cluster, NewID: newID}),
		recovery: recovery.New(recovery.Config{Store: m.store, ClusterID: cluster, Now: m.cfg.Now}),
		dispatcher: dispatcher.New(dispatcher.Config{
			Store: m.store, NodeID: m.cfg.Identity.NodeID(), Peers: m.peers, NewID: newID,
			Log: m.cfg.Log, Metrics: m.cfg.Metrics,
		}),
	}
}

// Register adds the services of the remote port.
func (m *Manager) Register(r grpc.ServiceRegistrar) {
	m.RegisterLocal(r)
	member := &raftserver.Raft{
		Members: group{m}.Members, Removed: group{m}.Removed, Member: late{m}, Hashes: m.divergence.heard,
		Found: m.transport.Found, Reached: m.transport.Address, Metrics: m.services.rejected,
	}
	api.RegisterRaftServer(r, member)
	skep.RegisterReplicationServer(r, &raftserver.Replication{Raft: member})
	api.RegisterRaftMembershipServer(r, &raftserver.Membership{Group: group{m}, Store: m.store, Dial: m.cfg.Dial})
}

// RegisterLocal adds the services of the socket: all but those between managers.
func (m *Manager) RegisterLocal(r grpc.ServiceRegistrar) {
	s := m.services
	api.RegisterControlServer(r, s.control)
	api.RegisterWatchServer(r, s.watch)
	s.ca.Register(r)
	api.RegisterDispatcherServer(r, s.dispatcher)
	api.RegisterHealthServer(r, s.health)
	api.RegisterLogsServer(r, &logbroker.Logs{})
	api.RegisterLogBrokerServer(r, &logbroker.Broker{})
	api.RegisterResourceAllocatorServer(r, &resourceapi.Server{})
	skep.RegisterInsightServer(r, s.insight)
	s.recovery.Register(r)
}

// loops are the reconcile loops in the order in which a task passes them.
func (m *Manager) loops() []loop.Any {
	return []loop.Any{
		orchestrator.Loop(),
		allocator.Loop(),
		scheduler.Loop(),
		reaper.Loop(),
		reaper.RemovedNodes(),
		rotator.Roles{Raft: group{m}, Log: m.cfg.Log}.Loop(),
		rotator.Keys{ClusterID: m.cfg.Identity.ClusterID()}.Loop(),
		dispatch.Orphans(m.cfg.Identity.NodeID()),
		rotator.Root{ClusterID: m.cfg.Identity.ClusterID()}.Loop(),
		m.issuer.Loop(),
	}
}

// newJoinToken makes a join token for the root certificates caCert, PEM.
func (m *Manager) newJoinToken(caCert []byte) (string, error) {
	root, err := ca.ParseRoot(caCert, m.cfg.Now())
	if err != nil {
		return "", err
	}
	token, err := ca.NewToken(root)
	return token.Reveal(), err
}

// managerWeight is the weight that every manager has in the lists that nodes get.
const managerWeight = 10

// peers are the managers that nodes may talk to.
func (m *Manager) peers() ([]*api.WeightedPeer, <-chan struct{}) {
	node := m.raft.Load()
	if node == nil {
		return nil, nil
	}
	changed := node.Changed()
	var peers []*api.WeightedPeer
	for _, member := range node.Status().Members {
		addr := member.GetAddr()
		if member.GetNodeId() == m.cfg.Identity.NodeID() {
			addr = m.cfg.Addr
		}
		peers = append(peers, &api.WeightedPeer{Peer: &api.Peer{NodeId: member.GetNodeId(), Addr: addr}, Weight: managerWeight})
	}
	slices.SortFunc(peers, func(a, b *api.WeightedPeer) int { return strings.Compare(a.Peer.NodeId, b.Peer.NodeId) })
	return peers, changed
}
