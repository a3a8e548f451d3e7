package store_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
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
				if err := s.Apply(store.Entry{Index: index, Term: 1, Data: bytes.Clone(data)}); err != nil {
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

// TestADifferenceInOneFieldOfOneObjectIsAnotherDigest takes an object of each kind with every field
// set, three messages deep, and changes one field after the other: one that is set is dropped, and
// gets another value; one that is not, since another of its oneof is, takes its place.
// Fault 50 of the reliability promises: what the canary can see.
func TestADifferenceInOneFieldOfOneObjectIsAnotherDigest(t *testing.T) {
	t.Parallel()
	for _, o := range oneOfEach() {
		t.Run(store.KindOf(o).String(), func(t *testing.T) {
			t.Parallel()
			o = o.ProtoReflect().New().Interface().(store.Object)
			fill(o.ProtoReflect(), 3)
			whole := digestAlone(t, o)
			if again := digestAlone(t, proto.CloneOf(o)); !bytes.Equal(again, whole) {
				t.Fatalf("equal objects have the digests %x and %x", whole, again)
			}
			changed := 0
			eachField(o.ProtoReflect(), o.ProtoReflect().Descriptor().Name(), func(path protoreflect.Name) {
				changed++
				if bytes.Equal(digestAlone(t, o), whole) {
					t.Errorf("with another %s it has the same digest", path)
				}
			})
			if changed < 10 {
				t.Errorf("%d fields were changed, which cannot be all", changed)
			}
			if !bytes.Equal(digestAlone(t, o), whole) {
				t.Error("the test has not put everything back")
			}
		})
	}
}

// eachField calls f with each field of m and of the messages in it changed, one at a time. The ID
// of an object is left alone.
func eachField(m protoreflect.Message, path protoreflect.Name, f func(path protoreflect.Name)) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		name := path + "." + field.Name()
		if field.Name() == "id" && !strings.Contains(string(path), ".") {
			continue
		}
		if !m.Has(field) {
			if of := field.ContainingOneof(); of != nil && m.WhichOneof(of) != nil {
				was := m.WhichOneof(of)
				old := m.Get(was)
				m.Set(field, m.NewField(field))
				f(name)
				m.Set(was, old)
			}
			continue
		}
		old := proto.Clone(m.Interface()).ProtoReflect().Get(field) // what is cleared in place is gone
		m.Clear(field)
		f(name)
		m.Set(field, old)
		switch {
		case field.IsMap():
			m.Mutable(field).Map().Set(protoreflect.ValueOfString("another").MapKey(), m.Mutable(field).Map().NewValue())
			f(name)
			m.Mutable(field).Map().Clear(protoreflect.ValueOfString("another").MapKey())
		case field.IsList():
			list := m.Mutable(field).List()
			if field.Message() != nil {
				for at := range list.Len() {
					eachField(list.Get(at).Message(), name, f)
				}
			}
			n := list.Len()
			list.Append(list.NewElement())
			f(name)
			list.Truncate(n)
		case field.Message() != nil:
			eachField(m.Mutable(field).Message(), name, f)
		default:
			m.Set(field, other(field, old))
			f(name)
			m.Set(field, old)
		}
	}
	unknown := m.GetUnknown()
	m.SetUnknown([]byte{0xf8, 0x07, 2})
	f(path + ".unknown")
	m.SetUnknown(unknown)
}

// other returns another value than old.
func other(field protoreflect.FieldDescriptor, old protoreflect.Value) protoreflect.Value {
	switch v := old.Interface().(type) {
	case bool:
		return protoreflect.ValueOfBool(!v)
	case string:
		return protoreflect.ValueOfString(v + "x")
	case []byte:
		return protoreflect.ValueOfBytes(append(bytes.Clone(v), 'x'))
	case protoreflect.EnumNumber:
		return protoreflect.ValueOfEnum(v + 1)
	case int32:
		return protoreflect.ValueOfInt32(v + 1)
	case int64:
		return protoreflect.ValueOfInt64(v + 1)
	case uint32:
		return protoreflect.ValueOfUint32(v + 1)
	case uint64:
		return protoreflect.ValueOfUint64(v + 1)
	case float32:
		return protoreflect.ValueOfFloat32(v + 1)
	case float64:
		return protoreflect.ValueOfFloat64(v + 1)
	}
	panic(fmt.Sprintf("%s is a %T", field.FullName(), old.Interface()))
}

// digestAlone returns the digest of a state that is one object, just as it is: it is applied, as
// from the log, and nothing stamps it.
func digestAlone(t *testing.T, o store.Object) []byte {
	t.Helper()
	action := &api.StoreAction{Action: api.StoreActionKind_STORE_ACTION_CREATE}
	targets := action.ProtoReflect().Descriptor().Oneofs().ByName("target").Fields()
	for i := range targets.Len() {
		if target := targets.Get(i); target.Message() == o.ProtoReflect().Descriptor() {
			action.ProtoReflect().Set(target, protoreflect.ValueOfMessage(o.ProtoReflect()))
		}
	}
	data, err := proto.Marshal(&api.InternalRaftRequest{Action: []*api.StoreAction{action}})
	must(t, err)
	s := store.New(store.Config{})
	must(t, s.Apply(store.Entry{Index: 1, Term: 1, Data: data}))
	return digest(t, store.Digest{}, s.Read()).Bytes()
}

func TestTheDigestOfWhatIsRemovedIsTakenOffAgain(t *testing.T) {
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
	// How long a manager, which rests after each slice of objects, has the processor for one.
	b.Run("tasks=100000/changed=all/slice=250", func(b *testing.B) {
		var took []time.Duration
		for b.Loop() {
			n, began := 0, time.Now()
			if _, err := (store.Digest{}).NextAtEase(s.Read(), func() error {
				if n++; n%250 == 0 {
					took = append(took, time.Since(began))
					began = time.Now()
				}
				return nil
			}); err != nil {
				b.Fatal(err)
			}
		}
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs/slice")
		b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "µs/slice-p99")
	})
}
