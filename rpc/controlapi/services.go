package controlapi

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	"skep/api"
	"skep/model"
	"skep/store"
)

// GetService returns a service, on request with every default written out.
func (s *Server) GetService(_ context.Context, r *api.GetServiceRequest) (*api.GetServiceResponse, error) {
	service, err := find[*api.Service](s.store.Read(), r.GetServiceId())
	if err != nil {
		return nil, err
	}
	if r.GetInsertDefaults() {
		service = model.Shallow(service)
		service.Spec = model.WithDefaults(service.GetSpec())
	}
	return &api.GetServiceResponse{Service: service}, nil
}

// ListServices returns the services that meet the filters. A runtime is
// "container", "attachment" or the kind of a generic one.
func (s *Server) ListServices(_ context.Context, r *api.ListServicesRequest) (*api.ListServicesResponse, error) {
	f := r.GetFilters()
	services := list(named(s.store.Read().Services, f.GetNames()), func(v *api.Service) bool {
		a := v.GetSpec().GetAnnotations()
		return holdAll(f, v.GetId(), a.GetName(), a.GetLabels()) &&
			among(f.GetRuntimes(), model.RuntimeOf(v.GetSpec().GetTask()))
	})
	return &api.ListServicesResponse{Services: services}, nil
}

// CreateService stores a new service. A job's first run begins now.
func (s *Server) CreateService(ctx context.Context, r *api.CreateServiceRequest) (*api.CreateServiceResponse, error) {
	if err := s.checkService(r.GetSpec()); err != nil {
		return nil, err
	}
	service := &api.Service{Id: s.newID(), Spec: r.GetSpec(), SpecVersion: &api.Version{}}
	err := create(ctx, s, func(tx *store.Tx) (store.Object, error) {
		if model.Job(r.GetSpec()) {
			service.JobStatus = &api.JobStatus{JobIteration: &api.Version{}, LastExecution: timestamppb.New(tx.Now())}
		}
		if err := checkSurroundings(tx.Snapshot, service.GetId(), r.GetSpec(), true); err != nil {
			return nil, err
		}
		return service, nil
	})
	if err != nil {
		return nil, err
	}
	return &api.CreateServiceResponse{Service: service}, nil
}

// RemoveService forgets a service; its tasks are then ended.
func (s *Server) RemoveService(ctx context.Context, r *api.RemoveServiceRequest) (*api.RemoveServiceResponse, error) {
	if err := remove(ctx, s, r.GetServiceId(), func(*store.Tx, *api.Service) error { return nil }); err != nil {
		return nil, err
	}
	return &api.RemoveServiceResponse{}, nil
}

// checkService checks what does not depend on the cluster.
func (s *Server) checkService(spec *api.ServiceSpec) error {
	if err := model.CheckService(spec); err != nil {
		return err
	}
	return s.checkTemplates(spec)
}

// checkSurroundings checks what a spec needs of other objects. Ports that did not
// change are not checked against those of others again.
func checkSurroundings(s *store.Snapshot, id string, spec *api.ServiceSpec, portsChanged bool) error {
	if err := checkNetworks(s, spec); err != nil {
		return err
	}
	if portsChanged {
		if err := checkPorts(s, id, spec.GetEndpoint()); err != nil {
			return err
		}
	}
	if err := checkIngress(s, spec.GetEndpoint()); err != nil {
		return err
	}
	return checkReferences(s, spec.GetTask())
}
