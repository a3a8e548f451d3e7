package controlapi

import (
	"context"

	"skep/api"
	"skep/model"
	"skep/store"
)

// CreateResource stores an object of a kind that an extension has added.
func (s *Server) CreateResource(ctx context.Context, r *api.CreateResourceRequest) (*api.CreateResourceResponse, error) {
	if err := model.CheckResource(r.GetAnnotations(), r.GetKind()); err != nil {
		return nil, err
	}
	if err := checkForeign(r.GetKind(), r.GetAnnotations().GetName()); err != nil {
		return nil, err
	}
	resource := &api.Resource{Id: s.newID(), Annotations: r.GetAnnotations(), Kind: r.GetKind(), Payload: r.GetPayload()}
	if err := model.CheckWellFormed("resource", resource); err != nil {
		return nil, err
	}
	err := create(ctx, s, func(tx *store.Tx) (store.Object, error) {
		if e, ok := tx.Extensions.Named(r.GetKind()); !ok || e.GetAnnotations().GetName() != r.GetKind() {
			return nil, model.Errorf(model.Invalid, "resource kind %.80q is not that of an extension; create the extension first", r.GetKind())
		}
		return resource, nil
	})
	if err != nil {
		return nil, err
	}
	return &api.CreateResourceResponse{Resource: resource}, nil
}

// GetResource returns a resource.
func (s *Server) GetResource(_ context.Context, r *api.GetResourceRequest) (*api.GetResourceResponse, error) {
	resource, err := find[*api.Resource](s.store.Read(), r.GetResourceId())
	if err != nil {
		return nil, err
	}
	return &api.GetResourceResponse{Resource: resource}, nil
}

// checkForeign refuses to let users write resources of the swarm's own kinds.
func checkForeign(kind, name string) error {
	if model.InternalKind(kind) {
		return model.Errorf(model.Invalid, "resource %.80q of kind %q is the swarm's own: it comes and goes by itself; leave it", name, kind)
	}
	return nil
}

// ListResources returns the resources that meet the filters. Those of the swarm's
// own kinds are listed when they are asked for by their kind.
func (s *Server) ListResources(_ context.Context, r *api.ListResourcesRequest) (*api.ListResourcesResponse, error) {
	f := r.GetFilters()
	resources := list(s.store.Read().Resources.All(), func(o *api.Resource) bool {
		return (f.GetKind() == "" && !model.InternalKind(o.GetKind()) || f.GetKind() == o.GetKind()) &&
			holdAny(f, o.GetId(), o.GetAnnotations().GetName(), o.GetAnnotations().GetLabels())
	})
	return &api.ListResourcesResponse{Resources: resources}, nil
}

// UpdateResource replaces the annotations and the payload of a resource, each if
// it is given. Its name stays.
func (s *Server) UpdateResource(ctx context.Context, r *api.UpdateResourceRequest) (*api.UpdateResourceResponse, error) {
	if err := model.CheckWellFormed("resource", &api.Resource{Annotations: r.GetAnnotations(), Payload: r.GetPayload()}); err != nil {
		return nil, err
	}
	resource, err := change(ctx, s, r.GetResourceId(), r.GetResourceVersion(), func(_ *store.Tx, old *api.Resource) (*api.Resource, error) {
		if err := checkForeign(old.GetKind(), old.GetAnnotations().GetName()); err != nil {
			return nil, err
		}
		resource := model.Shallow(old)
		if a := r.GetAnnotations(); a != nil {
			if was := old.GetAnnotations().GetName(); a.GetName() != was {
				return nil, model.Errorf(model.Invalid, "resource %.80q cannot be renamed to %.80q: others find it by its name; create another", was, a.GetName())
			}
			resource.Annotations = a
		}
		if r.GetPayload() != nil {
			resource.Payload = r.GetPayload()
		}
		return resource, nil
	})
	if err != nil {
		return nil, err
	}
	return &api.UpdateResourceResponse{Resource: resource}, nil
}

// RemoveResource forgets a resource.
func (s *Server) RemoveResource(ctx context.Context, r *api.RemoveResourceRequest) (*api.RemoveResourceResponse, error) {
	err := remove(ctx, s, r.GetResourceId(), func(_ *store.Tx, o *api.Resource) error {
		return checkForeign(o.GetKind(), o.GetAnnotations().GetName())
	})
	if err != nil {
		return nil, err
	}
	return &api.RemoveResourceResponse{}, nil
}
