package dispatch_test

import (
	"testing"
	"time"

	"skep/api"
	"skep/control/dispatch"
	"skep/loop"
	"skep/loop/looptest"
	"skep/model"
	"skep/store"
)

func TestTasksOfANodeThatWasDownForADayAreOrphaned(t *testing.T) {
	t.Parallel()
	now := start
	s := store.NewLocal(store.Config{Freeze: true, Now: func() time.Time { return now }})
	create(t, s, &api.Node{Id: node, Status: &api.NodeStatus{State: api.NodeStatus_READY}},
		newTask("running", api.TaskState_RUNNING), newTask("failed", api.TaskState_FAILED))
	other := newTask("elsewhere", api.TaskState_RUNNING)
	other.NodeId = "other"
	create(t, s, other)
	runner := loop.NewRunner(loop.Config{Store: s, Loops: []loop.Any{dispatch.Orphans("m1")}, Check: looptest.WriteRules})
	defer runner.Close()
	setNode(t, s, api.NodeStatus_DOWN)

	next := step(t, runner, now)
	if want := now.Add(dispatch.OrphanAfter); !next.Equal(want) {
		t.Fatalf("it wakes at %v, want %v", next, want)
	}
	expect := func(id string, want api.TaskState) {
		t.Helper()
		if task, _ := s.Read().Tasks.Get(id); task.GetStatus().GetState() != want {
			t.Fatalf("%s is %v, want %v", id, task.GetStatus().GetState(), want)
		}
	}
	expect("running", api.TaskState_RUNNING)
	now = next
	step(t, runner, now)
	expect("running", api.TaskState_ORPHANED)
	expect("failed", api.TaskState_FAILED)
	expect("elsewhere", api.TaskState_RUNNING)
}

func TestANodeThatCameBackKeepsItsTasks(t *testing.T) {
	t.Parallel()
	now := start
	s := store.NewLocal(store.Config{Now: func() time.Time { return now }})
	create(t, s, &api.Node{Id: node, Status: &api.NodeStatus{State: api.NodeStatus_DOWN}}, newTask("running", api.TaskState_RUNNING))
	runner := loop.NewRunner(loop.Config{Store: s, Loops: []loop.Any{dispatch.Orphans("m1")}, Check: looptest.WriteRules})
	defer runner.Close()
	step(t, runner, now)
	now = now.Add(time.Hour)
	setNode(t, s, api.NodeStatus_READY)
	if next := step(t, runner, now); !next.IsZero() {
		t.Fatalf("it still wakes at %v", next)
	}
}

func step(t *testing.T, runner *loop.Runner, now time.Time) (next time.Time) {
	t.Helper()
	for busy := true; busy; {
		var err error
		if next, busy, err = runner.Step(now); err != nil {
			t.Fatal(err)
		}
	}
	return next
}

func setNode(t *testing.T, s *store.Store, state api.NodeStatus_State) {
	t.Helper()
	if _, err := store.Edit(t.Context(), s, node, nil, func(n *api.Node) error {
		n.Status = model.Shallow(n.GetStatus())
		n.Status.State = state
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
