package raftserver

import (
	"context"

	"skep/api"
	"skep/model"
)

// Membership serves RaftMembership. Its zero value is ready.
type Membership struct {
	api.UnimplementedRaftMembershipServer
}

// Join is not built yet.
func (*Membership) Join(context.Context, *api.JoinRequest) (*api.JoinResponse, error) {
	return nil, errOneManager()
}

// Leave is not built yet.
func (*Membership) Leave(context.Context, *api.LeaveRequest) (*api.LeaveResponse, error) {
	return nil, errOneManager()
}

func errOneManager() error {
	return model.Errorf(model.Unimplemented, "this version runs one manager: there is nobody to replicate with; join as a worker")
}
