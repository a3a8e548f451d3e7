package controlapi

import (
	"context"
	"iter"
	"slices"

	"skep/api"
	"skep/model"
	"skep/store"
)

// GetTask returns a task.
func (s *Server) GetTask(_ context.Context, r *api.GetTaskRequest) (*api.GetTaskResponse, error) {
	t, err := find[*api.Task](s.store.Read(), r.GetTaskId())
	if err != nil {
		return nil, err
	}
	return &api.GetTaskResponse{Task: t}, nil
}

// ListTasks returns the tasks that meet the filters. Names are those that
// model.TaskName makes, labels those of the service.
func (s *Server) ListTasks(_ context.Context, r *api.ListTasksRequest) (*api.ListTasksResponse, error) {
	f, snapshot := r.GetFilters(), s.store.Read()
	tasks := list(candidates(snapshot, f), func(t *api.Task) bool {
		name := ""
		if len(f.GetNames())+len(f.GetNamePrefixes()) > 0 {
			name = model.TaskName(t)
		}
		return holdAll(f, t.GetId(), name, t.GetServiceAnnotations().GetLabels()) &&
			among(f.GetServiceIds(), t.GetServiceId()) &&
			among(f.GetNodeIds(), t.GetNodeId()) &&
			among(f.GetDesiredStates(), t.GetDesiredState()) &&
			among(f.GetRuntimes(), model.RuntimeOf(t.GetSpec())) &&
			(!f.GetUpToDate() || upToDate(snapshot, t))
	})
	return &api.ListTasksResponse{Tasks: tasks}, nil
}

// RemoveTask forgets a task; its agent stops it. A service that wants it makes
// another one.
func (s *Server) RemoveTask(ctx context.Context, r *api.RemoveTaskRequest) (*api.RemoveTaskResponse, error) {
	if err := remove(ctx, s, r.GetTaskId(), func(*store.Tx, *api.Task) error { return nil }); err != nil {
		return nil, err
	}
	return &api.RemoveTaskResponse{}, nil
}

// candidates yields the tasks that may meet f, from the narrowest look-up there is.
func candidates(s *store.Snapshot, f *api.ListTasksRequest_Filters) iter.Seq[*api.Task] {
	lookUp, ids := s.TasksOf, f.GetServiceIds()
	if len(ids) == 0 {
		lookUp, ids = s.TasksOn, f.GetNodeIds()
	}
	// No look-up finds what belongs to no service, or to no node.
	if len(ids) == 0 || slices.Contains(ids, "") {
		return s.Tasks.All()
	}
	ids = slices.Compact(slices.Sorted(slices.Values(ids))) // one may be asked for a million times
	return func(yield func(*api.Task) bool) {
		for _, id := range ids {
			for t := range lookUp(id) {
				if !yield(t) {
					return
				}
			}
		}
	}
}

func upToDate(s *store.Snapshot, t *api.Task) bool {
	service, ok := s.Services.Get(t.GetServiceId())
	if !ok {
		return false
	}
	node, _ := s.Nodes.Get(t.GetNodeId())
	return !model.Outdated(service, t, node)
}
