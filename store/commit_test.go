package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"skep/api"
	"skep/model"
	"skep/store"
)

func TestUpdateReturnsWhenItsEntryIsApplied(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, log := held(store.Config{})
		var returned bool
		go func() {
			must(t, s.Update(t.Context(), create(service("s1", "web"))))
			returned = true
		}()
		synctest.Wait()
		if returned || s.Read().Services.Len() != 0 || s.Proposed().Services.Len() != 1 {
			t.Fatalf("before the commit: returned %t, %d committed, %d proposed; want false, 0, 1",
				returned, s.Read().Services.Len(), s.Proposed().Services.Len())
		}
		log.commit(t, s, 1)
		synctest.Wait()
		if !returned || s.Read() != s.Proposed() {
			t.Errorf("after the commit: returned %t, heads equal %t; want both", returned, s.Read() == s.Proposed())
		}
	})
}

func TestTransactionsBuildOnWhatIsStillInTheLog(t *testing.T) {
	t.Parallel()
	s, log := held(store.Config{})
	first := propose(t, s, create(service("s1", "web")))
	second := propose(t, s, func(tx *store.Tx) error {
		v, ok := tx.Services.Get("s1")
		if !ok {
			return errors.New("the first transaction's service is not there")
		}
		v = model.Shallow(v)
		v.PendingDelete = true
		return tx.Update(v)
	})
	log.commit(t, s, 1)
	if got := versionOf(t, s.Read(), "s1"); got != 1 {
		t.Errorf("after the first commit the version is %d, want 1", got)
	}
	log.commit(t, s, 1)
	if got := versionOf(t, s.Read(), "s1"); got != 2 {
		t.Errorf("after the second commit the version is %d, want 2", got)
	}
	must(t, first.Wait(t.Context()))
	must(t, second.Wait(t.Context()))
}

func propose(t testing.TB, s *store.Store, f func(*store.Tx) error) *store.Pending {
	t.Helper()
	p, err := s.Propose(f)
	must(t, err)
	return p
}

func TestAVersionFollowsTheAppliedIndexAndTheLastVersionGiven(t *testing.T) {
	t.Parallel()
	s, log := held(store.Config{})
	for range 10 {
		log.next() // entries that are not for the store
	}
	s.Applied(10, 1)
	propose(t, s, create(service("s1", "one")))
	propose(t, s, create(service("s2", "two")))
	log.next() // a change of membership in between
	log.commit(t, s, 2)
	propose(t, s, create(service("s3", "three")))
	log.commit(t, s, 1)
	for id, want := range map[string]uint64{"s1": 11, "s2": 12, "s3": 14} {
		if got := versionOf(t, s.Read(), id); got != want {
			t.Errorf("%s has version %d, want %d", id, got, want)
		}
	}
}

func TestAllWritesOfATransactionShareOneVersionAndOneTime(t *testing.T) {
	t.Parallel()
	s := store.NewLocal(store.Config{})
	must(t, s.Update(t.Context(), create(service("s1", "web"), task("t1", "s1", "", 1))))
	v, _ := s.Read().Services.Get("s1")
	k, _ := s.Read().Tasks.Get("t1")
	if v.Meta.Version.Index != k.Meta.Version.Index || !v.Meta.CreatedAt.AsTime().Equal(k.Meta.CreatedAt.AsTime()) {
		t.Errorf("service has %v, task has %v", v.Meta, k.Meta)
	}
	if v.Meta.Version.Index != s.Read().Version() {
		t.Errorf("the state has version %d, its last write %d", s.Read().Version(), v.Meta.Version.Index)
	}
}

func TestTransactionsGatherWhileTheLogIsBusy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, log := held(store.Config{})
		busy := make(chan struct{})
		log.block = busy
		for i := range 5 {
			go func() { must(t, s.Update(t.Context(), create(task(fmt.Sprint("t", i), "", "", 0)))) }()
			synctest.Wait()
		}
		log.block = nil
		close(busy)
		synctest.Wait()
		if len(log.batches) != 2 || len(log.batches[0]) != 1 || len(log.batches[1]) != 4 {
			t.Errorf("got %d batches, want one of 1 and one of 4", len(log.batches))
		}
		log.commit(t, s, 5)
	})
}

