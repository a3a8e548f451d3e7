package rotator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"skep/api"
	"skep/loop"
	"skep/model"
	"skep/store"
)

// Raft is what roles need of the group of managers.
type Raft interface {
	// ID is the raft ID of this member.
	ID() uint64
	// Members are all of the group, with their reachability.
	Members() []*api.RaftMember
	// Learners are the raft IDs of those that do not vote yet.
	Learners() []uint64
	// Changed returns a channel that is closed when leader, members or reachability may differ
	// from what they are now.
	Changed() <-chan struct{}
	// RemoveMember takes a member out of the group. It is nil if it is none, and refuses with
	// kind Precondition what would leave no reachable majority.
	RemoveMember(ctx context.Context, raftID uint64) error
	// TransferLeadership makes another lead: the given member, the most fit one if 0.
	TransferLeadership(ctx context.Context, to uint64) error
}

const (
	// A demotion that waits looks again after this long even if raft says nothing.
	lookAgain = 5 * time.Second
	// One removal or transfer may take this long before it is tried anew.
	removalTimeout = 5 * time.Second
	// Strangers are looked for this often: no change of the store tells of a join that was refused
	// late and could not be taken back.
	strangersPeriod = 30 * time.Second
	// demotionWaits begins the status message of a node that has to stay for now.
	demotionWaits = "demotion waits: "
	// strangers is the key of what is in raft without a node.
	strangers = ""
)

// Roles makes managers of workers and workers of managers.
type Roles struct {
	// Raft is required.
	Raft Raft
	// Log may be nil.
	Log *slog.Logger
}

// Loop returns the loop over node IDs.
func (r Roles) Loop() loop.Loop[string] {
	if r.Log == nil {
		r.Log = slog.New(slog.DiscardHandler)
	}
	return loop.Loop[string]{
		Name: "roles",
		Keys: func(c store.Change, dirty func(string)) {
			switch is := c.New.(type) {
			case *api.Node:
				if unsettled(is) {
					dirty(is.GetId())
				}
			case nil:
				if was, ok := c.Old.(*api.Node); ok && was.GetRole() == api.NodeRole_MANAGER {
					dirty(was.GetId())
				}
			}
		},
		All: func(s *store.Snapshot, dirty func(string)) {
			for n := range s.Nodes.All() {
				if unsettled(n) {
					dirty(n.GetId())
				}
			}
			dirty(strangers)
		},
		Plan: r.plan,
	}
}

// unsettled reports whether a node's role is not the one it is to have.
func unsettled(n *api.Node) bool { return n.GetRole() != n.GetSpec().GetDesiredRole() }

func (r Roles) plan(env *loop.Env, s *store.Snapshot, keys []string, out *loop.Plan[string]) {
	for _, id := range keys {
		if out.Full() {
			out.Again(id)
			continue
		}
		if id == strangers {
			out.Effect(eviction{roles: r})
			out.WakeAt(strangers, env.Now.Add(strangersPeriod))
			continue
		}
		n, ok := s.Nodes.Get(id)
		switch {
		case !ok:
			out.Effect(departure{roles: r, nodeID: id})
		case !unsettled(n):
		case n.GetSpec().GetDesiredRole() == api.NodeRole_MANAGER:
			n = model.Shallow(n)
			n.Role = api.NodeRole_MANAGER
			out.Update(n)
		default:
			out.Effect(departure{roles: r, nodeID: id})
		}
	}
}

// mayBeMember reports whether a node has a place in raft: it is a manager and is to stay one,
// or is about to become one.
func mayBeMember(s *store.Snapshot, nodeID string) bool {
	n, ok := s.Nodes.Get(nodeID)
	return ok && n.GetSpec().GetDesiredRole() == api.NodeRole_MANAGER
}

// departure is the effect that takes a node out of raft and, if there still is one, makes it a
// worker.
type departure struct {
	roles  Roles
	nodeID string
}

// Key is the node's: one departure at a time for each.
func (e departure) Key() string { return "leave-raft/" + e.nodeID }

// Do returns when the node has left or is to stay. While it cannot leave it waits for raft to
// change, and tells why in the node's status.
func (e departure) Do(ctx context.Context, s *store.Store) error {
	told := ""
	for !mayBeMember(s.Read(), e.nodeID) {
		changed := e.roles.Raft.Changed()
		err := e.roles.remove(ctx, e.nodeID)
		if err == nil {
			return e.settle(ctx, s)
		}
		if model.KindOf(err) != model.Precondition {
			return err
		}
		if why := err.Error(); why != told {
			told = why
			e.roles.Log.Warn("a manager that is to leave has to stay", "node.id", e.nodeID, "error", err)
		}
		if err := e.tell(ctx, s, demotionWaits+told); err != nil { // a new session of the node takes it away
			return err
		}
		if !await(ctx, changed) {
			return ctx.Err()
		}
	}
	return e.tell(ctx, s, "")
}

