package dispatcher

import (
	"context"
	"time"

	"google.golang.org/grpc"

	"skep/api"
	"skep/control/dispatch"
	"skep/model"
	"skep/store"
)

// Assignments sends the node what it should have: all of it, then each change.
// Changes that come while a message is being sent go together in the next.
func (d *Dispatcher) Assignments(request *api.AssignmentsRequest, stream grpc.ServerStreamingServer[api.AssignmentsMessage]) error {
	return d.assign(stream.Context(), request.GetSessionId(), func(_ *dispatch.Set, messages []*api.AssignmentsMessage) error {
		for _, message := range messages {
			if err := stream.Send(message); err != nil {
				return err
			}
		}
		return nil
	})
}

// Tasks is Assignments for workers from before it: the whole list of tasks
// whenever one of them changes, without secrets and configs.
func (d *Dispatcher) Tasks(request *api.TasksRequest, stream grpc.ServerStreamingServer[api.TasksMessage]) error {
	return d.assign(stream.Context(), request.GetSessionId(), func(set *dispatch.Set, messages []*api.AssignmentsMessage) error {
		for _, message := range messages {
			if message.GetType() == api.AssignmentsMessage_COMPLETE || aboutTasks(message) {
				return stream.Send(&api.TasksMessage{Tasks: set.Tasks()})
			}
		}
		return nil
	})
}

func aboutTasks(message *api.AssignmentsMessage) bool {
	for _, change := range message.GetChanges() {
		if change.GetAssignment().GetTask() != nil {
			return true
		}
	}
	return false
}

// assign calls send with what the caller's node lacks until its session, its
// stream or ctx ends.
func (d *Dispatcher) assign(ctx context.Context, id string, send func(*dispatch.Set, []*api.AssignmentsMessage) error) error {
	caller, err := callerOf(ctx)
	if err != nil {
		return err
	}
	s, taken, err := d.sessions.openAssignments(caller.NodeID, id, time.Now())
	if err != nil {
		return err
	}
	snapshot, tasks := d.store.Subscribe(waiting, store.NodeTasks(s.node))
	defer tasks.Close()
	needs := needs{store: d.store}
	defer needs.close()

	set := dispatch.NewSet(s.node)
	messages := set.Complete(snapshot)
	for {
		// Needs that are new are watched from a snapshot that is as new, so that
		// nothing falls between.
		if snapshot := needs.follow(set); snapshot != nil {
			messages = append(messages, set.Resolve(snapshot)...)
		}
		if err := send(set, messages); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-taken:
			return model.Errorf(model.Conflict, "node %s opened its assignments again", s.node)
		case <-s.ended:
			return s.why
		case <-tasks.Ready():
			if commits, resync := tasks.Take(); resync {
				messages = set.Sync(tasks.Resync())
			} else {
				messages = set.Apply(d.store.Read(), commits)
			}
		case <-needs.ready():
			messages = set.Resolve(needs.take())
		}
	}
}

// needs watches the secrets and configs of one set. A node without any costs
// nothing, and a change of one concerns only the nodes that have it.
type needs struct {
	store   *store.Store
	version uint64
	watched *store.Subscription
}

// follow watches the needs of set. If they are others than before it returns
// the snapshot from which it does.
func (n *needs) follow(set *dispatch.Set) *store.Snapshot {
	if set.NeedsVersion() == n.version {
		return nil
	}
	n.close()
	var keys []store.Key
	if keys, n.version = set.Needs(); len(keys) == 0 {
		return nil
	}
	var snapshot *store.Snapshot
	snapshot, n.watched = n.store.Subscribe(waiting, keys...)
	return snapshot
}

func (n *needs) ready() <-chan struct{} {
	if n.watched == nil {
		return nil
	}
	return n.watched.Ready()
}

// take returns the state to look the needs up in.
func (n *needs) take() *store.Snapshot {
	if _, resync := n.watched.Take(); resync {
		return n.watched.Resync()
	}
	return n.store.Read()
}

func (n *needs) close() {
	if n.watched != nil {
		n.watched.Close()
		n.watched = nil
	}
}
