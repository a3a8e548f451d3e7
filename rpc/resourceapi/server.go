package resourceapi

import (
	"context"

	"skep/api"
	"skep/model"
)

// Server serves ResourceAllocator. Its zero value is ready.
type Server struct {
	api.UnimplementedResourceAllocatorServer
}

// AttachNetwork is not built yet.
func (*Server) AttachNetwork(context.Context, *api.AttachNetworkRequest) (*api.AttachNetworkResponse, error) {
	return nil, model.Errorf(model.Unimplemented, "containers cannot be attached to networks of the cluster: this version does not build networks yet; use one of the engine's own")
}

// DetachNetwork is not built yet: nothing was attached.
func (*Server) DetachNetwork(context.Context, *api.DetachNetworkRequest) (*api.DetachNetworkResponse, error) {
	return nil, model.Errorf(model.Unimplemented, "containers cannot be detached from networks of the cluster: this version does not build networks yet, so none was attached")
}
