package storetest

import (
	"fmt"

	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"skep/api"
	"skep/model"
	"skep/store"
)

// Step draws one or more writes and does them. It must not fail: what it writes
// is drawn from what the transaction has.
type Step func(t *rapid.T, tx *store.Tx)

// AnyWrite is the step that CheckView takes if it is given none: it creates,
// changes and removes nodes, services and tasks (on any node or none, in any
// state, with and without a service), now and then a secret, config or network.
// IDs and names come from a small set, so that objects meet and come back.
func AnyWrite(t *rapid.T, tx *store.Tx) {
	switch rapid.SampledFrom([]store.Kind{
		store.KindTask, store.KindTask, store.KindTask, store.KindTask,
		store.KindNode, store.KindService, store.KindSecret, store.KindConfig, store.KindNetwork,
	}).Draw(t, "kind") {
	case store.KindTask:
		write(t, tx, store.KindTask, id(t, "task", 12), anyTask)
	case store.KindNode:
		write(t, tx, store.KindNode, id(t, "node", 4), anyNode)
	case store.KindService:
		write(t, tx, store.KindService, id(t, "service", 3), anyService)
	case store.KindSecret:
		write(t, tx, store.KindSecret, id(t, "secret", 2), func(t *rapid.T, s *api.Secret) {
			s.Spec = &api.SecretSpec{Annotations: named(s.Id), Data: []byte(rapid.StringN(0, 4, -1).Draw(t, "data"))}
		})
	case store.KindConfig:
		write(t, tx, store.KindConfig, id(t, "config", 2), func(t *rapid.T, c *api.Config) {
			c.Spec = &api.ConfigSpec{Annotations: named(c.Id), Data: []byte(rapid.StringN(0, 4, -1).Draw(t, "data"))}
		})
	case store.KindNetwork:
		write(t, tx, store.KindNetwork, id(t, "network", 2), func(t *rapid.T, n *api.Network) {
			n.Spec = &api.NetworkSpec{Annotations: named(n.Id), Attachable: rapid.Bool().Draw(t, "attachable")}
		})
	}
}

// write creates the object if there is none, else changes or removes it.
func write[T store.Object](t *rapid.T, tx *store.Tx, kind store.Kind, id string, change func(*rapid.T, T)) {
	old, ok := store.Get[T](tx.Snapshot, id)
	var err error
	switch {
	case !ok:
		o := fresh(kind, id).(T)
		change(t, o)
		err = tx.Create(o)
	case rapid.IntRange(0, 3).Draw(t, "remove") == 0:
		err = tx.Remove(kind, id)
	default:
		o := model.Shallow(old)
		change(t, o)
		err = tx.Update(o)
	}
	if err != nil {
		t.Fatalf("write %s %s: %v", kind, id, err)
	}
}

func fresh(kind store.Kind, id string) store.Object {
	switch kind {
	case store.KindNode:
		return &api.Node{Id: id}
	case store.KindService:
		return &api.Service{Id: id}
	case store.KindSecret:
		return &api.Secret{Id: id}
	case store.KindConfig:
		return &api.Config{Id: id}
	case store.KindNetwork:
		return &api.Network{Id: id}
	}
	return &api.Task{Id: id}
}

func id(t *rapid.T, kind string, n int) string {
	return fmt.Sprintf("%s%d", kind, rapid.IntRange(1, n).Draw(t, kind))
}

func named(name string) *api.Annotations { return &api.Annotations{Name: "the " + name} }

func anyNode(t *rapid.T, n *api.Node) {
	n.Role = api.NodeRole(rapid.IntRange(0, 1).Draw(t, "role"))
	n.Spec = &api.NodeSpec{
		Annotations:  &api.Annotations{Labels: map[string]string{"zone": rapid.SampledFrom([]string{"a", "b"}).Draw(t, "zone")}},
		Membership:   api.NodeSpec_ACCEPTED,
		Availability: api.NodeSpec_Availability(rapid.IntRange(0, 2).Draw(t, "availability")),
	}
	n.Status = &api.NodeStatus{State: api.NodeStatus_State(rapid.IntRange(0, 3).Draw(t, "state"))}
	n.Description = &api.NodeDescription{
		Hostname:  n.Id,
		Resources: &api.Resources{NanoCpus: 4e9, MemoryBytes: 8 << 30},
	}
}

func anyService(t *rapid.T, s *api.Service) {
	s.Spec = &api.ServiceSpec{
		Annotations: named(s.Id),
		Task:        anyTaskSpec(t),
		Mode:        &api.ServiceSpec_Replicated{Replicated: &api.ReplicatedService{Replicas: uint64(rapid.IntRange(0, 4).Draw(t, "replicas"))}},
	}
}

func anyTaskSpec(t *rapid.T) *api.TaskSpec {
	spec := &api.TaskSpec{
		Resources: &api.ResourceRequirements{Reservations: &api.Resources{
			NanoCpus: int64(rapid.IntRange(0, 2).Draw(t, "cpu")) * 1e9, MemoryBytes: int64(rapid.IntRange(0, 2).Draw(t, "memory")) << 30,
		}},
	}
	if rapid.Bool().Draw(t, "needs a secret") {
		spec.ResourceReferences = append(spec.ResourceReferences,
			&api.ResourceReference{ResourceId: id(t, "secret", 2), ResourceType: api.ResourceType_SECRET})
	}
	return spec
}

func anyTask(t *rapid.T, task *api.Task) {
	if task.Meta == nil { // what a task is for never changes
		task.Spec = anyTaskSpec(t)
		if rapid.IntRange(0, 4).Draw(t, "of a service") > 0 {
			task.ServiceId = id(t, "service", 3)
			task.Slot = uint64(rapid.IntRange(1, 3).Draw(t, "slot"))
		}
	}
	if rapid.Bool().Draw(t, "assigned") {
		task.NodeId = id(t, "node", 4)
	} else {
		task.NodeId = ""
	}
	states := []api.TaskState{
		api.TaskState_NEW, api.TaskState_PENDING, api.TaskState_ASSIGNED, api.TaskState_ACCEPTED, api.TaskState_READY,
		api.TaskState_RUNNING, api.TaskState_COMPLETE, api.TaskState_SHUTDOWN, api.TaskState_FAILED, api.TaskState_REJECTED, api.TaskState_ORPHANED,
	}
	task.Status = &api.TaskStatus{
		State:     rapid.SampledFrom(states).Draw(t, "state"),
		Timestamp: &timestamppb.Timestamp{Seconds: int64(rapid.IntRange(0, 5).Draw(t, "since"))},
	}
	task.DesiredState = rapid.SampledFrom([]api.TaskState{
		api.TaskState_READY, api.TaskState_RUNNING, api.TaskState_SHUTDOWN, api.TaskState_REMOVE,
	}).Draw(t, "desired")
}
