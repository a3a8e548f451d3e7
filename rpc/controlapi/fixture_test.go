package controlapi_test

import (
	"encoding/hex"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"skep/api"
	_ "skep/api/skep" // so that text can hold a ProcessSpec
	"skep/model"
	"skep/rpc/controlapi"
	"skep/store"
	"skep/template"
)

// cluster is a small cluster as text, one object a line.
const cluster = `
cluster   id: "cluster" spec { annotations { name: "default" } } root_ca { ca_key: "KEY" ca_cert: "CERT" join_tokens { worker: "W" manager: "M" } root_rotation { ca_key: "KEY" ca_cert: "C2" } } network_bootstrap_keys { key: "KEY" } unlock_keys { key: "KEY" } encryption_key_lamport_clock: 3
node      id: "manager" spec { desired_role: MANAGER membership: ACCEPTED } role: MANAGER status { state: READY } description { hostname: "alpha" }
node      id: "worker" spec { membership: ACCEPTED annotations { labels { key: "zone" value: "a" } } } status { state: READY } description { hostname: "beta" engine { labels { key: "disk" value: "ssd" } } }
node      id: "gone" spec { membership: ACCEPTED } status { state: DOWN } description { hostname: "gamma" }
secret    id: "secret" spec { annotations { name: "db" labels { key: "team" value: "a" } } data: "SECRET" }
secret    id: "spare" spec { annotations { name: "spare" } data: "SECRET" }
secret    id: "own" internal: true spec { annotations { name: "own" } data: "SECRET" }
config    id: "config" spec { annotations { name: "site" } data: "listen 80" }
config    id: "old-config" spec { annotations { name: "old" } data: "listen 81" }
network   id: "network" spec { annotations { name: "front" } }
network   id: "bridge" spec { annotations { name: "bridge" labels { key: "com.docker.swarm.predefined" value: "true" } } }
volume    id: "volume" spec { annotations { name: "data" } group: "g" driver { name: "nfs" } }
extension id: "extension" annotations { name: "route" }
extension id: "unused" annotations { name: "unused" }
resource  id: "resource" annotations { name: "r1" labels { key: "a" value: "b" } } kind: "route" payload { type_url: "x/y" value: "1" }
service   id: "web" spec { annotations { name: "web" labels { key: "tier" value: "front" } } task { container { image: "web:2" secrets { secret_id: "secret" secret_name: "db" file { name: "db" } } } } replicated { replicas: 3 } endpoint { ports { target_port: 80 published_port: 8080 publish_mode: HOST } } } spec_version { index: 7 } previous_spec { annotations { name: "web" } task { container { image: "web:1" } } replicated { replicas: 2 } } previous_spec_version { index: 5 } update_status { state: PAUSED }
service   id: "hello" spec { annotations { name: "hello" } task { generic { kind: "process" payload { [type.googleapis.com/skep.v1.ProcessSpec] { command: "hello" args: "-name={{.Task.Name}}" configs { id: "config" name: "site" } health { tcp { port: 80 } } } } } resource_references { resource_id: "config" resource_type: CONFIG } } global { } }
service   id: "job" spec { annotations { name: "job" } task { container { image: "job" } } replicated_job { max_concurrent: 2 total_completions: 5 } } job_status { job_iteration { index: 4 } }
service   id: "sweep" spec { annotations { name: "sweep" } task { container { image: "sweep" } } global_job { } } job_status { job_iteration { index: 1 } }
task      id: "web.1" service_id: "web" slot: 1 node_id: "worker" spec_version { index: 7 } spec { container { image: "web:2" } } service_annotations { name: "web" labels { key: "tier" value: "front" } } status { state: RUNNING } desired_state: RUNNING
task      id: "web.2" service_id: "web" slot: 2 node_id: "gone" spec_version { index: 5 } spec { container { image: "web:1" } } service_annotations { name: "web" labels { key: "tier" value: "front" } } status { state: RUNNING container { container_id: "c" } } desired_state: SHUTDOWN
task      id: "web.3" service_id: "web" slot: 3 node_id: "gone" spec_version { index: 7 } spec { container { image: "web:2" } } service_annotations { name: "web" } status { state: COMPLETE } desired_state: RUNNING
task      id: "hello.1" service_id: "hello" node_id: "worker" spec { generic { kind: "process" } } service_annotations { name: "hello" } status { state: STARTING } desired_state: RUNNING
task      id: "job.0" service_id: "job" slot: 0 job_iteration { index: 4 } status { state: COMPLETE } desired_state: COMPLETE
task      id: "job.1" service_id: "job" slot: 1 job_iteration { index: 3 } status { state: COMPLETE } desired_state: COMPLETE
task      id: "job.2" service_id: "job" slot: 2 job_iteration { index: 4 } status { state: RUNNING } desired_state: COMPLETE
task      id: "sweep.1" service_id: "sweep" node_id: "worker" job_iteration { index: 1 } status { state: RUNNING } desired_state: COMPLETE
task      id: "sweep.2" service_id: "sweep" node_id: "manager" job_iteration { index: 1 } status { state: COMPLETE } desired_state: COMPLETE
task      id: "lost" service_id: "removed" spec { attachment { } } annotations { name: "lost" }
`

