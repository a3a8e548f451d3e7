package store_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"skep/api"
	"skep/model"
	"skep/store"
)

// ids returns the IDs of what changed, commit by commit.
func ids(commits []store.Commit) (out [][]string) {
	for _, c := range commits {
		var in []string
		for _, ch := range c.Changes {
			in = append(in, ch.ID())
		}
		out = append(out, in)
	}
	return out
}

func wantIDs(t testing.TB, commits []store.Commit, want ...string) {
	t.Helper()
	var got []string
	for _, in := range ids(commits) {
		got = append(got, strings.Join(in, " "))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got commits %q, want %q", got, want)
	}
}

func move(taskID, nodeID string) func(*store.Tx) error {
	return func(tx *store.Tx) error {
		old, _ := tx.Tasks.Get(taskID)
		next := model.Shallow(old)
		next.NodeId = nodeID
		return tx.Update(next)
	}
}

func TestASubscriptionGetsWhatConcernsItsKeys(t *testing.T) {
	t.Parallel()
	s := store.NewLocal(store.Config{Freeze: true})
	subs := map[string]*store.Subscription{}
	for name, key := range map[string]store.Key{
		"all": store.AllKey(), "services": store.KindKey(store.KindService), "task": store.ObjectKey(store.KindTask, "t1"),
		"node": store.NodeTasks("n1"), "service": store.ServiceTasks("s1"), "none": store.NodeTasks("n9"),
	} {
		_, subs[name] = s.Subscribe(100, key)
	}
	must(t, s.Update(t.Context(), create(service("s1", "web"))))
	must(t, s.Update(t.Context(), create(task("t1", "s1", "n1", 1), task("t2", "s2", "n1", 1), task("t3", "s1", "n2", 2))))
	must(t, s.Update(t.Context(), move("t1", "n2")))
	must(t, s.Update(t.Context(), move("t1", "n3")))
	must(t, s.Update(t.Context(), func(tx *store.Tx) error { return tx.Remove(store.KindTask, "t2") }))
	for name, want := range map[string][]string{
		"all":      {"s1", "t1 t2 t3", "t1", "t1", "t2"},
		"services": {"s1"},
		"task":     {"t1", "t1", "t1"},
		"node":     {"t1 t2", "t1", "t2"},
		"service":  {"t1 t3", "t1", "t1"},
		"none":     nil,
	} {
		t.Run(name, func(t *testing.T) {
			commits, resync := subs[name].Take()
			wantIDs(t, commits, want...)
			if resync {
				t.Error("it was told to resync")
			}
		})
	}
}

func TestAChangeComesOnceToASubscriptionOfManyKeys(t *testing.T) {
	t.Parallel()
	s := store.NewLocal(store.Config{})
	_, sub := s.Subscribe(100, store.NodeTasks("n1"), store.ServiceTasks("s1"), store.ObjectKey(store.KindTask, "t1"), store.NodeTasks("n1"))
	must(t, s.Update(t.Context(), create(task("t1", "s1", "n1", 1), task("t2", "s2", "n2", 1), task("t3", "s1", "n2", 1))))
	commits, _ := sub.Take()
	wantIDs(t, commits, "t1 t3")
}

func TestACommitSaysItsVersionAndItsIndex(t *testing.T) {
	t.Parallel()
	s, log := held(store.Config{})
	_, sub := s.Subscribe(100, store.AllKey())
	propose(t, s, create(service("s1", "web")))
	log.next()
	log.commit(t, s, 1)
	commits, _ := sub.Take()
	if len(commits) != 1 || commits[0].Version != 1 || commits[0].Index != 2 {
		t.Errorf("got %+v, want version 1 at index 2", commits)
	}
}

func TestNothingIsMissedBetweenASnapshotAndItsSubscription(t *testing.T) {
	t.Parallel()
	s := store.NewLocal(store.Config{})
	const writers, each = 4, 50
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				must(t, s.Update(t.Context(), create(task(fmt.Sprintf("t%d.%d", w, i), "s1", "n1", 1))))
			}
		})
	}
	for range 4 {
		wg.Go(func() {
			snapshot, sub := s.Subscribe(writers*each, store.NodeTasks("n1"))
			defer sub.Close()
			seen := map[string]bool{}
			for k := range snapshot.TasksOn("n1") {
				seen[k.Id] = true
			}
			for len(seen) < writers*each {
				<-sub.Ready()
				commits, resync := sub.Take()
				if resync {
					t.Error("it was told to resync")
					return
				}
				for _, c := range commits {
					for _, ch := range c.Changes {
						if seen[ch.ID()] {
							t.Errorf("%s came twice", ch.ID())
						}
						seen[ch.ID()] = true
					}
				}
			}
		})
	}
	wg.Wait()
}

