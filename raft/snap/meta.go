package snap

import (
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"skep/api"
)

// Meta is what raft must know of a snapshot.
type Meta struct {
	// Index and Term are those of the last entry in it.
	Index, Term uint64
	// Conf, Members and Removed are the membership as of that entry.
	Conf    *raftpb.ConfState
	Members []*api.RaftMember
	Removed []uint64
	// ID and Owner are the raft id and the node id of the member that wrote it.
	ID    uint64
	Owner string
	// Received says that the state came from another member: the log may end before it.
	Received bool
}

// The fields of an encoded Meta, in protobuf's wire format.
const (
	fieldRaft       = 1 // raftpb.SnapshotMetadata
	fieldMembership = 2 // docker.swarmkit.v1.ClusterSnapshot
	fieldID         = 3
	fieldOwner      = 4
	fieldReceived   = 5
)

func (m Meta) marshal() ([]byte, error) {
	raft, err := proto.Marshal(&raftpb.SnapshotMetadata{Index: &m.Index, Term: &m.Term, ConfState: m.Conf})
	if err != nil {
		return nil, fmt.Errorf("encode a snapshot's metadata: %w", err)
	}
	membership, err := proto.Marshal(&api.ClusterSnapshot{Members: m.Members, Removed: m.Removed})
	if err != nil {
		return nil, fmt.Errorf("encode a snapshot's membership: %w", err)
	}
	b := protowire.AppendTag(nil, fieldRaft, protowire.BytesType)
	b = protowire.AppendBytes(b, raft)
	b = protowire.AppendTag(b, fieldMembership, protowire.BytesType)
	b = protowire.AppendBytes(b, membership)
	b = protowire.AppendTag(b, fieldID, protowire.VarintType)
	b = protowire.AppendVarint(b, m.ID)
	b = protowire.AppendTag(b, fieldOwner, protowire.BytesType)
	b = protowire.AppendString(b, m.Owner)
	if m.Received {
		b = protowire.AppendTag(b, fieldReceived, protowire.VarintType)
		b = protowire.AppendVarint(b, 1)
	}
	return b, nil
}

func (m *Meta) unmarshal(b []byte) error {
	raft, membership := &raftpb.SnapshotMetadata{}, &api.ClusterSnapshot{}
	for len(b) > 0 {
		field, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		switch {
		case field == fieldID && typ == protowire.VarintType:
			m.ID, n = protowire.ConsumeVarint(b)
		case field == fieldReceived && typ == protowire.VarintType:
			var is uint64
			is, n = protowire.ConsumeVarint(b)
			m.Received = is != 0
		case typ == protowire.BytesType:
			var value []byte
			value, n = protowire.ConsumeBytes(b)
			var err error
			switch field {
			case fieldRaft:
				err = proto.Unmarshal(value, raft)
			case fieldMembership:
				err = proto.Unmarshal(value, membership)
			case fieldOwner:
				m.Owner = string(value)
			}
			if err != nil {
				return err
			}
		default:
			n = protowire.ConsumeFieldValue(field, typ, b)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
	}
	m.Index, m.Term, m.Conf = raft.GetIndex(), raft.GetTerm(), raftpb.EnsureConfState(raft.GetConfState())
	m.Members, m.Removed = membership.GetMembers(), membership.GetRemoved()
	return nil
}