// now is when everything in these tests happens.
func now() time.Time { return time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC) }

// newStore returns a store that holds the objects of text; all have version 1.
func newStore(t testing.TB, text string) *store.Store {
	t.Helper()
	var all []store.Object
	for line := range lines(text) {
		all = append(all, object(t, line))
	}
	return storeOf(t, all)
}

// storeOf returns a store that holds copies of objects.
func storeOf(t testing.TB, all []store.Object) *store.Store {
	t.Helper()
	s := store.NewLocal(store.Config{Now: now, Freeze: true})
	err := s.Update(t.Context(), func(tx *store.Tx) error {
		for _, o := range all {
			if err := tx.Create(proto.Clone(o).(store.Object)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// newServer returns a server over s. Its IDs are id1, id2, …; the node called
// manager is the only member of raft.
func newServer(s *store.Store) *controlapi.Server {
	var n atomic.Int64
	return controlapi.New(controlapi.Config{
		Store:          s,
		NewID:          func() string { return fmt.Sprintf("id%d", n.Add(1)) },
		CheckTemplates: template.Check,
		Now:            now,
		Members: func() []*api.RaftMember {
			return []*api.RaftMember{{RaftId: 9, NodeId: "manager", Addr: "10.0.0.1:4242", Status: &api.RaftMemberStatus{Leader: true, Reachability: api.RaftMemberStatus_REACHABLE}}}
		},
		NewJoinToken: func(caCert []byte) (string, error) { return "NEW-" + string(caCert), nil },
	})
}

// stateOf returns a hash of all that a store holds.
func stateOf(s *store.Store) string {
	snapshot := s.Read()
	h := xxhash.New()
	fmt.Fprintln(h, snapshot.Version())
	for o := range objects(snapshot) {
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(o)
		if err != nil {
			return err.Error()
		}
		fmt.Fprintln(h, store.KindOf(o), o.GetId(), len(b))
		_, _ = h.Write(b)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func objects(s *store.Snapshot) func(yield func(store.Object) bool) {
	return func(yield func(store.Object) bool) {
		_ = each(s.Nodes, yield) && each(s.Services, yield) && each(s.Tasks, yield) && each(s.Networks, yield) && each(s.Clusters, yield) &&
			each(s.Secrets, yield) && each(s.Configs, yield) && each(s.Volumes, yield) && each(s.Extensions, yield) && each(s.Resources, yield)
	}
}

func each[T store.Object](t store.Table[T], yield func(store.Object) bool) bool {
	for o := range t.All() {
		if !yield(o) {
			return false
		}
	}
	return true
}

func parse[M proto.Message](t testing.TB, m M, text string) M {
	t.Helper()
	if err := prototext.Unmarshal([]byte(text), m); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return m
}

// sensible reports whether a client can make sense of err: an error with a kind,
// and not one that says that the manager itself is broken.
func sensible(err error) bool {
	switch model.KindOf(err) {
	case model.Internal, model.Unknown, model.Unavailable:
		return false
	}
	return err.Error() != ""
}

func lines(text string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for line := range strings.Lines(text) {
			if strings.TrimSpace(line) != "" && !yield(line) {
				return
			}
		}
	}
}

// object reads "kind fields…".
func object(t testing.TB, line string) store.Object {
	t.Helper()
	kind, fields, _ := strings.Cut(strings.TrimSpace(line), " ")
	kinds := map[string]store.Object{
		"node": &api.Node{}, "service": &api.Service{}, "task": &api.Task{}, "network": &api.Network{}, "cluster": &api.Cluster{},
		"secret": &api.Secret{}, "config": &api.Config{}, "volume": &api.Volume{}, "extension": &api.Extension{}, "resource": &api.Resource{},
	}
	o, ok := kinds[kind]
	if !ok {
		t.Fatalf("no kind is called %q", kind)
	}
	return parse(t, o, fields)
}
