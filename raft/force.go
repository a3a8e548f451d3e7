package raft

import (
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/model"
	"skep/raft/wal"
)

// forceNew makes this member the only one of its group, for when most of the others are gone for
// good: the log says from here on that all of it is committed and that they are removed. That
// is one write: a crash leaves the log as it was, or with all of it.
//
// Entries of which the log does not say that they are committed stay: how far that is reaches
// the disk later than the entries do, so what was acknowledged may be among them.
func (n *Node) forceNew(before *membership, found *wal.Recovered) error {
	m, err := replay(before, found.Entries)
	if err != nil {
		return err
	}
	self := m.find(n.id)
	if self == nil {
		return model.Errorf(model.Precondition,
			"force a new cluster: the raft log in %s does not have this member in the group (raft id %x): it was removed, or never got the state; use the state directory of another manager", n.cfg.Dir, n.id)
	}
	changes, err := n.alone(m, self)
	if err != nil || len(changes) == 0 {
		return err
	}
	// A term that nobody else leads in.
	state := wal.HardState{Term: found.State.Term + 1, Vote: n.id}
	entries := make([]*raftpb.Entry, len(changes))
	for i, cc := range changes {
		data, err := proto.Marshal(cc)
		if err != nil {
			return fmt.Errorf("encode a change of members: %w", err)
		}
		state.Commit = found.LastIndex + 1 + uint64(i)
		entries[i] = &raftpb.Entry{Index: new(state.Commit), Term: new(state.Term), Type: raftpb.EntryConfChange.Enum(), Data: data}
	}
	n.log.Append(&state, entries)
	if _, err := n.log.Flush(); err != nil {
		return fmt.Errorf("force a new cluster: %w", err)
	}
	n.cfg.Log.Warn("this manager is forced to be the only one; the others are removed from the group and must join anew",
		"raft.id", n.id, "removed", len(m.members)-1, "raft.index", found.LastIndex, "committed", found.State.Commit)
	found.State, found.Entries = state, append(found.Entries, entries...)
	found.LastIndex, found.LastTerm = state.Commit, state.Term
	return nil
}

// alone returns the changes after which this member alone is in the group, votes, and is where
// the configuration says.
func (n *Node) alone(m *membership, self *api.RaftMember) ([]*raftpb.ConfChange, error) {
	var changes []*raftpb.ConfChange
	addr := self.GetAddr()
	if n.cfg.Addr != "" {
		addr = n.cfg.Addr
	}
	typ := raftpb.ConfChangeUpdateNode
	if !m.voter(n.id) {
		typ = raftpb.ConfChangeAddNode
	}
	if typ == raftpb.ConfChangeAddNode || addr != self.GetAddr() {
		cc, err := changeTo(typ, &api.RaftMember{RaftId: n.id, NodeId: self.GetNodeId(), Addr: addr})
		if err != nil {
			return nil, err
		}
		changes = append(changes, cc)
	}
	for _, other := range m.members {
		if id := other.GetRaftId(); id != n.id {
			changes = append(changes, &raftpb.ConfChange{Type: raftpb.ConfChangeRemoveNode.Enum(), NodeId: &id})
		}
	}
	return changes, nil
}

// replay returns the membership after entries.
func replay(before *membership, entries []*raftpb.Entry) (*membership, error) {
	m := before
	for _, e := range entries {
		if e.GetType() != raftpb.EntryConfChange {
			continue
		}
		cc := &raftpb.ConfChange{}
		if err := proto.Unmarshal(e.GetData(), cc); err != nil {
			return nil, fmt.Errorf("read the change of members in entry %d of the raft log: %w", e.GetIndex(), err)
		}
		if m.refuses(cc) {
			continue
		}
		next, err := m.apply(cc, confAfter(m.conf, cc))
		if err != nil {
			return nil, err
		}
		m = &next
	}
	return m, nil
}

// confAfter returns what raft makes of a change.
func confAfter(conf *raftpb.ConfState, cc *raftpb.ConfChange) *raftpb.ConfState {
	id := cc.GetNodeId()
	without := func(ids []uint64) []uint64 {
		return slices.DeleteFunc(slices.Clone(ids), func(o uint64) bool { return o == id })
	}
	next := &raftpb.ConfState{Voters: conf.GetVoters(), Learners: conf.GetLearners()}
	switch cc.GetType() {
	case raftpb.ConfChangeUpdateNode:
	case raftpb.ConfChangeAddNode:
		next.Voters, next.Learners = append(without(conf.GetVoters()), id), without(conf.GetLearners())
	case raftpb.ConfChangeAddLearnerNode:
		next.Voters, next.Learners = without(conf.GetVoters()), append(without(conf.GetLearners()), id)
	default:
		next.Voters, next.Learners = without(conf.GetVoters()), without(conf.GetLearners())
	}
	return next
}
