package store_test

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"skep/api"
	"skep/store"
)

func TestEntriesAreTheContractsOwnMessages(t *testing.T) {
	t.Parallel()
	s, log := held(store.Config{})
	objects := oneOfEach()
	for _, o := range objects {
		o.ProtoReflect().SetUnknown([]byte{0xf8, 0x07, 1}) // field 127, which a newer manager may know
	}
	propose(t, s, create(objects...))
	propose(t, s, func(tx *store.Tx) error {
		for _, o := range objects {
			if err := tx.Delete(o); err != nil {
				return err
			}
		}
		return nil
	})
	created, removed := decode(t, log.pop()), decode(t, log.pop())
	if len(created) != len(objects) || len(removed) != len(objects) {
		t.Fatalf("got %d and %d actions, want %d of each", len(created), len(removed), len(objects))
	}
	for i, o := range objects {
		if got := target(created[i]); created[i].Action != api.StoreActionKind_STORE_ACTION_CREATE || !proto.Equal(got, o) {
			t.Errorf("got %v of %v, want the creation of %v", created[i].Action, got, o)
		}
		got := target(removed[i])
		if removed[i].Action != api.StoreActionKind_STORE_ACTION_REMOVE || got.GetId() != o.GetId() || got.GetMeta() != nil {
			t.Errorf("got %v of %v, want the removal of %s by its ID alone", removed[i].Action, got, o.GetId())
		}
	}
}

func decode(t testing.TB, data []byte) []*api.StoreAction {
	t.Helper()
	var req api.InternalRaftRequest
	must(t, proto.Unmarshal(data, &req))
	return req.Action
}

func target(a *api.StoreAction) store.Object {
	m := a.ProtoReflect()
	field := m.WhichOneof(m.Descriptor().Oneofs().ByName("target"))
	return m.Get(field).Message().Interface().(store.Object)
}

// The other direction: what a stock manager encodes, a task's spec in the
// middle of it and a field that nobody here knows at the end.
func TestTheContractsOwnMessagesAreApplied(t *testing.T) {
	t.Parallel()
	s := store.New(store.Config{})
	var actions []*api.StoreAction
	objects := oneOfEach()
	for _, o := range objects {
		o.ProtoReflect().SetUnknown([]byte{0xf8, 0x07, 1})
		a := &api.StoreAction{Action: api.StoreActionKind_STORE_ACTION_CREATE}
		name := protoreflect.Name(store.KindOf(o).String())
		a.ProtoReflect().Set(a.ProtoReflect().Descriptor().Fields().ByName(name), protoreflect.ValueOfMessage(o.ProtoReflect()))
		actions = append(actions, a)
	}
	_, sub := s.Subscribe(len(objects), store.AllKey())
	must(t, s.Apply(1, 1, entry(t, actions...)))
	commits, _ := sub.Take()
	for i, o := range objects {
		if got := commits[0].Changes[i].New; !proto.Equal(got, o) {
			t.Errorf("got %v, want %v", got, o)
		}
	}
}
