package store_test

import (
	"context"
	"iter"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"skep/store"
	"skep/store/storetest"
)

// After any history a look-up yields what a scan of all objects does.
func TestLookUpsAgreeWithTheObjects(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := store.NewLocal(store.Config{Freeze: true})
		for range rapid.IntRange(1, 10).Draw(t, "transactions") {
			if err := s.Update(context.Background(), func(tx *store.Tx) error {
				for range rapid.IntRange(1, 8).Draw(t, "writes") {
					storetest.AnyWrite(t, tx)
					checkLookUps(t, tx.Snapshot)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		checkLookUps(t, s.Read())
	})
}

func checkLookUps(t *rapid.T, s *store.Snapshot) {
	type place struct {
		service string
		slot    uint64
	}
	of, on, in := map[string][]string{}, map[string][]string{}, map[place][]string{}
	for k := range s.Tasks.All() {
		of[k.ServiceId] = append(of[k.ServiceId], k.Id)
		on[k.NodeId] = append(on[k.NodeId], k.Id)
		in[place{k.ServiceId, k.Slot}] = append(in[place{k.ServiceId, k.Slot}], k.Id)
	}
	for _, id := range []string{"service1", "service2", "service3"} {
		sameIDs(t, "TasksOf "+id, s.TasksOf(id), of[id])
		for slot := range uint64(4) {
			sameIDs(t, "TasksInSlot "+id, s.TasksInSlot(id, slot), in[place{id, slot}])
		}
	}
	for _, id := range []string{"node1", "node2", "node3", "node4"} {
		sameIDs(t, "TasksOn "+id, s.TasksOn(id), on[id])
	}
	using := map[string]map[string]bool{"secret1": {}, "secret2": {}}
	for v := range s.Services.All() {
		if got, ok := s.Services.Named("THE " + v.Id); !ok || got != v {
			t.Fatalf("service %s is not found by its name", v.Id)
		}
		for _, r := range v.Spec.Task.ResourceReferences {
			using[r.ResourceId][v.Id] = true
		}
	}
	for id, want := range using {
		sameIDs(t, "ServicesUsingSecret "+id, s.ServicesUsingSecret(id), slices.Collect(maps.Keys(want)))
	}
}

func sameIDs[T store.Object](t *rapid.T, what string, seq iter.Seq[T], want []string) {
	var got []string
	for o := range seq {
		got = append(got, o.GetId())
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("%s yields %q, want %q", what, got, want)
	}
}

func TestWritingWhileReadingSeesTheStateAsItWasWhenTheReadBegan(t *testing.T) {
	t.Parallel()
	s := store.NewLocal(store.Config{})
	must(t, s.Update(t.Context(), func(tx *store.Tx) error {
		for i := range 200 {
			must(t, tx.Create(task(string(rune('a'+i%26))+string(rune('a'+i/26)), "s1", "n1", uint64(i))))
		}
		seen := 0
		for k := range tx.TasksOf("s1") {
			seen++
			must(t, tx.Create(task("copy of "+k.Id, "s1", "n2", k.Slot)))
			must(t, tx.Delete(k))
		}
		if seen != 200 {
			t.Errorf("the loop saw %d tasks, want the 200 that were there", seen)
		}
		for k := range tx.Tasks.All() {
			if _, ok := tx.Tasks.Get(k.Id); !ok {
				t.Errorf("%s was removed and is yielded", k.Id)
			}
			must(t, move(k.Id, "n3")(tx))
		}
		return nil
	}))
	if got := count(s.Read().TasksOn("n3")); got != 200 {
		t.Errorf("there are %d tasks on n3, want 200", got)
	}
}
