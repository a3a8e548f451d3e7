package raftserver_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/internal/badinput"
	"skep/model"
	"skep/rpc/raftserver"
	"skep/store"
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
	badinput.Try(t, &api.RaftMembership_ServiceDesc, func(t testing.TB) badinput.Server {
		alone := &alone{}
		return badinput.Server{
			Impl: &raftserver.Membership{Group: alone, Store: store.NewLocal(store.Config{}), Dial: func(addr string) (*grpc.ClientConn, error) {
				return nil, errors.New("nobody is at " + addr)
			}},
			State: func() string { return fmt.Sprint(alone.changes) },
		}
	}, []proto.Message{&api.JoinRequest{Addr: "h:1"}, &api.LeaveRequest{Node: &api.RaftMember{RaftId: 7}}}, func(err error) bool {
		switch model.KindOf(err) {
		case model.Denied, model.NotFound, model.Invalid, model.Precondition:
			return true
		default:
			return false
		}
	})
}

// alone is a group of one member, which counts the attempts to change it.
type alone struct{ changes int }

func (*alone) ID() uint64                 { return 7 }
func (*alone) Removed() []uint64          { return nil }
func (*alone) Learners() []uint64         { return nil }
func (*alone) Members() []*api.RaftMember { return []*api.RaftMember{{RaftId: 7, NodeId: "n"}} }

func (a *alone) AddMember(context.Context, *api.RaftMember) error    { return a.change() }
func (a *alone) UpdateMember(context.Context, *api.RaftMember) error { return a.change() }
func (a *alone) RemoveMember(context.Context, uint64) error          { return a.change() }
func (a *alone) TransferLeadership(context.Context, uint64) error    { return a.change() }

func (a *alone) change() error {
	a.changes++
	return model.Errorf(model.Precondition, "it is alone")
}

func newRaft() *raftserver.Raft {
	return &raftserver.Raft{Members: func() []*api.RaftMember {
		return []*api.RaftMember{{RaftId: 7, Addr: "10.0.0.7:4242"}}
	}}
}
