package model

import (
	"slices"

	"google.golang.org/protobuf/proto"

	"skep/api"
)

// Outdated reports whether task runs something else than service now asks for,
// so that an update has to replace it. node is where the task runs, nil if it is
// nowhere. A task whose spec differs is still up to date when what differs makes
// no difference to it: how its image would be pulled, once it has been, or
// constraints that its node meets.
func Outdated(service *api.Service, task *api.Task, node *api.Node) bool {
	if v := task.GetSpecVersion(); v != nil && service.GetSpecVersion() != nil && v.GetIndex() == service.GetSpecVersion().GetIndex() {
		return false
	}
	if e := task.GetEndpoint(); e != nil && !sameEndpoint(service.GetSpec().GetEndpoint(), e.GetSpec()) {
		return true
	}
	want, have := service.GetSpec().GetTask(), task.GetSpec()
	if want == nil || have == nil {
		return want != have
	}
	if node != nil && !proto.Equal(want.GetPlacement(), have.GetPlacement()) && meets(node, want.GetPlacement()) {
		have = Shallow(have)
		have.Placement = want.GetPlacement()
	}
	if Wanted(task.GetDesiredState()) && pulled(task.GetStatus().GetState()) {
		want, have = withoutPull(want), withoutPull(have)
	}
	return !proto.Equal(want, have)
}

func sameEndpoint(a, b *api.EndpointSpec) bool {
	return proto.Equal(a, b) || proto.Size(a) == 0 && proto.Size(b) == 0
}

// pulled reports whether a task in state s has its image and still needs it.
func pulled(s api.TaskState) bool {
	return s >= api.TaskState_READY && s <= api.TaskState_RUNNING
}

func meets(node *api.Node, p *api.Placement) bool {
	constraints, err := ParseConstraints(p.GetConstraints())
	return err == nil && !slices.ContainsFunc(constraints, func(c Constraint) bool { return !c.Matches(node) })
}

func withoutPull(spec *api.TaskSpec) *api.TaskSpec {
	c := spec.GetContainer()
	if c.GetPullOptions() == nil {
		return spec
	}
	c = Shallow(c)
	c.PullOptions = nil
	spec = Shallow(spec)
	spec.Runtime = &api.TaskSpec_Container{Container: c}
	return spec
}
