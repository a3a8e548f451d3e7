package model

import (
	"strings"

	"skep/api"
)

const (
	minNanoCPUs    = 1_000_000 // a thousandth of a core
	minMemoryBytes = 4 << 20
	minRuntimeKind = 3

	maxConstraintLength = 1024
)

// RuntimeOf names the runtime that a task needs: "container", "attachment", or
// the kind of a generic runtime ("process"); empty when the spec names none.
func RuntimeOf(spec *api.TaskSpec) string {
	switch r := spec.GetRuntime().(type) {
	case *api.TaskSpec_Container:
		return "container"
	case *api.TaskSpec_Attachment:
		return "attachment"
	case *api.TaskSpec_Generic:
		return r.Generic.GetKind()
	}
	return ""
}

func checkTask(spec *api.TaskSpec) error {
	if err := checkResources("task.resources.limits", spec.GetResources().GetLimits()); err != nil {
		return err
	}
	if err := checkResources("task.resources.reservations", spec.GetResources().GetReservations()); err != nil {
		return err
	}
	for i, c := range spec.GetPlacement().GetConstraints() {
		if len(c) > maxConstraintLength {
			return Errorf(Invalid, "task.placement.constraints.%d, %.80q…, is too long: it has %d characters and may have %d; compare with something shorter", i, c, len(c), maxConstraintLength)
		}
	}
	if _, err := ParseConstraints(spec.GetPlacement().GetConstraints()); err != nil {
		return err
	}
	if err := checkResourceReferences(spec); err != nil {
		return err
	}
	return checkRuntime(spec)
}

func checkRuntime(spec *api.TaskSpec) error {
	switch r := spec.GetRuntime().(type) {
	case *api.TaskSpec_Container:
		return checkContainer(r.Container)
	case *api.TaskSpec_Generic:
		return checkGeneric(spec, r.Generic)
	case *api.TaskSpec_Attachment:
		return Errorf(Unimplemented, "the task has the attachment runtime: a service cannot be made of network attachments; use a container or a process")
	}
	return Errorf(Invalid, "the task has no runtime: nothing says what to run; set task.container or task.generic")
}

func checkGeneric(spec *api.TaskSpec, g *api.GenericRuntimeSpec) error {
	kind := g.GetKind()
	if len(kind) < minRuntimeKind {
		return Errorf(Invalid, "task.generic.kind is %q: a runtime's kind has at least %d characters; name one, such as %q", kind, minRuntimeKind, ProcessKind)
	}
	if strings.EqualFold(kind, "container") || strings.EqualFold(kind, "attachment") {
		return Errorf(Invalid, "task.generic.kind is %q: that runtime is built in; set task.%s instead", kind, strings.ToLower(kind))
	}
	if g.GetPayload().GetTypeUrl() == "" || len(g.GetPayload().GetValue()) == 0 {
		return Errorf(Invalid, "task.generic.payload is empty: a %.80q task needs a description with a type URL and a value; set both", kind)
	}
	if kind == ProcessKind {
		return checkProcess(spec)
	}
	return nil
}

// checkResources checks limits or reservations. Only counts can be asked for:
// which named ones a task gets is the scheduler's choice.
func checkResources(path string, r *api.Resources) error {
	if cpu := r.GetNanoCpus(); cpu != 0 && cpu < minNanoCPUs {
		return Errorf(Invalid, "%s.nano_cpus is %d: the smallest share is 0.001 of a core; give at least %d, or 0 for none", path, cpu, minNanoCPUs)
	}
	if mem := r.GetMemoryBytes(); mem != 0 && mem < minMemoryBytes {
		return Errorf(Invalid, "%s.memory_bytes is %d: nothing runs in less than 4 MiB; give at least %d, or 0 for none", path, mem, minMemoryBytes)
	}
	seen := make(map[string]bool, len(r.GetGeneric()))
	for i, g := range r.GetGeneric() {
		discrete := g.GetDiscreteResourceSpec()
		switch kind := discrete.GetKind(); {
		case discrete == nil:
			return Errorf(Invalid, "%s.generic.%d is not a count: a task asks for a number of a kind, the scheduler chooses which; use discrete_resource_spec", path, i)
		case kind == "":
			return Errorf(Invalid, "%s.generic.%d has no kind: nothing says what is counted; set its kind", path, i)
		case discrete.GetValue() < 0:
			return Errorf(Invalid, "%s.generic.%d asks for %d of %.80q: a count is not negative; give 0 or more", path, i, discrete.GetValue(), kind)
		case seen[kind]:
			return Errorf(Invalid, "%s.generic asks for %.80q twice: the counts would not be told apart; give one sum", path, kind)
		default:
			seen[kind] = true
		}
	}
	return nil
}

// checkResourceReferences checks that each reference names something.
func checkResourceReferences(spec *api.TaskSpec) error {
	for i, r := range spec.GetResourceReferences() {
		if r.GetResourceId() == "" {
			return Errorf(Invalid, "task.resource_references.%d has no ID: it refers to nothing; set resource_id", i)
		}
	}
	return nil
}
