package watchapi_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/datadriven"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/internal/badinput"
	"skep/model"
	"skep/rpc/watchapi"
	"skep/store"
)

// Cases open watches and change the store:
//
//	watch name       a WatchRequest as text; prints the error that ends it at once
//	do               one transaction: create, update or remove, a kind and its fields
//	                 (an update replaces the object); prints what each watch got
//	crowd n=N        N transactions while no watch is read; prints those that end
func TestWatch(t *testing.T) {
	t.Parallel()
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		synctest.Test(t, func(t *testing.T) {
			c := &story{t: t, store: store.NewLocal(store.Config{Freeze: true, HistoryEntries: 8})}
			defer c.end()
			datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
				switch d.Cmd {
				case "watch":
					c.watch(d.CmdArgs[0].Key, d.Input)
				case "do":
					c.do(d.Input)
				case "crowd":
					var n int
					d.ScanArgs(t, "n", &n)
					c.crowd(n)
					return errorsIn(c.heard()) // how much got through before is chance
				default:
					d.Fatalf(t, "unknown command %q", d.Cmd)
				}
				return c.heard()
			})
		})
	})
}

type story struct {
	t       *testing.T
	store   *store.Store
	watches []*stream
	running sync.WaitGroup
}

func (c *story) watch(name, text string) {
	ctx, cancel := context.WithCancel(c.t.Context())
	w := &stream{name: name, ctx: ctx, cancel: cancel}
	c.watches = append(c.watches, w)
	r := &api.WatchRequest{}
	if err := prototext.Unmarshal([]byte(text), r); err != nil {
		c.t.Fatal(err)
	}
	server := watchapi.New(watchapi.Config{Store: c.store, Limit: 10})
	c.running.Go(func() { w.ended(server.Watch(r, w)) })
}

