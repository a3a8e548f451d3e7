package scheduler

import (
	"skep/api"
	"skep/model"
)

// node is what the view knows of a node: what it is and what is taken of it.
// Tasks may be on a node that is not there any more, or not yet; then object is
// nil.
type node struct {
	index  int // in view.nodes
	id     string
	object *api.Node

	allCPU, allMem int64 // what it has

	held    int32 // tasks that hold resources
	active  int32 // of these, those that are to run
	cpu     int64 // taken
	mem     int64
	generic model.GenericUse
	ports   map[port]int32
	pinned  queue // IDs of pending tasks that come with this node

	pools []*pool // that it is in
}

func (n *node) resources() *api.Resources { return n.object.GetDescription().GetResources() }

// describe takes over what the node says of itself.
func (n *node) describe(object *api.Node) {
	n.object = object
	n.allCPU, n.allMem = n.resources().GetNanoCpus(), n.resources().GetMemoryBytes()
}

func (n *node) freeCPU() int64 { return n.allCPU - n.cpu }

func (n *node) freeMem() int64 { return n.allMem - n.mem }

// unknown reports whether nothing is left to know of the node.
func (n *node) unknown() bool { return n.object == nil && n.held == 0 && n.pinned.len() == 0 }

// take counts what t holds, or with sign -1 gives it back.
func (n *node) take(t *api.Task, sign int32) {
	reserved := t.GetSpec().GetResources().GetReservations()
	n.held += sign
	n.cpu += int64(sign) * reserved.GetNanoCpus()
	n.mem += int64(sign) * reserved.GetMemoryBytes()
	if sign > 0 {
		n.generic.Take(t.GetAssignedGenericResources())
	} else {
		n.generic.Give(t.GetAssignedGenericResources())
	}
	for _, p := range portsOf(t) {
		if n.ports == nil {
			n.ports = map[port]int32{}
		}
		if n.ports[p] += sign; n.ports[p] == 0 {
			delete(n.ports, p)
		}
	}
	if active(t) {
		n.active += sign
	}
}

func (n *node) hasResources(d *need) bool {
	return (d.cpu == 0 || n.freeCPU() >= d.cpu) && (d.mem == 0 || n.freeMem() >= d.mem) &&
		(len(d.generic) == 0 || n.generic.Fits(n.resources().GetGeneric(), d.generic))
}

func (n *node) hasPorts(d *need) bool {
	for _, p := range d.ports {
		if n.ports[p] > 0 {
			return false
		}
	}
	return true
}

// holds reports whether t takes something of its node.
func holds(t *api.Task) bool {
	return t.GetNodeId() != "" && model.HoldsResources(t.GetStatus().GetState())
}

// active reports whether t counts among the tasks of its node.
func active(t *api.Task) bool {
	return holds(t) && t.GetDesiredState() <= api.TaskState_COMPLETE
}

// pending reports whether t is to be placed.
func pending(t *api.Task) bool {
	return t.GetStatus().GetState() == api.TaskState_PENDING && t.GetDesiredState() <= api.TaskState_COMPLETE
}

// sameHold reports whether a task takes of the view's nodes what it took before.
func sameHold(was, is *api.Task) bool {
	return was.GetNodeId() == is.GetNodeId() && was.GetServiceId() == is.GetServiceId() && holds(was) == holds(is) && active(was) == active(is) &&
		was.GetSpec() == is.GetSpec() && was.GetEndpoint() == is.GetEndpoint() &&
		sameSlice(was.GetAssignedGenericResources(), is.GetAssignedGenericResources())
}

// sameSlice reports whether two slices are one, as those of shallow copies are.
func sameSlice(a, b []*api.GenericResource) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}
