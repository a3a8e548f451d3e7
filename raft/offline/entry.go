package offline

import (
	"fmt"
	"iter"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/store"
)

// Entry is what an entry of the log says, without secrets. Both are nil in the empty entry
// that a leader begins with.
type Entry struct {
	// Change is a change of membership, Member who is added or changed.
	Change *raftpb.ConfChange
	Member *api.RaftMember
	// Request is a transaction.
	Request *api.InternalRaftRequest
}

// Decode returns what an entry says.
func Decode(e *raftpb.Entry) (Entry, error) {
	var out Entry
	switch {
	case e.GetType() == raftpb.EntryConfChange:
		out.Change, out.Member = &raftpb.ConfChange{}, &api.RaftMember{}
		if err := proto.Unmarshal(e.GetData(), out.Change); err != nil {
			return Entry{}, fmt.Errorf("entry %d: it is no change of members: %w", e.GetIndex(), err)
		}
		if err := proto.Unmarshal(out.Change.GetContext(), out.Member); err != nil {
			return Entry{}, fmt.Errorf("entry %d: the member that it is about: %w", e.GetIndex(), err)
		}
	case e.GetType() != raftpb.EntryNormal:
		return Entry{}, fmt.Errorf("entry %d is of type %s, which no member of this group proposes", e.GetIndex(), e.GetType())
	case len(e.GetData()) > 0:
		out.Request = &api.InternalRaftRequest{}
		if err := proto.Unmarshal(e.GetData(), out.Request); err != nil {
			return Entry{}, fmt.Errorf("entry %d: it is no transaction: %w", e.GetIndex(), err)
		}
		Redact(out.Request)
	}
	return out, nil
}

// Target returns the object that an action is about, nil if it is of an unknown kind.
func Target(a *api.StoreAction) store.Object {
	m := a.ProtoReflect()
	field := m.WhichOneof(m.Descriptor().Oneofs().ByName("target"))
	if field == nil {
		return nil
	}
	o, ok := m.Get(field).Message().Interface().(store.Object)
	if !ok {
		return nil
	}
	return o
}

// Objects yields copies of the objects of a state, without secrets, in the order of kinds.
func Objects(s *store.Snapshot) iter.Seq[store.Object] {
	return func(yield func(store.Object) bool) {
		_ = each(s.Nodes, yield) && each(s.Services, yield) && each(s.Tasks, yield) &&
			each(s.Networks, yield) && each(s.Clusters, yield) && each(s.Secrets, yield) &&
			each(s.Configs, yield) && each(s.Volumes, yield) && each(s.Extensions, yield) &&
			each(s.Resources, yield)
	}
}

func each[T store.Object](t store.Table[T], yield func(store.Object) bool) bool {
	for o := range t.All() {
		shown := proto.CloneOf(o)
		Redact(shown)
		if !yield(shown) {
			return false
		}
	}
	return true
}
