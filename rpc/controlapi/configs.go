package controlapi

import (
	"context"

	"skep/api"
	"skep/model"
	"skep/store"
)

// CreateConfig stores a new config.
func (s *Server) CreateConfig(ctx context.Context, r *api.CreateConfigRequest) (*api.CreateConfigResponse, error) {
	if err := model.CheckConfig(r.GetSpec()); err != nil {
		return nil, err
	}
	config := &api.Config{Id: s.newID(), Spec: r.GetSpec()}
	if err := create(ctx, s, func(*store.Tx) (store.Object, error) { return config, nil }); err != nil {
		return nil, err
	}
	return &api.CreateConfigResponse{Config: config}, nil
}

// GetConfig returns a config with its data.
func (s *Server) GetConfig(_ context.Context, r *api.GetConfigRequest) (*api.GetConfigResponse, error) {
	config, err := find[*api.Config](s.store.Read(), r.GetConfigId())
	if err != nil {
		return nil, err
	}
	return &api.GetConfigResponse{Config: config}, nil
}

// ListConfigs returns the configs that meet the filters, with their data.
func (s *Server) ListConfigs(_ context.Context, r *api.ListConfigsRequest) (*api.ListConfigsResponse, error) {
	configs := list(s.store.Read().Configs.All(), func(o *api.Config) bool {
		a := o.GetSpec().GetAnnotations()
		return holdAny(r.GetFilters(), o.GetId(), a.GetName(), a.GetLabels())
	})
	return &api.ListConfigsResponse{Configs: configs}, nil
}

// UpdateConfig changes the labels of a config, and nothing else of it can change.
func (s *Server) UpdateConfig(ctx context.Context, r *api.UpdateConfigRequest) (*api.UpdateConfigResponse, error) {
	if r.GetSpec() == nil {
		return nil, model.CheckConfigUpdate(nil, nil)
	}
	config, err := change(ctx, s, r.GetConfigId(), r.GetConfigVersion(), func(_ *store.Tx, old *api.Config) (*api.Config, error) {
		if err := model.CheckConfigUpdate(old.GetSpec(), r.GetSpec()); err != nil {
			return nil, err
		}
		config := model.Shallow(old)
		config.Spec = model.Shallow(old.GetSpec())
		config.Spec.Annotations = relabelled(old.GetSpec().GetAnnotations(), r.GetSpec().GetAnnotations())
		return config, nil
	})
	if err != nil {
		return nil, err
	}
	return &api.UpdateConfigResponse{Config: config}, nil
}

// RemoveConfig forgets a config that no service uses.
func (s *Server) RemoveConfig(ctx context.Context, r *api.RemoveConfigRequest) (*api.RemoveConfigResponse, error) {
	err := remove(ctx, s, r.GetConfigId(), func(tx *store.Tx, config *api.Config) error {
		return checkUnused("config", config.GetSpec().GetAnnotations().GetName(), tx.ServicesUsingConfig(config.GetId()))
	})
	if err != nil {
		return nil, err
	}
	return &api.RemoveConfigResponse{}, nil
}
