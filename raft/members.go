package raft

import (
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"skep/api"
)

// membership is who is in the group: raft's side of it, and who they are. It is a value:
// a change makes a new one.
type membership struct {
	conf    *raftpb.ConfState
	members []*api.RaftMember // by id
	removed []uint64          // ids that must never come back
}

// find returns the member with an id, or nil.
func (m *membership) find(id uint64) *api.RaftMember {
	for _, member := range m.members {
		if member.GetRaftId() == id {
			return member
		}
	}
	return nil
}

// voter reports whether id takes part in decisions.
func (m *membership) voter(id uint64) bool { return slices.Contains(m.conf.GetVoters(), id) }

// refuses reports whether a change must not be made: every member decides that alike when
// it applies it.
func (m *membership) refuses(cc *raftpb.ConfChange) bool {
	id := cc.GetNodeId()
	switch cc.GetType() {
	case raftpb.ConfChangeRemoveNode:
		return m.onlyVoter(id)
	case raftpb.ConfChangeUpdateNode:
		return m.find(id) == nil
	default:
		return slices.Contains(m.removed, id)
	}
}

// onlyVoter reports whether id alone decides.
func (m *membership) onlyVoter(id uint64) bool {
	return len(m.conf.GetVoters()) == 1 && m.conf.GetVoters()[0] == id && len(m.conf.GetVotersOutgoing()) == 0
}

// apply returns the membership after a change that led to conf.
func (m *membership) apply(cc *raftpb.ConfChange, conf *raftpb.ConfState) (membership, error) {
	id := cc.GetNodeId()
	members := slices.DeleteFunc(slices.Clone(m.members), func(o *api.RaftMember) bool { return o.GetRaftId() == id })
	removed := m.removed
	if cc.GetType() == raftpb.ConfChangeRemoveNode {
		if !slices.Contains(removed, id) {
			removed = append(slices.Clone(removed), id)
		}
	} else {
		member := &api.RaftMember{}
		if err := proto.Unmarshal(cc.GetContext(), member); err != nil {
			return *m, fmt.Errorf("read the new member %x: %w", id, err)
		}
		member.RaftId = id
		members = append(members, member)
		slices.SortFunc(members, func(a, b *api.RaftMember) int {
			if a.GetRaftId() < b.GetRaftId() {
				return -1
			}
			return 1
		})
	}
	return membership{conf: conf, members: members, removed: removed}, nil
}

// firstEntry is the entry that makes a group: it adds its first member.
func firstEntry(id uint64, nodeID, addr string) (*raftpb.Entry, error) {
	member, err := proto.Marshal(&api.RaftMember{RaftId: id, NodeId: nodeID, Addr: addr})
	if err != nil {
		return nil, fmt.Errorf("encode the first member: %w", err)
	}
	cc, err := proto.Marshal(&raftpb.ConfChange{
		Type: raftpb.ConfChangeAddNode.Enum(), NodeId: &id, Context: member,
	})
	if err != nil {
		return nil, fmt.Errorf("encode the first member: %w", err)
	}
	return &raftpb.Entry{Index: new(uint64(1)), Term: new(uint64(1)), Type: raftpb.EntryConfChange.Enum(), Data: cc}, nil
}
