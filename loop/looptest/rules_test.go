package looptest_test

import (
	"testing"

	"skep/api"
	"skep/loop/looptest"
	"skep/model"
	"skep/store"
)

func TestEachPartWritesItsOwnFieldsOnly(t *testing.T) {
	t.Parallel()
	task := &api.Task{Id: "t", ServiceId: "web", Status: &api.TaskStatus{State: api.TaskState_RUNNING}, DesiredState: api.TaskState_RUNNING}
	state := func(s api.TaskState) func(*api.Task) {
		return func(t *api.Task) { t.Status = &api.TaskStatus{State: s} }
	}
	desired := func(s api.TaskState) func(*api.Task) { return func(t *api.Task) { t.DesiredState = s } }
	node := func(t *api.Task) { t.NodeId = "n" }
	for name, c := range map[string]struct {
		writer  string
		write   func(*api.Task)
		allowed bool
	}{
		"the orchestrator stops a task":              {"orchestrator", desired(api.TaskState_SHUTDOWN), true},
		"the orchestrator takes a stop back":         {"orchestrator", desired(api.TaskState_READY), false},
		"the orchestrator places a task":             {"orchestrator", node, false},
		"the scheduler places a task":                {"scheduler", node, true},
		"the scheduler stops a task":                 {"scheduler", desired(api.TaskState_SHUTDOWN), false},
		"an agent says that its task failed":         {"agent", state(api.TaskState_FAILED), true},
		"an agent takes a state back":                {"agent", state(api.TaskState_STARTING), false},
		"an agent gives its task up":                 {"agent", state(api.TaskState_ORPHANED), false},
		"a task of a lost node is given up":          {"orphans", state(api.TaskState_ORPHANED), true},
		"a task of a lost node is said to fail":      {"orphans", state(api.TaskState_FAILED), false},
		"somebody who is not in the table writes it": {"somebody", state(api.TaskState_FAILED), false},
	} {
		is := model.Shallow(task)
		c.write(is)
		err := looptest.WriteRules(c.writer, store.Change{Kind: store.KindTask, Old: task, New: is})
		if (err == nil) != c.allowed {
			t.Errorf("%s: allowed %v, want %v (%v)", name, err == nil, c.allowed, err)
		}
	}
}

func TestTasksComeFromTheOrchestratorAndGoWithTheReaper(t *testing.T) {
	t.Parallel()
	task := &api.Task{Id: "t", ServiceId: "web", Status: &api.TaskStatus{State: api.TaskState_NEW}}
	for _, writer := range []string{"orchestrator", "scheduler", "reaper"} {
		created := looptest.WriteRules(writer, store.Change{Kind: store.KindTask, New: task}) == nil
		removed := looptest.WriteRules(writer, store.Change{Kind: store.KindTask, Old: task}) == nil
		if created != (writer == "orchestrator") || removed != (writer == "reaper") {
			t.Errorf("%s: may create %v, may remove %v", writer, created, removed)
		}
	}
}
