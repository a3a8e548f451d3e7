package raftserver

import (
	"context"

	"google.golang.org/grpc"

	"skep/api"
	"skep/model"
)

// Raft serves Raft. Members is required.
type Raft struct {
	api.UnimplementedRaftServer
	// Members lists the raft members.
	Members func() []*api.RaftMember
}

// ResolveAddress returns the address of a member.
func (s *Raft) ResolveAddress(_ context.Context, r *api.ResolveAddressRequest) (*api.ResolveAddressResponse, error) {
	for _, m := range s.Members() {
		if m.GetRaftId() == r.GetRaftId() {
			return &api.ResolveAddressResponse{Addr: m.GetAddr()}, nil
		}
	}
	return nil, model.Errorf(model.NotFound, "raft member %x is unknown: it never was one, or has left; ask for those of GetNode's manager_status", r.GetRaftId())
}

// ProcessRaftMessage is not built yet.
func (*Raft) ProcessRaftMessage(context.Context, *api.ProcessRaftMessageRequest) (*api.ProcessRaftMessageResponse, error) {
	return nil, errOneManager()
}

// StreamRaftMessage is not built yet.
func (*Raft) StreamRaftMessage(grpc.ClientStreamingServer[api.StreamRaftMessageRequest, api.StreamRaftMessageResponse]) error {
	return errOneManager()
}

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
