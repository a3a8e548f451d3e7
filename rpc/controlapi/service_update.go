package controlapi

import (
	"context"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"skep/api"
	"skep/model"
	"skep/store"
)

// UpdateService gives a service another spec, or on request the one before; the
// orchestrator then replaces its tasks. The version of the spec becomes the
// version that the service had, so that it differs from those of all its tasks.
// Any update of a job runs it again.
func (s *Server) UpdateService(ctx context.Context, r *api.UpdateServiceRequest) (*api.UpdateServiceResponse, error) {
	if err := s.checkService(r.GetSpec()); err != nil {
		return nil, err
	}
	var next func(tx *store.Tx, old *api.Service) (*api.Service, error)
	switch r.GetRollback() {
	case api.UpdateServiceRequest_NONE:
		next = func(tx *store.Tx, old *api.Service) (*api.Service, error) {
			return updated(tx.Snapshot, old, r.GetSpec())
		}
	case api.UpdateServiceRequest_PREVIOUS:
		next = rolledBack
	default:
		return nil, model.Errorf(model.Invalid, "rollback is %d, which this version does not know: send NONE or PREVIOUS", r.GetRollback())
	}
	service, err := change(ctx, s, r.GetServiceId(), r.GetServiceVersion(), func(tx *store.Tx, old *api.Service) (*api.Service, error) {
		v, err := next(tx, old)
		if err != nil {
			return nil, err
		}
		if model.Job(v.GetSpec()) {
			v.JobStatus = &api.JobStatus{
				JobIteration:  &api.Version{Index: old.GetJobStatus().GetJobIteration().GetIndex() + 1},
				LastExecution: timestamppb.New(tx.Now()),
			}
		}
		return v, nil
	})
	if err != nil {
		return nil, err
	}
	return &api.UpdateServiceResponse{Service: service}, nil
}

// updated returns old with another spec.
func updated(s *store.Snapshot, old *api.Service, spec *api.ServiceSpec) (*api.Service, error) {
	if err := checkUnchanging(old.GetSpec(), spec); err != nil {
		return nil, err
	}
	portsChanged := !proto.Equal(old.GetSpec().GetEndpoint(), spec.GetEndpoint())
	if err := checkSurroundings(s, old.GetId(), spec, portsChanged); err != nil {
		return nil, err
	}
	v := model.Shallow(old)
	v.Spec, v.SpecVersion = spec, old.GetMeta().GetVersion()
	v.PreviousSpec, v.PreviousSpecVersion = old.GetSpec(), old.GetSpecVersion()
	v.UpdateStatus = nil
	return v, nil
}

// rolledBack returns old with its previous spec, and the other way round.
func rolledBack(tx *store.Tx, old *api.Service) (*api.Service, error) {
	if old.GetPreviousSpec() == nil {
		return nil, model.Errorf(model.Precondition, "service %.80q has no previous spec: it was not updated since it was created, or was rolled back; update it to what it should be", old.GetSpec().GetAnnotations().GetName())
	}
	portsChanged := !proto.Equal(old.GetSpec().GetEndpoint(), old.GetPreviousSpec().GetEndpoint())
	if err := checkSurroundings(tx.Snapshot, old.GetId(), old.GetPreviousSpec(), portsChanged); err != nil {
		return nil, model.Errorf(model.Precondition, "the previous spec does not fit the cluster any more: %w", err)
	}
	v := model.Shallow(old)
	v.Spec, v.PreviousSpec = old.GetPreviousSpec(), old.GetSpec()
	v.SpecVersion, v.PreviousSpecVersion = old.GetPreviousSpecVersion(), old.GetSpecVersion()
	v.UpdateStatus = &api.UpdateStatus{
		State:     api.UpdateStatus_ROLLBACK_STARTED,
		Message:   "manually requested rollback",
		StartedAt: timestamppb.New(tx.Now()),
	}
	return v, nil
}

// checkUnchanging refuses changes of what a service is made with.
func checkUnchanging(old, spec *api.ServiceSpec) error {
	if was, is := old.GetAnnotations().GetName(), spec.GetAnnotations().GetName(); was != is {
		return model.Errorf(model.Unimplemented, "service %.80q cannot be renamed to %.80q: its name is part of its tasks'; create another service", was, is)
	}
	if was, is := model.ModeName(old), model.ModeName(spec); was != is {
		return model.Errorf(model.Unimplemented, "the mode of a service cannot change from %s to %s: its tasks are counted in another way; create another service", was, is)
	}
	sameOfTasks := sameNetworks(old.GetTask().GetNetworks(), spec.GetTask().GetNetworks())
	if sameOfTasks && !sameNetworks(old.GetNetworks(), spec.GetNetworks()) {
		return model.Errorf(model.Unimplemented, "the deprecated networks of a service cannot change: they are attached with its tasks; set task.networks")
	}
	return nil
}

func sameNetworks(a, b []*api.NetworkAttachmentConfig) bool {
	return proto.Equal(&api.TaskSpec{Networks: a}, &api.TaskSpec{Networks: b})
}
