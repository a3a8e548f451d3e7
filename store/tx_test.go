package store_test

import (
	"testing"
	"time"

	"skep/api"
	"skep/model"
	"skep/store"
)

func service(id, name string) *api.Service {
	return &api.Service{Id: id, Spec: &api.ServiceSpec{Annotations: &api.Annotations{Name: name}, Task: &api.TaskSpec{}}}
}

func task(id, serviceID, nodeID string, slot uint64) *api.Task {
	return &api.Task{Id: id, ServiceId: serviceID, NodeId: nodeID, Slot: slot, Spec: &api.TaskSpec{}, Status: &api.TaskStatus{}}
}

func create(objects ...store.Object) func(*store.Tx) error {
	return func(tx *store.Tx) error {
		for _, o := range objects {
			if err := tx.Create(o); err != nil {
				return err
			}
		}
		return nil
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantKind(t testing.TB, err error, kind model.Kind) {
	t.Helper()
	if err == nil || model.KindOf(err) != kind {
		t.Fatalf("got error %v of kind %d, want kind %d", err, model.KindOf(err), kind)
	}
}

func TestATransactionSeesItsOwnWrites(t *testing.T) {
	t.Parallel()
	s := store.NewLocal(store.Config{})
	must(t, s.Update(t.Context(), func(tx *store.Tx) error {
		must(t, tx.Create(service("s1", "web")))
		if _, ok := tx.Services.Named("WEB"); !ok {
			t.Error("the transaction does not find what it created by name")
		}
		return tx.Create(task("t1", "s1", "n1", 1))
	}))
	n := 0
	for range s.Read().TasksOf("s1") {
		n++
	}
	if n != 1 {
		t.Errorf("TasksOf yields %d tasks, want 1", n)
	}
}

func TestNamesAreUniqueWhateverTheirCase(t *testing.T) {
	t.Parallel()
	s := store.NewLocal(store.Config{})
	must(t, s.Update(t.Context(), create(service("s1", "Web"))))
	wantKind(t, s.Update(t.Context(), create(service("s2", "wEB"))), model.Exists)
	must(t, s.Update(t.Context(), func(tx *store.Tx) error { return tx.Remove(store.KindService, "s1") }))
	must(t, s.Update(t.Context(), create(service("s2", "wEB"))))
}

func TestEditRefusesAnotherVersion(t *testing.T) {
	t.Parallel()
	s := store.NewLocal(store.Config{})
	must(t, s.Update(t.Context(), create(service("s1", "web"))))
	rename := func(name string) func(*api.Service) error {
		return func(v *api.Service) error {
			v.Spec = &api.ServiceSpec{Annotations: &api.Annotations{Name: name}}
			return nil
		}
	}
	first, _ := store.Get[*api.Service](s.Read(), "s1")
	second, err := store.Edit(t.Context(), s, "s1", first.Meta.Version, rename("shop"))
	must(t, err)
	if second.Meta.Version.Index <= first.Meta.Version.Index {
		t.Errorf("version went from %v to %v", first.Meta.Version, second.Meta.Version)
	}
	_, err = store.Edit(t.Context(), s, "s1", first.Meta.Version, rename("store"))
	wantKind(t, err, model.Conflict)
	_, err = store.Edit(t.Context(), s, "s2", nil, rename("store"))
	wantKind(t, err, model.NotFound)
}

func TestAnEqualObjectIsNoWrite(t *testing.T) {
	t.Parallel()
	s := store.NewLocal(store.Config{})
	must(t, s.Update(t.Context(), create(service("s1", "web"))))
	before := s.Read()
	_, err := store.Edit(t.Context(), s, "s1", nil, func(*api.Service) error { return nil })
	must(t, err)
	if s.Read() != before {
		t.Error("an edit that changed nothing made a new state")
	}
}

func TestATransactionThatHasEndedTakesNoMoreWrites(t *testing.T) {
	t.Parallel()
	s := store.NewLocal(store.Config{})
	var leaked *store.Tx
	must(t, s.Update(t.Context(), func(tx *store.Tx) error {
		leaked = tx
		return tx.Create(service("s1", "web"))
	}))
	defer func() {
		if recover() == nil || s.Read().Services.Len() != 1 {
			t.Error("the write was taken")
		}
	}()
	_ = leaked.Create(service("s2", "shop"))
}

func TestATransactionThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	s := store.NewLocal(store.Config{})
	must(t, s.Update(t.Context(), create(service("s1", "web"))))
	before, _ := s.Read().Hash()
	err := s.Update(t.Context(), func(tx *store.Tx) error {
		must(t, tx.Create(task("t1", "s1", "n1", 1)))
		must(t, tx.Remove(store.KindService, "s1"))
		return tx.Remove(store.KindService, "s1")
	})
	wantKind(t, err, model.NotFound)
	after, _ := s.Proposed().Hash()
	if before != after || s.Read() != s.Proposed() {
		t.Error("the failed transaction left something behind")
	}
}

func TestTimesAreStampedOnceAndOnEachWrite(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	s := store.NewLocal(store.Config{Now: func() time.Time { now = now.Add(time.Second); return now }})
	must(t, s.Update(t.Context(), create(service("s1", "web"))))
	v, err := store.Edit(t.Context(), s, "s1", nil, func(v *api.Service) error { v.PendingDelete = true; return nil })
	must(t, err)
	if got := v.Meta.UpdatedAt.AsTime().Sub(v.Meta.CreatedAt.AsTime()); got != time.Second {
		t.Errorf("it was updated %v after it was created, want 1s", got)
	}
}
