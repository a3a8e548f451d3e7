package store_test

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"skep/api"
	"skep/internal/badinput"
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
	must(t, s.Apply(store.Entry{Index: 1, Term: 1, Data: entry(t, actions...)}))
	commits, _ := sub.Take()
	for i, o := range objects {
		if got := commits[0].Changes[i].New; !proto.Equal(got, o) {
			t.Errorf("got %v, want %v", got, o)
		}
	}
}

// Every field of a task, those that come one day too, survives the log and a
// saved state.
func TestEveryFieldOfATaskIsEncoded(t *testing.T) {
	t.Parallel()
	full := &api.Task{}
	fill(full.ProtoReflect(), 3)
	full.Id = "t1"
	s, log := held(store.Config{})
	propose(t, s, create(full, task("t2", "", "", 0))) // the second must not inherit from the first
	applied, restored := store.New(store.Config{}), store.New(store.Config{})
	must(t, applied.Apply(store.Entry{Index: 1, Term: 1, Data: log.pop()}))
	must(t, restored.Restore(bytes.NewReader(saved(t, applied.Read()))))
	for name, s := range map[string]*store.Store{"applied": applied, "restored": restored} {
		if got := mustGet(t, s, "t1"); !proto.Equal(got, full) {
			t.Errorf("%s: got %v, want %v", name, got, full)
		}
		if k := mustGet(t, s, "t2"); k.Endpoint != nil || len(k.Volumes) > 0 || len(k.ProtoReflect().GetUnknown()) > 0 {
			t.Errorf("%s: the second task is %v", name, k)
		}
	}
}

func mustGet(t testing.TB, s *store.Store, id string) *api.Task {
	t.Helper()
	k, ok := s.Read().Tasks.Get(id)
	if !ok {
		t.Fatalf("there is no task %s", id)
	}
	return k
}

// fill sets every field of m, messages to the given depth, and one that nobody knows.
func fill(m protoreflect.Message, depth int) {
	badinput.Fill(m, depth, "x")
	m.SetUnknown([]byte{0xf8, 0x07, 1})
}
