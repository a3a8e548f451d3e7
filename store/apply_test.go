package store_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"skep/api"
	"skep/model"
	"skep/store"
)

// history is the log of a leader that made, changed and removed tasks of two services, large
// enough that more than one goroutine decodes it.
func history(t *testing.T) []store.Entry {
	t.Helper()
	s, log := held(store.Config{})
	var entries []store.Entry
	random := rand.New(rand.NewPCG(1, 2))
	write := func(f func(*store.Tx) error) {
		propose(t, s, f)
		for log.len() > 0 {
			e := store.Entry{Index: log.next(), Term: 1, Data: log.pop()}
			entries = append(entries, e)
			must(t, s.Apply(e))
		}
	}
	services := []*api.Service{service("s0", "web"), service("s1", "db")}
	for i := range 600 {
		write(func(tx *store.Tx) error {
			if i%300 == 0 {
				must(t, tx.Create(services[i/300]))
			}
			for n := range 3 {
				v := services[random.IntN(i/300+1)]
				k := task(fmt.Sprintf("t%d.%d", i, n), v.Id, fmt.Sprint("n", random.IntN(9)), uint64(random.IntN(50)))
				k.Spec, k.ServiceAnnotations = v.Spec.Task, v.Spec.Annotations
				k.Annotations = &api.Annotations{Name: strings.Repeat("x", 300)}
				must(t, tx.Create(k))
			}
			for _, id := range []string{fmt.Sprint("t", random.IntN(i+1), ".0"), fmt.Sprint("t", random.IntN(i+1), ".1")} {
				old, ok := tx.Tasks.Get(id)
				switch {
				case !ok:
				case random.IntN(4) == 0:
					must(t, tx.Remove(store.KindTask, id))
				default:
					k := model.Shallow(old)
					k.Status = &api.TaskStatus{State: api.TaskState_RUNNING, Message: fmt.Sprint("at ", i)}
					k.Slot = uint64(random.IntN(50))
					must(t, tx.Update(k))
				}
			}
			return nil
		})
	}
	return entries
}

func TestEntriesThatComeTogetherLeadWhereTheyLeadOneByOne(t *testing.T) {
	t.Parallel()
	entries := history(t)
	apply := func(sizes ...int) (*store.Store, []store.Commit) {
		s := store.New(store.Config{Freeze: true})
		_, sub := s.Subscribe(1<<20, store.AllKey())
		for left, i := entries, 0; len(left) > 0; i++ {
			n := min(sizes[i%len(sizes)], len(left))
			must(t, s.Apply(left[:n]...))
			s.Applied(left[n-1].Index, 1)
			left = left[n:]
		}
		s.CheckFrozen()
		commits, resync := sub.Take()
		if resync {
			t.Fatal("the subscriber was told to resync")
		}
		return s, commits
	}
	want, wantCommits := apply(1)
	for name, sizes := range map[string][]int{"all": {len(entries)}, "some": {1, 70, 3, 200}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, commits := apply(sizes...)
			got := s.Read()
			if hash(t, got) != hash(t, want.Read()) || got.Version() != want.Read().Version() || s.AppliedIndex() != want.AppliedIndex() {
				t.Error("it leads to another state")
			}
			if !slices.EqualFunc(ids(commits), ids(wantCommits), slices.Equal) {
				t.Error("subscribers get other changes")
			}
			for i, c := range commits {
				if c.Index != wantCommits[i].Index || c.Version != wantCommits[i].Version {
					t.Errorf("a commit is version %d of entry %d, want version %d of entry %d", c.Version, c.Index, wantCommits[i].Version, wantCommits[i].Index)
				}
			}
			for slot := range uint64(50) {
				if a, b := count(got.TasksInSlot("s0", slot)), count(want.Read().TasksInSlot("s0", slot)); a != b {
					t.Errorf("%d tasks are in slot %d, want %d", a, slot, b)
				}
			}
		})
	}
}

// What is looked up in a restored state, and how it goes on from there, is as if it had been
// applied: the tables are made in another way.
func TestARestoredStateGoesOnAsTheOneThatWasSaved(t *testing.T) {
	t.Parallel()
	entries := history(t)
	applied, restored := store.New(store.Config{}), store.New(store.Config{})
	half := len(entries) / 2
	must(t, applied.Apply(entries[:half]...))
	must(t, restored.Restore(bytes.NewReader(saved(t, applied.Read()))))
	for _, s := range []*store.Store{applied, restored} {
		must(t, s.Apply(entries[half:]...))
	}
	a, b := applied.Read(), restored.Read()
	if hash(t, a) != hash(t, b) {
		t.Error("it leads to another state")
	}
	in := func(tasks func(func(*api.Task) bool)) (out []string) {
		for k := range tasks {
			out = append(out, k.Id)
		}
		return out
	}
	for i := range uint64(50) {
		for name, got := range map[string][2][]string{
			"slot":    {in(a.TasksInSlot("s0", i)), in(b.TasksInSlot("s0", i))},
			"node":    {in(a.TasksOn(fmt.Sprint("n", i))), in(b.TasksOn(fmt.Sprint("n", i)))},
			"service": {in(a.TasksOf(fmt.Sprint("s", i))), in(b.TasksOf(fmt.Sprint("s", i)))},
		} {
			if !slices.Equal(got[0], got[1]) {
				t.Errorf("%s %d has the tasks %v after a restore, and %v without", name, i, got[1], got[0])
			}
		}
	}
	if !slices.Equal(in(a.Tasks.All()), in(b.Tasks.All())) {
		t.Error("the tasks are in another order")
	}
}

func TestTheFirstBadEntryOfManyEndsTheApplying(t *testing.T) {
	t.Parallel()
	entries := slices.Clone(history(t))
	bad := len(entries) - 5
	entries[bad].Data = append(bytes.Clone(entries[bad].Data), 0xff)
	s := store.New(store.Config{})
	err := s.Apply(entries...)
	if want := fmt.Sprintf("apply entry %d of term 1", entries[bad].Index); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want an error with %q", err, want)
	}
	if got := s.AppliedIndex(); got >= entries[bad].Index {
		t.Errorf("entry %d is applied, and %d is bad", got, entries[bad].Index)
	}
}
