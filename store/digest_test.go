package store_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"skep/api"
	"skep/model"
	"skep/store"
)

func digest(t interface {
	Helper()
	Fatal(...any)
}, d store.Digest, s *store.Snapshot) store.Digest {
	t.Helper()
	d, err := d.Next(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Whoever applied a state entry by entry and took digests on the way, applied it from the
// log, restored it, or comes from another state altogether says the same.
func TestEqualStatesHaveEqualDigestsAfterAnyHistory(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		leader, log := held(store.Config{})
		follower, restored := store.New(store.Config{}), store.New(store.Config{})
		var led, followed, other store.Digest
		for range rapid.IntRange(1, 40).Draw(t, "entries") {
			_, err := leader.Propose(func(tx *store.Tx) error {
				for range rapid.IntRange(1, 4).Draw(t, "writes") {
					scribble(t, tx)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if log.len() == 0 {
				continue // nothing was written
			}
			data, index := log.pop(), log.next()
			for _, s := range []*store.Store{leader, follower} {
				if err := s.Apply(index, 1, bytes.Clone(data)); err != nil {
					t.Fatal(err)
				}
			}
			if rapid.Bool().Draw(t, "the leader takes one") {
				led = digest(t, led, leader.Read())
			}
			if rapid.Bool().Draw(t, "the follower takes one") {
				followed = digest(t, followed, follower.Read())
			}
			if rapid.IntRange(0, 9).Draw(t, "restore") == 0 {
				var b bytes.Buffer
				if _, err := leader.Read().WriteTo(&b); err != nil {
					t.Fatal(err)
				}
				if err := restored.Restore(&b); err != nil {
					t.Fatal(err)
				}
				if other = digest(t, other, restored.Read()); !bytes.Equal(other.Bytes(), digest(t, led, leader.Read()).Bytes()) {
					t.Fatal("a restored state has another digest")
				}
			}
		}
		want := digest(t, store.Digest{}, leader.Read()).Bytes()
		for name, got := range map[string]store.Digest{
			"the leader, step by step":   digest(t, led, leader.Read()),
			"the follower, step by step": digest(t, followed, follower.Read()),
			"the follower, at once":      digest(t, store.Digest{}, follower.Read()),
			"from an older state":        digest(t, other, leader.Read()),
		} {
			if !bytes.Equal(got.Bytes(), want) {
				t.Fatalf("%s: the digest is %x, want %x", name, got.Bytes(), want)
			}
		}
	})
}

// scribble does one write.
func scribble(t *rapid.T, tx *store.Tx) {
	id := fmt.Sprint("o", rapid.IntRange(0, 20).Draw(t, "object"))
	k, ok := tx.Tasks.Get(id)
	switch what := rapid.IntRange(0, 3).Draw(t, "what"); {
	case !ok && what > 0:
		spec := &api.TaskSpec{LogDriver: &api.Driver{Name: "d", Options: map[string]string{"a": "1", "b": id, "c": "3"}}}
		if err := tx.Create(&api.Task{Id: id, Spec: spec, ServiceId: "s", Slot: 1}); err != nil {
			t.Fatal(err)
		}
	case ok && what == 0:
		if err := tx.Remove(store.KindTask, id); err != nil {
			t.Fatal(err)
		}
	case ok:
		k = model.Shallow(k)
		k.Status = &api.TaskStatus{State: api.TaskState_RUNNING, Message: fmt.Sprint(rapid.IntRange(0, 3).Draw(t, "message"))}
		if err := tx.Update(k); err != nil {
			t.Fatal(err)
		}
	}
}

func TestADifferenceInOneFieldOfOneObjectIsAnotherDigest(t *testing.T) {
	t.Parallel()
	for _, o := range oneOfEach() {
		s := store.NewLocal(store.Config{})
		must(t, s.Update(t.Context(), create(proto.CloneOf(o))))
		before := digest(t, store.Digest{}, s.Read())
		must(t, s.Update(t.Context(), func(tx *store.Tx) error {
			return tx.Remove(store.KindOf(o), o.GetId())
		}))
		gone := digest(t, before, s.Read())
		if bytes.Equal(gone.Bytes(), before.Bytes()) || !bytes.Equal(gone.Bytes(), (store.Digest{}).Bytes()) {
			t.Errorf("%T: the digest without it is %x, with it %x, of nothing %x", o, gone.Bytes(), before.Bytes(), store.Digest{}.Bytes())
		}
	}
}

func TestDigestsOfAnotherFormatSayNothing(t *testing.T) {
	t.Parallel()
	own := store.Digest{}.Bytes()
	other := append([]byte{own[0] + 1}, own[1:]...)
	if !store.Comparable(own, own) || store.Comparable(own, other) || store.Comparable(own, nil) {
		t.Error("a digest is compared with one that is none, or of another format")
	}
}

// What a digest costs after 256 entries of 100,000 tasks, and from nothing.
func BenchmarkDigest(b *testing.B) {
	s, ids := cluster(b, 100_000)
	whole := digest(b, store.Digest{}, s.Read())
	for n := range 256 {
		must(b, s.Update(context.Background(), func(tx *store.Tx) error { return report(tx, ids[n*7919%len(ids)], n) }))
	}
	b.Run("tasks=100000/changed=256", func(b *testing.B) {
		for b.Loop() {
			digest(b, whole, s.Read())
		}
	})
	b.Run("tasks=100000/changed=all", func(b *testing.B) {
		for b.Loop() {
			digest(b, store.Digest{}, s.Read())
		}
	})
}