func TestASlowSubscriptionIsToldToResyncAndHoldsNothing(t *testing.T) {
	t.Parallel()
	s := store.NewLocal(store.Config{})
	_, sub := s.Subscribe(2, store.AllKey())
	for i := range 5 {
		must(t, s.Update(t.Context(), create(task(fmt.Sprint("t", i), "", "", 0))))
	}
	<-sub.Ready()
	commits, resync := sub.Take()
	if len(commits) != 0 || !resync {
		t.Fatalf("got %d commits and resync %t, want none and true", len(commits), resync)
	}
	if n := sub.Resync().Tasks.Len(); n != 5 {
		t.Errorf("it resumes from a state with %d tasks, want 5", n)
	}
	must(t, s.Update(t.Context(), create(task("t5", "", "", 0))))
	commits, resync = sub.Take()
	wantIDs(t, commits, "t5")
	if resync {
		t.Error("it was told to resync again")
	}
}

func TestAReplacedStateIsAResync(t *testing.T) {
	t.Parallel()
	s := store.NewLocal(store.Config{})
	must(t, s.Update(t.Context(), create(task("t1", "", "", 0))))
	_, sub := s.Subscribe(10, store.NodeTasks("n1"))
	must(t, s.Restore(bytes.NewReader(saved(t, s.Read()))))
	<-sub.Ready()
	if _, resync := sub.Take(); !resync {
		t.Error("it was not told to resync")
	}
	_, _, err := s.Since(1, 10, store.AllKey())
	wantKind(t, err, model.Precondition)
}

func TestAClosedSubscriptionGetsNothing(t *testing.T) {
	t.Parallel()
	s := store.NewLocal(store.Config{})
	_, sub := s.Subscribe(10, store.AllKey())
	_, other := s.Subscribe(10, store.AllKey())
	sub.Close()
	must(t, s.Update(t.Context(), create(task("t1", "", "", 0))))
	if commits, _ := sub.Take(); len(commits) != 0 {
		t.Error("the closed one got a commit")
	}
	if commits, _ := other.Take(); len(commits) != 1 {
		t.Error("the other one did not")
	}
}

func TestAWatchResumesAfterAVersionOrAnIndex(t *testing.T) {
	t.Parallel()
	s, log := held(store.Config{HistoryEntries: 3})
	for i := range 5 {
		log.next() // so that indexes run ahead of versions: 2, 4, 6, 8, 10
		propose(t, s, create(task(fmt.Sprint("t", i), "", []string{"n1", "n2"}[i%2], 0)))
		log.commit(t, s, 1)
	}
	for _, c := range []struct {
		name string
		from uint64
		want []string
	}{
		{"from the oldest that is kept", 4, []string{"t2", "t3", "t4"}},
		{"from an entry's index", 6, []string{"t3", "t4"}},
		{"from a transaction's version", 5, []string{"t2", "t3", "t4"}},
		{"from now", 10, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			commits, sub, err := s.Since(c.from, 10, store.AllKey())
			must(t, err)
			defer sub.Close()
			wantIDs(t, commits, c.want...)
		})
	}
	commits, sub, err := s.Since(4, 10, store.NodeTasks("n1"))
	must(t, err)
	wantIDs(t, commits, "t2", "t4")
	propose(t, s, create(task("t5", "", "n1", 0), task("t6", "", "n2", 0)))
	log.commit(t, s, 1)
	commits, _ = sub.Take()
	wantIDs(t, commits, "t5")

	_, _, err = s.Since(3, 10, store.AllKey())
	wantKind(t, err, model.Precondition)
	if !strings.Contains(err.Error(), "list again") {
		t.Errorf("got %q, which does not say what to do", err)
	}
	_, _, err = s.Since(99, 10, store.AllKey())
	wantKind(t, err, model.Unavailable)
}

