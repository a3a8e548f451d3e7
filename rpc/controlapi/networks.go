package controlapi

import (
	"context"

	"skep/api"
	"skep/model"
	"skep/store"
)

// CreateNetwork checks the spec of a network; there are none yet.
func (s *Server) CreateNetwork(_ context.Context, r *api.CreateNetworkRequest) (*api.CreateNetworkResponse, error) {
	if err := model.CheckNetwork(r.GetSpec()); err != nil {
		return nil, err
	}
	return nil, model.Errorf(model.Unimplemented, "network %q cannot be created: this version does not build networks yet; publish ports with mode=host", r.GetSpec().GetAnnotations().GetName())
}

// GetNetwork returns a network, by ID only.
func (s *Server) GetNetwork(_ context.Context, r *api.GetNetworkRequest) (*api.GetNetworkResponse, error) {
	n, err := find[*api.Network](s.store.Read(), r.GetNetworkId())
	if err != nil {
		return nil, err
	}
	return &api.GetNetworkResponse{Network: n}, nil
}

// ListNetworks returns the networks that meet the filters.
func (s *Server) ListNetworks(_ context.Context, r *api.ListNetworksRequest) (*api.ListNetworksResponse, error) {
	f := r.GetFilters()
	networks := list(named(s.store.Read().Networks, f.GetNames()), func(n *api.Network) bool {
		a := n.GetSpec().GetAnnotations()
		return holdAll(f, n.GetId(), a.GetName(), a.GetLabels())
	})
	return &api.ListNetworksResponse{Networks: networks}, nil
}

// RemoveNetwork forgets a network that nobody uses, by ID only.
func (s *Server) RemoveNetwork(ctx context.Context, r *api.RemoveNetworkRequest) (*api.RemoveNetworkResponse, error) {
	err := remove(ctx, s, r.GetNetworkId(), func(tx *store.Tx, n *api.Network) error {
		name := n.GetSpec().GetAnnotations().GetName()
		if n.GetSpec().GetAnnotations().GetLabels()[model.PredefinedLabel] == "true" {
			return model.Errorf(model.Precondition, "network %.80q is predefined: every node has it by itself; leave it", name)
		}
		if n.GetSpec().GetIngress() {
			return checkIngressUnused(tx.Snapshot, name)
		}
		return checkNetworkUnused(tx.Snapshot, n)
	})
	if err != nil {
		return nil, err
	}
	return &api.RemoveNetworkResponse{}, nil
}

func checkIngressUnused(s *store.Snapshot, name string) error {
	for v := range s.Services.All() {
		for _, p := range v.GetSpec().GetEndpoint().GetPorts() {
			if p.GetPublishMode() == api.PortConfig_INGRESS {
				return model.Errorf(model.Precondition, "ingress network %.80q is in use by service %q, which publishes port %s through it; remove that first", name, v.GetSpec().GetAnnotations().GetName(), model.PortText(p))
			}
		}
	}
	return nil
}

func checkNetworkUnused(s *store.Snapshot, n *api.Network) error {
	name := n.GetSpec().GetAnnotations().GetName()
	for v := range s.Services.All() {
		if attached(v.GetSpec().GetTask().GetNetworks(), n.GetId()) || attached(v.GetSpec().GetNetworks(), n.GetId()) {
			return model.Errorf(model.Precondition, "network %.80q is in use by service %q; update or remove that first", name, v.GetSpec().GetAnnotations().GetName())
		}
	}
	for t := range s.Tasks.All() {
		if model.Wanted(t.GetDesiredState()) && !model.Terminal(t.GetStatus().GetState()) && attached(t.GetSpec().GetNetworks(), n.GetId()) {
			return model.Errorf(model.Precondition, "network %.80q is in use by task %s; end that first", name, t.GetId())
		}
	}
	return nil
}

func attached(attachments []*api.NetworkAttachmentConfig, id string) bool {
	for _, a := range attachments {
		if a.GetTarget() == id {
			return true
		}
	}
	return false
}
