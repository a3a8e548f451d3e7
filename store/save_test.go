package store_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/store"
)

func saved(t testing.TB, s *store.Snapshot) []byte {
	t.Helper()
	var b bytes.Buffer
	n, err := s.WriteTo(&b)
	must(t, err)
	if n != int64(b.Len()) {
		t.Errorf("WriteTo says %d bytes, wrote %d", n, b.Len())
	}
	return b.Bytes()
}

func hash(t testing.TB, s *store.Snapshot) [32]byte {
	t.Helper()
	h, err := s.Hash()
	must(t, err)
	return h
}

// oneOfEach returns an object of every kind.
func oneOfEach() []store.Object {
	named := func(n string) *api.Annotations {
		return &api.Annotations{Name: n, Labels: map[string]string{"a": "1", "b": "2", "c": "3"}}
	}
	v := service("s1", "web")
	v.Spec.Task.Runtime = &api.TaskSpec_Container{Container: &api.ContainerSpec{
		Image: "web:1", Secrets: []*api.SecretReference{{SecretId: "x1"}}, Configs: []*api.ConfigReference{{ConfigId: "c1"}},
	}}
	k := task("t1", "s1", "n1", 3)
	k.Spec = proto.CloneOf(v.Spec.Task)
	return []store.Object{
		&api.Node{Id: "n1"}, v, k,
		&api.Network{Id: "w1", Spec: &api.NetworkSpec{Annotations: named("net")}},
		&api.Cluster{Id: "k1", Spec: &api.ClusterSpec{Annotations: named("default")}},
		&api.Secret{Id: "x1", Spec: &api.SecretSpec{Annotations: named("key"), Data: []byte("hush")}},
		&api.Config{Id: "c1", Spec: &api.ConfigSpec{Annotations: named("conf")}},
		&api.Volume{Id: "v1", Spec: &api.VolumeSpec{Annotations: named("data")}},
		&api.Extension{Id: "e1", Annotations: named("ext")},
		&api.Resource{Id: "r1", Annotations: named("res"), Kind: "ext"},
	}
}

func TestASavedStateIsRestoredWithItsNamesAndLookUps(t *testing.T) {
	t.Parallel()
	s := store.NewLocal(store.Config{Freeze: true})
	must(t, s.Update(t.Context(), create(oneOfEach()...)))
	data := saved(t, s.Read())
	other := store.New(store.Config{})
	must(t, other.Restore(bytes.NewReader(data)))
	got := other.Read()
	if hash(t, got) != hash(t, s.Read()) || got.Version() != s.Read().Version() || !bytes.Equal(saved(t, got), data) {
		t.Error("the restored state is another one")
	}
	if _, ok := got.Services.Named("Web"); !ok {
		t.Error("the service is not found by its name")
	}
	for name, n := range map[string]int{
		"TasksOf": count(got.TasksOf("s1")), "TasksOn": count(got.TasksOn("n1")), "TasksInSlot": count(got.TasksInSlot("s1", 3)),
		"ServicesUsingSecret": count(got.ServicesUsingSecret("x1")), "ServicesUsingConfig": count(got.ServicesUsingConfig("c1")),
	} {
		if n != 1 {
			t.Errorf("%s yields %d objects, want 1", name, n)
		}
	}
}

func count[T any](seq func(func(T) bool)) (n int) {
	seq(func(T) bool { n++; return true })
	return n
}

func TestEqualSpecsAreOneObjectAfterDecoding(t *testing.T) {
	t.Parallel()
	s, log := held(store.Config{})
	propose(t, s, create(oneOfEach()...))
	follower := store.New(store.Config{})
	must(t, follower.Apply(store.Entry{Index: 1, Term: 1, Data: log.pop()}))
	restored := store.New(store.Config{})
	must(t, restored.Restore(bytes.NewReader(saved(t, follower.Read()))))
	for name, s := range map[string]*store.Snapshot{"applied": follower.Read(), "restored": restored.Read()} {
		v, _ := s.Services.Get("s1")
		k, _ := s.Tasks.Get("t1")
		if v.Spec.Task != k.Spec {
			t.Errorf("%s: the task has a spec of its own", name)
		}
	}
}

func TestABrokenStateIsRefusedWithAReason(t *testing.T) {
	t.Parallel()
	s := store.NewLocal(store.Config{})
	must(t, s.Update(t.Context(), create(oneOfEach()...)))
	good := saved(t, s.Read())
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"nothing":         {nil, "read the header"},
		"something else":  {[]byte("#!/bin/sh\nexit 0"), "not a saved state"},
		"a newer format":  {append([]byte("skepstor"), 2, 1, 0, 0), "a newer version wrote it"},
		"cut short":       {good[:len(good)/2], "cut short"},
		"without its end": {good[:len(good)-2], "cut short"},
		"too large":       {append([]byte("skepstor"), 1, 1, 0xff, 0xff, 0xff, 0xff, 0x7f), "it claims"},
		"wrong number":    {append(bytes.Clone(good[:len(good)-1]), 99), "and says 99"},
		"more behind it":  {append(bytes.Clone(good), 0), "something follows"},
		"not an object":   {append([]byte("skepstor"), 1, 1, 2, 8, 1, 0, 1), "it has no object"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := store.New(store.Config{})
			before := s.Read()
			err := s.Restore(bytes.NewReader(c.data))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
			if s.Read() != before {
				t.Error("the state was replaced")
			}
		})
	}
}

func TestAnObjectThatIsChangedAfterItWasStoredIsAPanic(t *testing.T) {
	t.Parallel()
	for name, then := range map[string]func(*store.Store){
		"on demand": func(s *store.Store) { s.CheckFrozen() },
		"when it is replaced": func(s *store.Store) {
			s.Update(t.Context(), func(tx *store.Tx) error { return tx.Remove(store.KindTask, "t1") })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := store.NewLocal(store.Config{Freeze: true})
			must(t, s.Update(t.Context(), create(task("t1", "", "", 0))))
			s.CheckFrozen()
			k, _ := s.Read().Tasks.Get("t1")
			k.Status.State = api.TaskState_RUNNING
			defer func() {
				if msg := fmt.Sprint(recover()); !strings.Contains(msg, "task t1 was changed") {
					t.Errorf("got panic %q, want one that names the task", msg)
				}
			}()
			then(s)
		})
	}
}

func FuzzRestore(f *testing.F) {
	s := store.NewLocal(store.Config{})
	must(f, s.Update(f.Context(), create(oneOfEach()...)))
	f.Add(saved(f, s.Read()))
	f.Add([]byte("skepstor\x01\x01\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := store.New(store.Config{})
		if s.Restore(bytes.NewReader(data)) != nil {
			return
		}
		again := store.New(store.Config{})
		must(t, again.Restore(bytes.NewReader(saved(t, s.Read()))))
		if hash(t, again.Read()) != hash(t, s.Read()) {
			t.Error("what was restored does not survive another round")
		}
	})
}

func FuzzApply(f *testing.F) {
	s, log := held(store.Config{})
	propose(f, s, create(oneOfEach()...))
	f.Add(log.pop())
	f.Fuzz(func(t *testing.T, data []byte) {
		s := store.New(store.Config{})
		before := s.Read()
		if s.Apply(store.Entry{Index: 1, Term: 1, Data: data}) != nil && s.Read() != before {
			t.Error("an entry with an error was applied in part")
		}
	})
}
