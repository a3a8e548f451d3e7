package dispatch

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"skep/api"
	"skep/loop"
	"skep/model"
	"skep/store"
)

// OrphanAfter is how long a node is down until its tasks are given up.
const OrphanAfter = 24 * time.Hour

// Orphans is the loop, keyed by node, that makes the tasks of a node ORPHANED
// once it has been DOWN for OrphanAfter: what they do is unknown and will not be
// learned, and whoever waits for their resources waits no more.
//
// How long a node is down is counted from the last write to its object, which
// every manager knows: a change of leader does not start the day anew, and a
// change of the node by somebody else only puts the end off.
func Orphans(self string) loop.Loop[string] {
	return loop.Loop[string]{
		Name: "orphans",
		Keys: func(c store.Change, dirty func(string)) {
			if c.Kind != store.KindNode {
				return
			}
			// Also when it is down no more, which forgets the time to wake.
			if down(c.Old) || down(c.New) {
				dirty(c.ID())
			}
		},
		All: func(s *store.Snapshot, dirty func(string)) {
			for node := range s.Nodes.All() {
				if down(node) {
					dirty(node.GetId())
				}
			}
		},
		Plan: func(env *loop.Env, s *store.Snapshot, nodes []string, out *loop.Plan[string]) {
			for _, id := range nodes {
				orphan(env, s, id, self, out)
			}
		},
	}
}

func down(o store.Object) bool {
	node, _ := o.(*api.Node)
	return node.GetStatus().GetState() == api.NodeStatus_DOWN
}

func orphan(env *loop.Env, s *store.Snapshot, id, self string, out *loop.Plan[string]) {
	node, ok := s.Nodes.Get(id)
	if !ok || !down(node) {
		return
	}
	if due := node.GetMeta().GetUpdatedAt().AsTime().Add(OrphanAfter); env.Now.Before(due) {
		out.WakeAt(id, due)
		return
	}
	var lost []*api.Task
	for task := range s.TasksOn(id) {
		if model.HoldsResources(task.GetStatus().GetState()) {
			lost = append(lost, task)
		}
	}
	for _, task := range lost {
		if out.Full() {
			out.Again(id)
			return
		}
		task = model.Shallow(task)
		task.Status = model.Shallow(task.GetStatus())
		task.Status.State = api.TaskState_ORPHANED
		task.Status.Message = "the node has been down for a day: what became of the task is unknown"
		task.Status.Timestamp = timestamppb.New(env.Now)
		task.Status.AppliedBy = self
		task.Status.AppliedAt = timestamppb.New(env.Now)
		out.Update(task)
	}
}
