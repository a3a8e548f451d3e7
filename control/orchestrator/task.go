package orchestrator

import (
	"cmp"
	"maps"

	"google.golang.org/protobuf/types/known/timestamppb"

	"skep/api"
	"skep/model"
)

// member reports whether t keeps its slot among those of the service.
func member(t *api.Task) bool { return t.GetDesiredState() < api.TaskState_REMOVE }

// wanted reports whether t is the task that its slot is to run.
func wanted(t *api.Task) bool { return model.Wanted(t.GetDesiredState()) }

// ended reports whether t runs no more.
func ended(t *api.Task) bool { return model.Terminal(t.GetStatus().GetState()) }

// lost reports whether nobody can tell what happens on a node, as it is down or gone.
func lost(n *api.Node) bool {
	return n == nil || n.GetStatus().GetState() == api.NodeStatus_DOWN
}

func drained(n *api.Node) bool {
	return n.GetSpec().GetAvailability() == api.NodeSpec_DRAIN
}

// nodeOf returns the node that t is assigned to, nil if it is gone or there is none.
func (p *planning) nodeOf(t *api.Task) *api.Node {
	n, _ := p.s.Nodes.Get(t.GetNodeId())
	return n
}

// stopped reports whether t, which is not wanted, cannot be running: it ended,
// it was never given to a node, or nobody can tell.
func (p *planning) stopped(t *api.Task) bool {
	return ended(t) || t.GetStatus().GetState() < api.TaskState_ASSIGNED || lost(p.nodeOf(t))
}

// whyAway says what the node of t has to do with it that t is stopped; "" if t
// ended by itself.
func whyAway(t *api.Task, node *api.Node) string {
	name := cmp.Or(node.GetDescription().GetHostname(), t.GetNodeId())
	switch {
	case ended(t):
		return ""
	case node == nil:
		return "node " + name + " was removed"
	case lost(node):
		return "node " + name + " is down"
	}
	return "node " + name + " is drained"
}

// stop wants t to end, and notes why on it.
func (p *planning) stop(t *api.Task, why string) {
	t = model.Shallow(t)
	t.DesiredState = api.TaskState_SHUTDOWN
	if why != "" {
		labels := map[string]string{model.StoppedLabel: why}
		maps.Copy(labels, t.GetAnnotations().GetLabels())
		t.Annotations = &api.Annotations{
			Name: t.GetAnnotations().GetName(), Labels: labels, Indices: t.GetAnnotations().GetIndices(),
		}
	}
	p.out.Update(t)
}

// desire writes a new desired state.
func (p *planning) desire(t *api.Task, s api.TaskState) {
	t = model.Shallow(t)
	t.DesiredState = s
	p.out.Update(t)
}

// create makes the next task of a slot. The others in it say whether it may run
// at once or has to be READY first.
func (p *planning) create(svc *api.Service, slot uint64, others []*api.Task) {
	if p.status == nil {
		p.status = &api.TaskStatus{
			State:     api.TaskState_NEW,
			Timestamp: timestamppb.New(p.env.Now),
			Message:   "created",
		}
	}
	t := &api.Task{
		Id:           p.env.NewID(),
		ServiceId:    svc.GetId(),
		Slot:         slot,
		Spec:         svc.GetSpec().GetTask(),
		SpecVersion:  svc.GetSpecVersion(),
		Status:       p.status,
		DesiredState: api.TaskState_RUNNING,
	}
	if start, known := p.startsAt(svc, others); !known || start.After(p.env.Now) {
		t.DesiredState = api.TaskState_READY
	}
	p.out.Create(t)
}
