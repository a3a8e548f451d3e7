package raftserver_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/internal/badinput"
	"skep/model"
	"skep/rpc/raftserver"
)

func TestHealthAnswersForTheServerAndForEachPart(t *testing.T) {
	t.Parallel()
	var h raftserver.Health
	h.Set(raftserver.PartRaft, api.HealthCheckResponse_NOT_SERVING)
	check := func(part string, want api.HealthCheckResponse_ServingStatus) {
		t.Helper()
		got, err := h.Check(t.Context(), &api.HealthCheckRequest{Service: part})
		if err != nil || got.GetStatus() != want {
			t.Errorf("%q: got %v, %v, want %v", part, got.GetStatus(), err, want)
		}
	}
	check("", api.HealthCheckResponse_SERVING)
	check(raftserver.PartRaft, api.HealthCheckResponse_NOT_SERVING)
	h.Set(raftserver.PartRaft, api.HealthCheckResponse_SERVING)
	check(raftserver.PartRaft, api.HealthCheckResponse_SERVING)
	if _, err := h.Check(t.Context(), &api.HealthCheckRequest{Service: raftserver.PartControlAPI}); model.KindOf(err) != model.NotFound {
		t.Errorf("a part that nobody set: got %v, want NotFound", err)
	}
}

func TestTheAddressOfAMemberIsResolved(t *testing.T) {
	t.Parallel()
	s := newRaft()
	got, err := s.ResolveAddress(t.Context(), &api.ResolveAddressRequest{RaftId: 7})
	if err != nil || got.GetAddr() != "10.0.0.7:4242" {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := s.ResolveAddress(t.Context(), &api.ResolveAddressRequest{RaftId: 8}); model.KindOf(err) != model.NotFound {
		t.Errorf("an unknown member: got %v, want NotFound", err)
	}
}

func TestNoRequestBreaksTheServers(t *testing.T) {
	t.Parallel()
	serve := func(impl any) func(testing.TB) badinput.Server {
		return func(testing.TB) badinput.Server {
			return badinput.Server{Impl: impl, State: func() string { return "" }}
		}
	}
	sensible := func(err error) bool {
		kind := model.KindOf(err)
		return kind == model.NotFound || kind == model.Unimplemented || kind == model.Unavailable
	}
	badinput.Try(t, &api.Health_ServiceDesc, serve(&raftserver.Health{}), []proto.Message{&api.HealthCheckRequest{Service: "x"}}, sensible)
	badinput.Try(t, &api.Raft_ServiceDesc, serve(newRaft()), []proto.Message{&api.ResolveAddressRequest{RaftId: 7}, &api.ProcessRaftMessageRequest{}}, sensible)
	badinput.Try(t, &api.RaftMembership_ServiceDesc, serve(&raftserver.Membership{}), []proto.Message{&api.JoinRequest{Addr: "h:1"}, &api.LeaveRequest{Node: &api.RaftMember{}}}, sensible)
}

func newRaft() *raftserver.Raft {
	return &raftserver.Raft{Members: func() []*api.RaftMember {
		return []*api.RaftMember{{RaftId: 7, Addr: "10.0.0.7:4242"}}
	}}
}
