package raftserver

import (
	"context"
	"sync"

	"skep/api"
	"skep/model"
)

// Names of the parts whose health others ask for.
const (
	// PartRaft is asked for over TCP: SERVING when raft takes messages.
	PartRaft = "Raft"
	// PartControlAPI is asked for on the socket: SERVING when Control answers.
	PartControlAPI = "ControlAPI"
)

// Health serves Health. Its zero value is ready, and knows no part.
type Health struct {
	api.UnimplementedHealthServer
	mu    sync.Mutex
	parts map[string]api.HealthCheckResponse_ServingStatus
}

// Set says how a part is from now on.
func (h *Health) Set(part string, status api.HealthCheckResponse_ServingStatus) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.parts == nil {
		h.parts = make(map[string]api.HealthCheckResponse_ServingStatus)
	}
	h.parts[part] = status
}

// Check answers how a part is; the part without a name is the server that answers.
func (h *Health) Check(_ context.Context, r *api.HealthCheckRequest) (*api.HealthCheckResponse, error) {
	if r.GetService() == "" {
		return &api.HealthCheckResponse{Status: api.HealthCheckResponse_SERVING}, nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	status, ok := h.parts[r.GetService()]
	if !ok {
		return nil, model.Errorf(model.NotFound, "unknown service %.80q: nobody says here how it is; ask for %q over TCP, for %q on the socket", r.GetService(), PartRaft, PartControlAPI)
	}
	return &api.HealthCheckResponse{Status: status}, nil
}