func TestTheHistoryIsBoundedByBytesToo(t *testing.T) {
	t.Parallel()
	s := store.NewLocal(store.Config{HistoryBytes: 1000})
	for i := range 10 {
		must(t, s.Update(t.Context(), create(&api.Config{Id: fmt.Sprint("c", i), Spec: &api.ConfigSpec{Data: make([]byte, 300)}})))
	}
	_, _, err := s.Since(6, 10, store.AllKey())
	wantKind(t, err, model.Precondition)
	commits, _, err := s.Since(8, 10, store.AllKey())
	must(t, err)
	wantIDs(t, commits, "c8", "c9")
}

// recorder notes what an observer is told.
type recorder struct{ told []string }

func (r *recorder) Changed(changes []store.Change) {
	for _, c := range changes {
		r.told = append(r.told, c.ID())
	}
}

func (r *recorder) Reset(s *store.Snapshot) {
	r.told = append(r.told, fmt.Sprintf("reset to %d tasks", s.Tasks.Len()))
}

func (r *recorder) want(t testing.TB, want ...string) {
	t.Helper()
	if !slices.Equal(r.told, want) {
		t.Errorf("the observer was told %q, want %q", r.told, want)
	}
	r.told = nil
}

func TestAnObserverFollowsTheProposedHead(t *testing.T) {
	t.Parallel()
	s, log := held(store.Config{})
	r, other := &recorder{}, &recorder{}
	stop := s.Observe(r)
	s.Observe(other)
	r.want(t, "reset to 0 tasks")
	propose(t, s, create(task("t1", "", "", 0)))
	r.want(t, "t1")
	propose(t, s, func(tx *store.Tx) error {
		tx.Silent(r)
		return tx.Create(task("t2", "", "", 0))
	})
	r.want(t)
	other.want(t, "reset to 0 tasks", "t1", "t2")
	log.commit(t, s, 1)
	r.want(t)
	s.Refused([][]byte{log.take(0)})
	r.want(t, "reset to 1 tasks")
	propose(t, s, create(task("t3", "", "", 0)))
	s.Follow()
	r.want(t, "t3", "reset to 1 tasks")
	stop()
	s.Lead(2)
	r.want(t)
	other.want(t, "reset to 1 tasks", "t3", "reset to 1 tasks", "reset to 1 tasks")
}

func TestAnObserverThatWasSilencedIsResetWhenTheTransactionFails(t *testing.T) {
	t.Parallel()
	s := store.NewLocal(store.Config{})
	r := &recorder{}
	s.Observe(r)
	err := s.Update(t.Context(), func(tx *store.Tx) error {
		tx.Silent(r)
		must(t, tx.Create(task("t1", "", "", 0)))
		if w := tx.Writes(); len(w) != 1 {
			t.Errorf("Writes returned %d changes, want 1", len(w))
		}
		if w := tx.Writes(); len(w) != 0 {
			t.Errorf("Writes returned %d changes again", len(w))
		}
		return context.Canceled
	})
	if err == nil {
		t.Error("the transaction did not fail")
	}
	r.want(t, "reset to 0 tasks", "reset to 0 tasks")
}

func TestWritesToOneObjectAreFoldedIntoOneChange(t *testing.T) {
	t.Parallel()
	s := store.NewLocal(store.Config{})
	must(t, s.Update(t.Context(), create(task("t0", "", "", 0))))
	r := &recorder{}
	s.Observe(r)
	_, sub := s.Subscribe(10, store.AllKey())
	must(t, s.Update(t.Context(), func(tx *store.Tx) error {
		must(t, tx.Create(task("t1", "", "", 0)))
		must(t, move("t1", "n1")(tx))
		must(t, tx.Create(task("t2", "", "", 0)))
		must(t, tx.Remove(store.KindTask, "t2"))
		must(t, move("t0", "n1")(tx))
		if n := len(tx.Writes()); n != 5 {
			t.Errorf("Writes returned %d changes, want every one of 5", n)
		}
		return tx.Remove(store.KindTask, "t0")
	}))
	r.want(t, "reset to 1 tasks", "t1", "t0")
	commits, _ := sub.Take()
	wantIDs(t, commits, "t1 t0")
	if c := commits[0].Changes[0]; c.Old != nil || c.New.(*api.Task).NodeId != "n1" {
		t.Errorf("got %+v, want the creation of a task on n1", c)
	}
	if c := commits[0].Changes[1]; c.New != nil || c.Old.(*api.Task).NodeId != "" {
		t.Errorf("got %+v, want the removal of the task as it was", c)
	}
}
