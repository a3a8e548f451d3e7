package controlapi

import (
	"context"
	"slices"
	"strings"

	"skep/api"
	"skep/model"
	"skep/store"
)

// CreateExtension stores a new kind of resources. It never changes after.
func (s *Server) CreateExtension(ctx context.Context, r *api.CreateExtensionRequest) (*api.CreateExtensionResponse, error) {
	if err := model.CheckExtension(r.GetAnnotations()); err != nil {
		return nil, err
	}
	name := r.GetAnnotations().GetName()
	for kind := store.KindNode; kind <= store.KindResource; kind++ {
		if strings.EqualFold(name, kind.String()) {
			return nil, model.Errorf(model.Exists, "extension %q is the name of a kind that is built in; choose another name", name)
		}
	}
	if model.InternalKind(name) {
		return nil, model.Errorf(model.Invalid, "extension %.80q has a name of those that are the swarm's own; choose another name", name)
	}
	extension := &api.Extension{Id: s.newID(), Annotations: r.GetAnnotations(), Description: r.GetDescription()}
	if err := model.CheckWellFormed("extension", extension); err != nil {
		return nil, err
	}
	if err := create(ctx, s, func(*store.Tx) (store.Object, error) { return extension, nil }); err != nil {
		return nil, err
	}
	return &api.CreateExtensionResponse{Extension: extension}, nil
}

// GetExtension returns an extension.
func (s *Server) GetExtension(_ context.Context, r *api.GetExtensionRequest) (*api.GetExtensionResponse, error) {
	extension, err := find[*api.Extension](s.store.Read(), r.GetExtensionId())
	if err != nil {
		return nil, err
	}
	return &api.GetExtensionResponse{Extension: extension}, nil
}

// RemoveExtension forgets an extension that has no resources.
func (s *Server) RemoveExtension(ctx context.Context, r *api.RemoveExtensionRequest) (*api.RemoveExtensionResponse, error) {
	err := remove(ctx, s, r.GetExtensionId(), func(tx *store.Tx, extension *api.Extension) error {
		name := extension.GetAnnotations().GetName()
		if model.InternalKind(name) {
			return model.Errorf(model.Invalid, "extension %.80q is the swarm's own: it would be made again; leave it", name)
		}
		var users []string
		for o := range tx.Resources.All() {
			if o.GetKind() == name {
				users = append(users, o.GetAnnotations().GetName())
			}
		}
		if len(users) == 0 {
			return nil
		}
		slices.Sort(users)
		return model.Errorf(model.Invalid, "extension %q is in use by the following resource(s): %s. Nothing would say what they are; remove them first", name, listed(users))
	})
	if err != nil {
		return nil, err
	}
	return &api.RemoveExtensionResponse{}, nil
}
