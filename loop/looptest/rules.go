package looptest

import (
	"fmt"

	"google.golang.org/protobuf/reflect/protoreflect"

	"skep/api"
	"skep/store"
)

// writers says which fields of a task each part, a loop by its name, may write once
// the task exists.
var writers = map[string]map[protoreflect.Name]bool{
	"orchestrator": fields("desired_state", "annotations"), // of these, why it was stopped
	"allocator":    fields("networks", "endpoint", "volumes", "annotations", "service_annotations", "log_driver", "status"),
	"scheduler":    fields("node_id", "assigned_generic_resources", "status"),
	"agent":        fields("status"),
	"orphans":      fields("status"),
	"reaper":       fields("desired_state"),
}

// states says which observed states each part may write, from and to.
var states = map[string][2]api.TaskState{
	"allocator": {api.TaskState_NEW, api.TaskState_PENDING},
	"scheduler": {api.TaskState_PENDING, api.TaskState_ASSIGNED},
	"agent":     {api.TaskState_ACCEPTED, api.TaskState_REJECTED},
	"orphans":   {api.TaskState_ORPHANED, api.TaskState_ORPHANED},
}

// created are the fields that a task has when the orchestrator creates it.
var created = fields("id", "meta", "spec", "spec_version", "service_id", "slot", "node_id", "status", "desired_state", "job_iteration")

func fields(names ...protoreflect.Name) map[protoreflect.Name]bool {
	set := map[protoreflect.Name]bool{}
	for _, n := range names {
		set[n] = true
	}
	return set
}

// WriteRules returns an error if a part of the system, by its name, wrote what
// is not its own: a field of a task outside the table in docs/ARCHITECTURE.md, or
// a state that goes back. It fits loop.Config.Check.
func WriteRules(writer string, c store.Change) error {
	if c.Kind != store.KindTask {
		return nil
	}
	was, _ := c.Old.(*api.Task)
	is, _ := c.New.(*api.Task)
	switch {
	case is == nil:
		if writer != "reaper" {
			return fmt.Errorf("%s removed task %s, which only the reaper may", writer, c.ID())
		}
		return nil
	case was == nil:
		return checkCreated(writer, is)
	}
	return checkChanged(writer, was, is)
}

func checkCreated(writer string, t *api.Task) error {
	if writer != "orchestrator" {
		return fmt.Errorf("%s created task %s, which only the orchestrator may", writer, t.GetId())
	}
	if s := t.GetStatus().GetState(); s != api.TaskState_NEW {
		return fmt.Errorf("task %s was created in state %s", t.GetId(), s)
	}
	var err error
	t.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if !created[f.Name()] {
			err = fmt.Errorf("%s created task %s with %s, which is not its own", writer, t.GetId(), f.Name())
		}
		return err == nil
	})
	return err
}

func checkChanged(writer string, was, is *api.Task) error {
	own := writers[writer]
	all := was.ProtoReflect().Descriptor().Fields()
	for i := range all.Len() {
		f := all.Get(i)
		if f.Name() == "meta" || own[f.Name()] || equal(was, is, f) {
			continue
		}
		return fmt.Errorf("%s wrote %s of task %s, which is not its own", writer, f.Name(), is.GetId())
	}
	if is.GetDesiredState() < was.GetDesiredState() {
		return fmt.Errorf("%s lowered the desired state of task %s from %s to %s", writer, is.GetId(), was.GetDesiredState(), is.GetDesiredState())
	}
	from, to := was.GetStatus().GetState(), is.GetStatus().GetState()
	if to < from {
		return fmt.Errorf("%s took task %s back from %s to %s", writer, is.GetId(), from, to)
	}
	if span, ok := states[writer]; ok && from != to && (to < span[0] || to > span[1]) {
		return fmt.Errorf("%s took task %s from %s to %s, which is not its step", writer, is.GetId(), from, to)
	}
	return nil
}

func equal(was, is *api.Task, f protoreflect.FieldDescriptor) bool {
	a, b := was.ProtoReflect(), is.ProtoReflect()
	return a.Has(f) == b.Has(f) && (!a.Has(f) || a.Get(f).Equal(b.Get(f)))
}