func TestWhoLosesLeadershipSaysWhatHappened(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		then func(*testing.T, *store.Store, *heldLog)
		want model.Kind // of what was in the log; 0 is none
		ok   bool
		took time.Duration
	}{
		{"the next leader has it", func(t *testing.T, s *store.Store, log *heldLog) { log.commit(t, s, 1) }, 0, true, 0},
		{"the next leader has other entries", func(t *testing.T, s *store.Store, log *heldLog) {
			other, theirs := held(store.Config{})
			propose(t, other, create(service("s4", "theirs")))
			must(t, s.Apply(store.Entry{Index: log.next(), Term: 2, Data: theirs.pop()}))
			s.Applied(1, 2)
		}, model.Unavailable, false, 0},
		{"the next leader begins its term", func(_ *testing.T, s *store.Store, _ *heldLog) { s.Applied(1, 2) }, model.Unavailable, false, 0},
		{"the log refuses it after all", func(_ *testing.T, s *store.Store, log *heldLog) { s.Refused([][]byte{log.take(0)}) }, model.Unavailable, false, 0},
		{"it leads again", func(_ *testing.T, s *store.Store, _ *heldLog) { s.Applied(1, 3); s.Lead(3) }, model.Unavailable, false, 0},
		{"nobody leads", func(*testing.T, *store.Store, *heldLog) { <-time.After(time.Minute) }, model.Unknown, false, 4 * time.Second},
		{"the manager ends", func(_ *testing.T, s *store.Store, _ *heldLog) { s.End() }, model.Unknown, false, 0},
		{"it may be in a snapshot", func(t *testing.T, s *store.Store, _ *heldLog) {
			other, _ := held(store.Config{})
			var saved bytes.Buffer
			_, err := other.Read().WriteTo(&saved)
			must(t, err)
			must(t, s.Restore(&saved))
		}, model.Unknown, false, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s, log := held(store.Config{})
				busy := make(chan struct{})
				log.block = busy
				var inLog, gathered error
				var took time.Duration
				began := time.Now()
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					inLog = s.Update(t.Context(), create(service("s1", "web")))
					took = time.Since(began)
				}()
				synctest.Wait()
				go func() { gathered = s.Update(t.Context(), create(service("s2", "shop"))) }()
				synctest.Wait()
				go s.Follow()
				synctest.Wait()
				close(busy)
				synctest.Wait()
				wantKind(t, gathered, model.Unavailable)
				select {
				case <-ended:
					t.Errorf("the one in the log ended before anybody could know: %v", inLog)
				default:
				}
				if s.Proposed() != s.Read() {
					t.Error("a follower has a proposed head of its own")
				}
				wantKind(t, s.Update(t.Context(), create(service("s3", "late"))), model.Unavailable)

				tt.then(t, s, log)
				<-ended
				if tt.ok {
					must(t, inLog)
				} else {
					wantKind(t, inLog, tt.want)
				}
				if took != tt.took {
					t.Errorf("it was known after %s, want %s", took, tt.took)
				}
				if _, there := s.Read().Services.Get("s1"); there != tt.ok {
					t.Errorf("the service is there: %t, want %t", there, tt.ok)
				}
			})
		})
	}
}

func TestARefusedEntryTakesWithItWhatCameAfter(t *testing.T) {
	t.Parallel()
	s, log := held(store.Config{})
	kept := propose(t, s, create(service("s1", "kept")))
	refused := propose(t, s, create(service("s2", "refused")))
	after := propose(t, s, create(service("s3", "after")))
	s.Refused([][]byte{log.take(1), log.take(1)})
	wantKind(t, refused.Wait(t.Context()), model.Unavailable)
	wantKind(t, after.Wait(t.Context()), model.Unavailable)
	if n := s.Proposed().Services.Len(); n != 1 {
		t.Errorf("the proposed head has %d services, want the one that is kept", n)
	}
	next := propose(t, s, create(service("s4", "next")))
	log.commit(t, s, 2)
	must(t, kept.Wait(t.Context()))
	must(t, next.Wait(t.Context()))
	if got := versionOf(t, s.Read(), "s4"); got != 2 {
		t.Errorf("after a refusal the next version is %d, want 2: not above its entry's index", got)
	}
}

