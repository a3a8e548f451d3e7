package controlapi

import (
	"context"
	"maps"
	"slices"

	"skep/api"
	"skep/model"
	"skep/store"
)

// GetNode returns a node. Its manager status comes from raft, not from the store.
func (s *Server) GetNode(_ context.Context, r *api.GetNodeRequest) (*api.GetNodeResponse, error) {
	n, err := find[*api.Node](s.store.Read(), r.GetNodeId())
	if err != nil {
		return nil, err
	}
	return &api.GetNodeResponse{Node: withManagerStatus(n, s.membersByNode())}, nil
}

// ListNodes returns the nodes that meet the filters. Names are hostnames, labels
// those of the engine, node_labels those that users gave.
func (s *Server) ListNodes(_ context.Context, r *api.ListNodesRequest) (*api.ListNodesResponse, error) {
	f := r.GetFilters()
	nodes := list(s.store.Read().Nodes.All(), func(n *api.Node) bool {
		d := n.GetDescription()
		return holdAll(f, n.GetId(), d.GetHostname(), d.GetEngine().GetLabels()) &&
			labelled(f.GetNodeLabels(), n.GetSpec().GetAnnotations().GetLabels()) &&
			among(f.GetMemberships(), n.GetSpec().GetMembership()) &&
			among(f.GetRoles(), n.GetRole())
	})
	members := s.membersByNode()
	for i, n := range nodes {
		nodes[i] = withManagerStatus(n, members)
	}
	return &api.ListNodesResponse{Nodes: nodes}, nil
}

// UpdateNode replaces the spec of a node. A manager is demoted only if the others
// can go on without it.
func (s *Server) UpdateNode(ctx context.Context, r *api.UpdateNodeRequest) (*api.UpdateNodeResponse, error) {
	if err := model.CheckNode(r.GetSpec()); err != nil {
		return nil, err
	}
	members, learners := s.membersByNode(), s.learners()
	n, err := change(ctx, s, r.GetNodeId(), r.GetNodeVersion(), func(tx *store.Tx, old *api.Node) (*api.Node, error) {
		was, wanted := old.GetSpec().GetDesiredRole(), r.GetSpec().GetDesiredRole()
		switch {
		case was == api.NodeRole_MANAGER && wanted == api.NodeRole_WORKER:
			if err := checkDemotion(tx.Snapshot, old, members, learners); err != nil {
				return nil, err
			}
		case was == api.NodeRole_WORKER && wanted == api.NodeRole_MANAGER:
			if err := s.promotable(old); err != nil {
				return nil, err
			}
		}
		n := model.Shallow(old)
		n.Spec = r.GetSpec()
		return n, nil
	})
	if err != nil {
		return nil, err
	}
	return &api.UpdateNodeResponse{Node: withManagerStatus(n, members)}, nil
}

// checkDemotion refuses what would leave the cluster without a manager, or
// without a majority of reachable ones.
func checkDemotion(s *store.Snapshot, n *api.Node, members map[string]*api.RaftMember, learners []uint64) error {
	managers := 0
	for other := range s.Nodes.All() {
		if other.GetRole() == api.NodeRole_MANAGER {
			managers++
		}
	}
	return model.CheckDemotion(n, slices.Collect(maps.Values(members)), learners, managers, func(id string) (api.NodeRole, bool) {
		other, ok := s.Nodes.Get(id)
		return other.GetSpec().GetDesiredRole(), ok
	})
}

func (s *Server) membersByNode() map[string]*api.RaftMember {
	all := s.members()
	members := make(map[string]*api.RaftMember, len(all))
	for _, m := range all {
		members[m.GetNodeId()] = m
	}
	return members
}

// withManagerStatus returns n, or a copy that says what raft knows of it.
func withManagerStatus(n *api.Node, members map[string]*api.RaftMember) *api.Node {
	m, ok := members[n.GetId()]
	if !ok && n.GetManagerStatus() == nil {
		return n
	}
	n = model.Shallow(n)
	n.ManagerStatus = nil
	if ok {
		n.ManagerStatus = &api.ManagerStatus{
			RaftId:       m.GetRaftId(),
			Addr:         m.GetAddr(),
			Leader:       m.GetStatus().GetLeader(),
			Reachability: m.GetStatus().GetReachability(),
		}
	}
	return n
}
