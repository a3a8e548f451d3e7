package controlapi

import (
	"context"

	"skep/api"
	"skep/store"
)

// ListServiceStatuses counts the tasks of each service that is asked for, in the
// order asked; of one that does not exist there are none.
func (s *Server) ListServiceStatuses(_ context.Context, r *api.ListServiceStatusesRequest) (*api.ListServiceStatusesResponse, error) {
	snapshot := s.store.Read()
	statuses := make([]*api.ListServiceStatusesResponse_ServiceStatus, len(r.GetServices()))
	counted := make(map[string]*api.ListServiceStatusesResponse_ServiceStatus, min(len(statuses), snapshot.Services.Len()))
	for i, id := range r.GetServices() {
		if counted[id] == nil { // one may be asked for a million times
			counted[id] = statusOf(snapshot, id)
		}
		statuses[i] = counted[id]
	}
	return &api.ListServiceStatusesResponse{Statuses: statuses}, nil
}

// statusOf counts over the look-up of the service's tasks, without copies. Of a
// job only the tasks of its current iteration count as desired or completed.
func statusOf(s *store.Snapshot, id string) *api.ListServiceStatusesResponse_ServiceStatus {
	status := &api.ListServiceStatusesResponse_ServiceStatus{ServiceId: id}
	service, ok := s.Services.Get(id)
	if !ok {
		return status
	}
	iteration := service.GetJobStatus().GetJobIteration().GetIndex()
	var wanted, unfinished uint64
	for t := range s.TasksOf(id) {
		state := t.GetStatus().GetState()
		current := t.GetJobIteration().GetIndex() == iteration
		if state == api.TaskState_RUNNING {
			status.RunningTasks++
		}
		if t.GetDesiredState() == api.TaskState_RUNNING {
			wanted++
		}
		switch {
		case !current:
		case state == api.TaskState_COMPLETE:
			status.CompletedTasks++
		case t.GetDesiredState() == api.TaskState_COMPLETE:
			unfinished++
		}
	}
	switch mode := service.GetSpec().GetMode().(type) {
	case *api.ServiceSpec_Replicated:
		status.DesiredTasks, status.CompletedTasks = mode.Replicated.GetReplicas(), 0
	case *api.ServiceSpec_Global:
		status.DesiredTasks, status.CompletedTasks = wanted, 0
	case *api.ServiceSpec_ReplicatedJob:
		status.DesiredTasks = mode.ReplicatedJob.GetMaxConcurrent()
	case *api.ServiceSpec_GlobalJob:
		status.DesiredTasks = unfinished
	}
	return status
}
