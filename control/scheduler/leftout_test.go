package scheduler_test

import (
	"strings"
	"testing"
	"time"

	"skep/api"
	"skep/control/scheduler"
	"skep/loop"
	"skep/store"
)

// A task that the log does not take with a node in it keeps those behind it from
// being placed. That must not be for ever.
func TestATaskThatCannotBeWrittenIsTriedAgain(t *testing.T) {
	t.Parallel()
	s := store.NewLocal(store.Config{})
	task := func(id string, size int) *api.Task {
		return &api.Task{
			Id: id, ServiceId: "web", Slot: 1, SpecVersion: &api.Version{Index: 1}, DesiredState: api.TaskState_RUNNING,
			Status: &api.TaskStatus{State: api.TaskState_PENDING},
			Spec:   &api.TaskSpec{Runtime: &api.TaskSpec_Container{Container: &api.ContainerSpec{Image: "web", Env: []string{strings.Repeat("x", size)}}}},
		}
	}
	for _, o := range []store.Object{
		&api.Node{Id: "n", Status: &api.NodeStatus{State: api.NodeStatus_READY}, Spec: &api.NodeSpec{}, Description: &api.NodeDescription{}},
		task("a", 1450<<10), task("b", 1),
	} {
		if err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.Create(o) }); err != nil {
			t.Fatal(err)
		}
	}
	r := loop.NewRunner(loop.Config{Store: s, Loops: []loop.Any{scheduler.Loop()}})
	defer r.Close()
	start := time.Unix(1000, 0)
	next, busy, err := r.Step(start)
	if err == nil || busy || !next.After(start) {
		t.Fatalf("next %v, busy %v, error %v; want an error and another try later", next, busy, err)
	}
	if err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.Remove(store.KindTask, "a") }); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Step(next); err != nil {
		t.Fatal(err)
	}
	if b, _ := s.Read().Tasks.Get("b"); b.GetNodeId() != "n" {
		t.Errorf("the task behind it is %v", b.GetStatus())
	}
}
