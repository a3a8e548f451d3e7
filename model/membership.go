package model

import (
	"slices"

	"skep/api"
)

// runtimePlugin is the type of the plugins through which a node says what it can run. Every node
// of this system lists one; a stock engine lists none.
const runtimePlugin = "Runtime"

// CheckPromotion returns an error of kind Precondition if a node cannot become a manager: it
// runs an engine that brings a manager of its own, with which this one does not share a log yet.
func CheckPromotion(n *api.Node) error {
	for _, p := range n.GetDescription().GetEngine().GetPlugins() {
		if p.GetType() == runtimePlugin {
			return nil
		}
	}
	if n.GetDescription() == nil {
		return Errorf(Precondition, "node %.80q can't be promoted: it has not said yet what it is; wait until it is ready, then promote it", n.GetId())
	}
	return Errorf(Precondition, "node %.80q can't be promoted: it runs a stock engine, whose manager this version does not work with; promote a node that runs swarmd", n.GetId())
}

// Quorum says whether a group can go on when some of its members have left.
type Quorum struct {
	// Left is how many members stay, Reachable how many of them are known not to be unreachable.
	Left, Reachable int
}

// QuorumWithout counts what stays of members when those whose raft IDs are given leave, or do not
// count: learners decide nothing. A member of which nothing is known counts as reachable.
func QuorumWithout(members []*api.RaftMember, leaving ...uint64) Quorum {
	var q Quorum
	for _, m := range members {
		if slices.Contains(leaving, m.GetRaftId()) {
			continue
		}
		q.Left++
		if m.GetStatus().GetReachability() != api.RaftMemberStatus_UNREACHABLE {
			q.Reachable++
		}
	}
	return q
}

// Holds reports whether those that stay can agree on anything.
func (q Quorum) Holds() bool { return q.Left > 0 && q.Reachable >= q.Left/2+1 }

// CheckDemotion returns an error if the swarm could not go on without a manager: it is the last
// one, or without it and those whose demotion is under way there is no reachable majority.
// learners are the raft IDs of the members that do not vote yet: they make no majority. wanted
// tells of a node ID which role it is to have: that of its spec. An error of kind NotFound says
// that the node is not a member.
func CheckDemotion(n *api.Node, members []*api.RaftMember, learners []uint64, managers int, wanted func(nodeID string) (api.NodeRole, bool)) error {
	if n.GetRole() == api.NodeRole_MANAGER && managers == 1 {
		return Errorf(Precondition, "attempting to demote the last manager of the swarm: nobody would be left to lead it; promote another node first")
	}
	leaving := slices.Clone(learners)
	member, others := false, 0
	for _, m := range members {
		if m.GetNodeId() == n.GetId() {
			member = true
			leaving = append(leaving, m.GetRaftId())
			continue
		}
		if role, ok := wanted(m.GetNodeId()); !ok || role == api.NodeRole_WORKER {
			leaving = append(leaving, m.GetRaftId())
			others++
		}
	}
	if !member {
		return Errorf(NotFound, "node %.80q is not a member of raft: it is not a manager yet; wait until it is, then demote it", n.GetId())
	}
	q := QuorumWithout(members, leaving...)
	switch {
	case q.Holds():
		return nil
	case q.Left == 0:
		return Errorf(Precondition, "attempting to demote the last manager of the swarm: every other one is being demoted (%d) or takes part in no decision yet (%d); promote another node, or wait until one that joins takes part", others, len(learners))
	default:
		return Errorf(Precondition, "demoting node %.80q would leave %d reachable managers of %d (%d more are being demoted): they could not agree on anything; bring the others back first", n.GetId(), q.Reachable, q.Left, others)
	}
}