func TestARefusalWaitsForEntriesThatAreBeingHandedOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, log := held(store.Config{})
		busy := make(chan struct{})
		log.block = busy
		go s.Update(t.Context(), create(service("s1", "web")))
		synctest.Wait()
		returned := false
		go func() { s.Refused([][]byte{log.take(0)}); returned = true }()
		synctest.Wait()
		if returned {
			t.Error("Refused returned while Propose was under way")
		}
		close(busy)
		synctest.Wait()
		if !returned || s.Proposed().Services.Len() != 0 {
			t.Errorf("returned %t with %d services, want true and none", returned, s.Proposed().Services.Len())
		}
	})
}

func TestWhatTheLogHasStaysInFlightWhenAnEarlierEntryIsRefused(t *testing.T) {
	t.Parallel()
	s, log := held(store.Config{})
	first := propose(t, s, create(service("s1", "refused")))
	second := propose(t, s, create(service("s2", "stays")))
	s.Refused([][]byte{log.take(0)})
	wantKind(t, first.Wait(t.Context()), model.Unavailable)
	if _, ok := s.Proposed().Services.Get("s2"); !ok || s.Proposed().Services.Len() != 1 {
		t.Error("the proposed head is not what the log will lead to")
	}
	log.commit(t, s, 1)
	must(t, second.Wait(t.Context()))
	if s.Read().Services.Len() != 1 {
		t.Errorf("there are %d services, want 1", s.Read().Services.Len())
	}
}

func TestEntriesOfOthersAreAppliedBelowWhatIsInFlight(t *testing.T) {
	t.Parallel()
	s, log := held(store.Config{})
	mine := propose(t, s, create(service("s1", "mine")))
	must(t, s.Apply(store.Entry{Index: log.next(), Term: 1, Data: entry(t, createAction(written(service("s2", "theirs"), 1)))}))
	if n := s.Proposed().Services.Len(); n != 2 {
		t.Errorf("the proposed head has %d services, want both", n)
	}
	log.commit(t, s, 1)
	must(t, mine.Wait(t.Context()))
	if s.Read().Services.Len() != 2 {
		t.Errorf("there are %d services, want both", s.Read().Services.Len())
	}
}

func TestEntriesAreAppliedUnconditionally(t *testing.T) {
	t.Parallel()
	s := store.New(store.Config{})
	update := func(v *api.Service) *api.StoreAction {
		return &api.StoreAction{Action: api.StoreActionKind_STORE_ACTION_UPDATE, Target: &api.StoreAction_Service{Service: v}}
	}
	remove := func(id string) *api.StoreAction {
		return &api.StoreAction{Action: api.StoreActionKind_STORE_ACTION_REMOVE, Target: &api.StoreAction_Service{Service: &api.Service{Id: id}}}
	}
	for i, data := range [][]byte{
		entry(t, update(written(service("s1", "created by an update"), 9))),
		entry(t, createAction(written(service("s1", "updated by a create"), 4))),
		entry(t, remove("none"), createAction(written(service("s2", "updated by a create"), 5))),
	} {
		must(t, s.Apply(store.Entry{Index: uint64(20 + i), Term: 3, Data: data}))
	}
	if got := versionOf(t, s.Read(), "s1"); got != 4 {
		t.Errorf("s1 has version %d, want the one in the log", got)
	}
	if s.Read().Services.Len() != 2 {
		t.Errorf("there are %d services, want 2", s.Read().Services.Len())
	}
}

func TestAnEntryThatCannotBeAppliedIsAnError(t *testing.T) {
	t.Parallel()
	newKind := protowire.AppendTag(nil, 2, protowire.BytesType)
	newKind = protowire.AppendBytes(newKind, protowire.AppendBytes(
		protowire.AppendTag(protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 1), 99, protowire.BytesType), []byte{}))
	for name, data := range map[string][]byte{
		"not a message":  {0xff},
		"unknown kind":   newKind,
		"unknown action": entry(t, &api.StoreAction{Action: 9, Target: &api.StoreAction_Service{Service: service("s1", "web")}}),
		"no action":      entry(t, &api.StoreAction{Target: &api.StoreAction_Service{Service: service("s1", "web")}}),
		"no ID":          entry(t, createAction(service("", "web"))),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := store.New(store.Config{})
			before := s.Read()
			err := s.Apply(store.Entry{Index: 7, Term: 2, Data: data})
			if err == nil || !strings.Contains(err.Error(), "apply entry 7 of term 2") {
				t.Errorf("got %v, want an error that names the entry", err)
			}
			if s.Read() != before {
				t.Error("part of the entry was applied")
			}
		})
	}
}