// settle makes a node that has left a worker.
func (e departure) settle(ctx context.Context, s *store.Store) error {
	return s.Update(ctx, func(tx *store.Tx) error {
		n, ok := tx.Nodes.Get(e.nodeID)
		if !ok || mayBeMember(tx.Snapshot, e.nodeID) || n.GetRole() == api.NodeRole_WORKER {
			return nil
		}
		n = model.Shallow(n)
		n.Role = api.NodeRole_WORKER
		n.Status = withMessage(n.GetStatus(), "")
		return tx.Update(n)
	})
}

// tell says in the node's status why it waits, or takes that back.
func (e departure) tell(ctx context.Context, s *store.Store, message string) error {
	return s.Update(ctx, func(tx *store.Tx) error {
		n, ok := tx.Nodes.Get(e.nodeID)
		if !ok || n.GetStatus().GetMessage() == message || message == "" && !waiting(n.GetStatus()) {
			return nil
		}
		n = model.Shallow(n)
		n.Status = withMessage(n.GetStatus(), message)
		return tx.Update(n)
	})
}

func waiting(s *api.NodeStatus) bool { return strings.HasPrefix(s.GetMessage(), demotionWaits) }

// withMessage returns a copy of s with a message; with none, one that told of waiting goes.
func withMessage(s *api.NodeStatus, message string) *api.NodeStatus {
	if message == "" && !waiting(s) {
		return s
	}
	is := &api.NodeStatus{}
	if s != nil {
		is = model.Shallow(s)
	}
	is.Message = message
	return is
}

// remove takes a node out of raft; nil means that it is no member. This member itself hands over
// instead, and does not return nil: who leads next goes on.
func (r Roles) remove(ctx context.Context, nodeID string) error {
	members, learners := r.Raft.Members(), slices.Clip(r.Raft.Learners())
	for _, m := range members {
		if m.GetNodeId() != nodeID {
			continue
		}
		q := model.QuorumWithout(members, append(learners, m.GetRaftId())...)
		if q.Left == 0 {
			return model.Errorf(model.Precondition, "node %s is the last manager, without which nobody would lead the swarm; promote another node", nodeID)
		}
		if !q.Holds() {
			return model.Errorf(model.Precondition, "without node %s %d of %d managers would be reachable, which could not agree on anything; bring the others back, or promote another node", nodeID, q.Reachable, q.Left)
		}
		ctx, cancel := context.WithTimeout(ctx, removalTimeout)
		defer cancel()
		if m.GetRaftId() == r.Raft.ID() {
			if err := r.Raft.TransferLeadership(ctx, 0); err != nil {
				return err
			}
			return model.Errorf(model.Unavailable, "node %s is to leave raft and led it: it has handed over, and the next leader takes it out", nodeID)
		}
		if err := r.Raft.RemoveMember(ctx, m.GetRaftId()); err != nil {
			return err
		}
	}
	return nil
}

// eviction is the effect that begins the departure of every member that has no business in raft:
// while nobody led, or between a check and a join, its node was removed or demoted.
type eviction struct{ roles Roles }

// Key is one for all.
func (eviction) Key() string { return "leave-raft" }

// Do takes out what has no node, or one that is and is to be a worker. Those that still are
// managers have a departure of their own. One that has to stay keeps no other.
func (e eviction) Do(ctx context.Context, s *store.Store) error {
	var failed []error
	for _, m := range e.roles.Raft.Members() {
		n, ok := s.Read().Nodes.Get(m.GetNodeId())
		if ok && (n.GetRole() == api.NodeRole_MANAGER || n.GetSpec().GetDesiredRole() == api.NodeRole_MANAGER) {
			continue
		}
		if err := e.roles.remove(ctx, m.GetNodeId()); err != nil {
			failed = append(failed, fmt.Errorf("put out node %s: %w", m.GetNodeId(), err))
			continue
		}
		e.roles.Log.Info("member of raft put out: its node is no manager of this swarm", "node.id", m.GetNodeId())
	}
	return errors.Join(failed...)
}

// await returns true when changed is closed or it is time to look again, false when ctx ends.
func await(ctx context.Context, changed <-chan struct{}) bool {
	timer := time.NewTimer(lookAgain)
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-ctx.Done():
		return false
	}
	return true
}
