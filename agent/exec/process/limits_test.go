package process_test

import (
	"strings"
	"testing"

	"skep/agent/exec"
	"skep/agent/exec/exectest"
	"skep/agent/exec/process"
	"skep/api"
)

// Where the machine has no cgroups for us the task runs without limits, and the
// node says why; where it has them the limits hold.
func TestLimitsHoldOrTheNodeSaysWhyNot(t *testing.T) {
	t.Parallel()
	e := newMachine(t).open(t)
	description, err := e.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	note := description.GetEngine().GetLabels()[process.LabelLimits]
	t.Log("limits:", note)

	limited := func(workload ...string) exec.Controller {
		task := taskOf(newID(), running(workload[0], workload[1:]...))
		task.Spec.Resources = &api.ResourceRequirements{Limits: &api.Resources{NanoCpus: 5e8, MemoryBytes: 64 << 20}}
		return start(t, e, task, exectest.Dependencies{})
	}
	if err := limited("exit", "0").Wait(t.Context()); err != nil {
		t.Errorf("wait: %v", err)
	}
	switch {
	case strings.HasPrefix(note, "cgroup v"):
		wantExit(t, limited("hog").Wait(t.Context()), 137, "out of memory")
	case !strings.HasPrefix(note, "none: "):
		t.Errorf("label %s is %q, want a version of cgroups or a reason", process.LabelLimits, note)
	}
}