func TestATransactionAboveTheLimitIsRefusedAndLeavesNothing(t *testing.T) {
	t.Parallel()
	s := store.NewLocal(store.Config{})
	big := &api.Config{Id: "c1", Spec: &api.ConfigSpec{Annotations: &api.Annotations{Name: "big"}, Data: make([]byte, 3<<19)}}
	err := s.Update(t.Context(), create(big))
	wantKind(t, err, model.Exhausted)
	if !strings.Contains(err.Error(), "raft message is too large") {
		t.Errorf("got %q", err)
	}
	if s.Proposed().Configs.Len() != 0 {
		t.Error("the config is in the proposed head")
	}
}

func TestUpdateWaitsForRoomUntilItsContextEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, log := held(store.Config{InFlightBytes: 100})
		big := propose(t, s, create(&api.Config{Id: "c1", Spec: &api.ConfigSpec{Data: make([]byte, 200)}}))
		ctx, cancel := context.WithCancel(t.Context())
		var first, second error
		ran := 0
		go func() { first = s.Update(ctx, func(*store.Tx) error { ran++; return nil }) }()
		synctest.Wait()
		go func() { second = s.Update(t.Context(), func(*store.Tx) error { ran++; return nil }) }()
		synctest.Wait()
		if ran != 0 {
			t.Fatalf("%d functions ran with no room", ran)
		}
		cancel()
		synctest.Wait()
		wantKind(t, first, model.Unavailable)
		if !errors.Is(first, context.Canceled) {
			t.Errorf("got %v, want the context's error in it", first)
		}
		log.commit(t, s, 1)
		synctest.Wait()
		must(t, second)
		must(t, big.Wait(t.Context()))
		if ran != 1 {
			t.Errorf("%d functions ran, want the one that went on waiting", ran)
		}
	})
}

func TestNobodyLearnsWhatMayStillBeLost(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	for name, f := range map[string]func(*store.Tx) error{
		"nothing written": func(*store.Tx) error { return nil },
		"an error":        func(*store.Tx) error { return boom },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s, log := held(store.Config{})
				propose(t, s, create(service("s1", "web")))
				var err error
				returned := false
				do := func() { err = s.Update(t.Context(), f); returned = true }
				go do()
				synctest.Wait()
				if returned {
					t.Fatal("it returned before what it read was committed")
				}
				log.commit(t, s, 1)
				synctest.Wait()
				if !returned || err != nil && !errors.Is(err, boom) {
					t.Fatalf("returned %t with %v", returned, err)
				}

				propose(t, s, create(service("s2", "lost")))
				go do()
				synctest.Wait()
				s.Refused([][]byte{log.take(0)})
				synctest.Wait()
				wantKind(t, err, model.Unavailable)
			})
		})
	}
}

func TestAContextThatEndsLeavesTheOutcomeUnknown(t *testing.T) {
	t.Parallel()
	s, log := held(store.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := s.Update(ctx, create(service("s1", "web")))
	wantKind(t, err, model.Unknown)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error in it", err)
	}
	log.commit(t, s, 1)
	if s.Read().Services.Len() != 1 {
		t.Error("the write was committed and is not there")
	}
}

func TestAPanicInATransactionLeavesTheStoreUsable(t *testing.T) {
	t.Parallel()
	s := store.NewLocal(store.Config{})
	func() {
		defer func() { recover() }()
		s.Update(t.Context(), func(tx *store.Tx) error {
			must(t, tx.Create(service("s1", "web")))
			panic("a bug")
		})
	}()
	if s.Proposed().Services.Len() != 0 {
		t.Error("the panic left its writes behind")
	}
	must(t, s.Update(t.Context(), create(service("s1", "web"))))
}

func TestReadAtWaitsForTheIndex(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, log := held(store.Config{})
		propose(t, s, create(service("s1", "web")))
		var got *store.Snapshot
		go func() {
			var err error
			got, err = s.ReadAt(t.Context(), 1)
			must(t, err)
		}()
		synctest.Wait()
		if got != nil {
			t.Fatal("it did not wait")
		}
		log.commit(t, s, 1)
		synctest.Wait()
		if got != s.Read() {
			t.Error("it did not return the state at the index")
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := s.ReadAt(ctx, 2)
		wantKind(t, err, model.Unavailable)
		s.Applied(2, 1)
		if _, err := s.ReadAt(ctx, 2); err != nil {
			t.Error(err)
		}
	})
}