func (c *story) do(text string) {
	err := c.store.Update(c.t.Context(), func(tx *store.Tx) error {
		for line := range strings.Lines(text) {
			verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
			o := object(c.t, rest)
			var err error
			switch verb {
			case "create":
				err = tx.Create(o)
			case "update":
				err = tx.Update(stored(tx, o))
			case "remove":
				err = tx.Delete(o)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

// crowd changes the store n times while no watch gets anything sent. One that has
// taken what waited so far is stuck with its first message, so what overflows a
// watch for certain is twice its limit, and one more.
func (c *story) crowd(n int) {
	for _, w := range c.watches {
		w.mu.Lock()
	}
	for i := range n {
		c.do(fmt.Sprintf(`create config id: "crowd%d" spec { annotations { name: "crowd%d" } }`, i, i))
	}
	for _, w := range c.watches {
		w.mu.Unlock()
	}
}

// heard returns what the watches were sent since the last call.
func (c *story) heard() string {
	synctest.Wait()
	var all strings.Builder
	for _, w := range c.watches {
		w.mu.Lock()
		for _, line := range w.lines {
			fmt.Fprintf(&all, "%s: %s\n", w.name, line)
		}
		w.lines = nil
		w.mu.Unlock()
	}
	return all.String()
}

func errorsIn(heard string) string {
	var found strings.Builder
	for line := range strings.Lines(heard) {
		if strings.Contains(line, "error of kind") {
			found.WriteString(line)
		}
	}
	return found.String()
}

func (c *story) end() {
	for _, w := range c.watches {
		w.cancel()
	}
	c.running.Wait()
}

// stream is a client that writes down what it receives. While somebody holds mu
// it does not read.
type stream struct {
	grpc.ServerStream
	name   string
	ctx    context.Context
	cancel context.CancelFunc
	mu     sync.Mutex
	lines  []string
}

func (s *stream) Context() context.Context { return s.ctx }

func (s *stream) Send(m *api.WatchMessage) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(m.GetEvents()) == 0 && m.GetVersion() == nil:
		s.lines = append(s.lines, "live")
	case m.GetVersion() == nil:
		s.lines = append(s.lines, "a message without a version")
	default:
		events := make([]string, len(m.GetEvents()))
		for i, e := range m.GetEvents() {
			events[i] = said(e)
		}
		s.lines = append(s.lines, fmt.Sprintf("%d %s", m.GetVersion().GetIndex(), strings.Join(events, ", ")))
	}
	return nil
}

func (s *stream) ended(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() == nil {
		s.lines = append(s.lines, fmt.Sprintf("error of kind %d: %v", model.KindOf(err), err))
	}
}

func said(e *api.WatchMessage_Event) string {
	action := strings.ToLower(strings.TrimPrefix(e.GetAction().String(), "WATCH_ACTION_"))
	text := action + " " + identified(e.GetObject())
	if e.GetOldObject() != nil {
		text += " (was " + identified(e.GetOldObject()) + ")"
	}
	return text
}

// identified prints an object in full, but for its meta.
func identified(o *api.Object) string {
	m := o.ProtoReflect()
	field := m.WhichOneof(m.Descriptor().Oneofs().Get(0))
	inner := proto.Clone(m.Get(field).Message().Interface())
	inner.ProtoReflect().Clear(inner.ProtoReflect().Descriptor().Fields().ByName("meta"))
	text := strings.Join(strings.Fields(prototext.MarshalOptions{}.Format(inner)), " ")
	return string(field.Name()) + " " + strings.ReplaceAll(text, ": ", ":")
}

// stored returns o with the meta of the object that it replaces.
func stored(tx *store.Tx, o store.Object) store.Object {
	set := func(old store.Object, ok bool) store.Object {
		if ok {
			field := o.ProtoReflect().Descriptor().Fields().ByName("meta")
			o.ProtoReflect().Set(field, old.ProtoReflect().Get(field))
		}
		return o
	}
	switch o.(type) {
	case *api.Task:
		return set(tx.Tasks.Get(o.GetId()))
	case *api.Node:
		return set(tx.Nodes.Get(o.GetId()))
	case *api.Secret:
		return set(tx.Secrets.Get(o.GetId()))
	case *api.Cluster:
		return set(tx.Clusters.Get(o.GetId()))
	case *api.Service:
		return set(tx.Services.Get(o.GetId()))
	}
	return o
}

func object(t testing.TB, text string) store.Object {
	t.Helper()
	kind, fields, _ := strings.Cut(text, " ")
	kinds := map[string]store.Object{
		"node": &api.Node{}, "service": &api.Service{}, "task": &api.Task{}, "network": &api.Network{}, "cluster": &api.Cluster{},
		"secret": &api.Secret{}, "config": &api.Config{}, "volume": &api.Volume{}, "extension": &api.Extension{}, "resource": &api.Resource{},
	}
	o, ok := kinds[kind]
	if !ok {
		t.Fatalf("no kind is called %q", kind)
	}
	if err := prototext.Unmarshal([]byte(fields), o); err != nil {
		t.Fatal(err)
	}
	return o
}

// Any request, however wrong, ends with a sensible error or is live.
func TestNoRequestBreaksAWatch(t *testing.T) {
	t.Parallel()
	s := store.NewLocal(store.Config{})
	c := &story{t: t, store: s}
	c.do(`create task id: "t1" service_id: "web" slot: 1 annotations { indices { key: "a" val: "b" } }`)
	stop := make(chan struct{})
	close(stop)
	server := watchapi.New(watchapi.Config{Store: s, Stop: stop})
	good := &api.WatchRequest{}
	if err := prototext.Unmarshal([]byte(`
		entries { kind: "task" action: 7 filters { id: "t1" } filters { name_prefix: "." } filters { custom { index: "a" value: "b" } } filters { slot { service_id: "web" slot: 1 } } filters { desired_state: NEW } }
		entries { kind: "node" action: 1 filters { role: WORKER } filters { membership: ACCEPTED } }
		entries { kind: "route" action: 4 filters { referenced_secret_id: "x" } }
		resume_from { index: 0 } include_old_object: true`), good); err != nil {
		t.Fatal(err)
	}
	for what, r := range badinput.Mutants(good) {
		ctx, cancel := context.WithCancel(t.Context())
		err := server.Watch(r.(*api.WatchRequest), &stream{ctx: ctx, cancel: cancel})
		switch model.KindOf(err) {
		case model.Unavailable, model.Invalid, model.Precondition:
		default:
			t.Errorf("%s: got %v", what, err)
		}
		cancel()
	}
}
