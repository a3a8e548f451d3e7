package dispatcher_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"skep/api"
	"skep/internal/badinput"
	"skep/model"
	"skep/rpc"
)

// served is a dispatcher whose handlers n1 calls, which is registered as session1.
type served struct{ *cluster }

// sensible is what a worker may be answered.
func sensible(err error) bool {
	switch model.KindOf(err) {
	case model.Invalid, model.NotFound, model.Denied, model.Exhausted:
		return true
	}
	return false
}

// TestNothingThatAWorkerSendsHarmsAManager gives every method of the service
// requests with each field missing, wrong or huge.
func TestNothingThatAWorkerSendsHarmsAManager(t *testing.T) {
	t.Parallel()
	requests := []proto.Message{
		&api.HeartbeatRequest{SessionId: "session1"},
		&api.UpdateTaskStatusRequest{SessionId: "session1", Updates: []*api.UpdateTaskStatusRequest_TaskStatusUpdate{{
			TaskId: "t",
			Status: &api.TaskStatus{
				State: api.TaskState_RUNNING, Message: "started", Timestamp: timestamppb.Now(),
				RuntimeStatus: &api.TaskStatus_Container{Container: &api.ContainerStatus{ContainerId: "c", Pid: 7}},
				PortStatus:    &api.PortStatus{Ports: []*api.PortConfig{{TargetPort: 80}}},
			},
		}}},
		&api.UpdateVolumeStatusRequest{SessionId: "session1", Updates: []*api.UpdateVolumeStatusRequest_VolumeStatusUpdate{{Id: "v", Unpublished: true}}},
		&api.SessionRequest{Description: &api.NodeDescription{
			Hostname:  "h",
			Platform:  &api.Platform{Os: "linux"},
			Resources: &api.Resources{NanoCpus: 1, Generic: []*api.GenericResource{{Resource: &api.GenericResource_NamedResourceSpec{NamedResourceSpec: &api.NamedGenericResource{Kind: "gpu", Value: "1"}}}}},
			Engine:    &api.EngineDescription{Labels: map[string]string{"a": "b"}, Plugins: []*api.PluginDescription{{Type: "Runtime", Name: "process"}}},
			CsiInfo:   []*api.NodeCSIInfo{{PluginName: "p"}},
		}},
		&api.AssignmentsRequest{SessionId: "session1"},
		&api.TasksRequest{SessionId: "session1"},
	}
	for _, request := range requests {
		t.Run(string(request.ProtoReflect().Descriptor().Name()), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := serve(t)
				tried := 0
				for what, mutant := range badinput.Mutants(request) {
					if _, err := proto.Marshal(mutant); err != nil {
						continue // could not have arrived
					}
					before := s.store.Read().Version()
					err := s.call(mutant)
					if err != nil && !sensible(err) {
						t.Errorf("%s: %v", what, err)
					}
					if err != nil && s.store.Read().Version() != before {
						t.Errorf("%s: the answer is %v, and the state changed", what, err)
					}
					if tried++; err == nil {
						s.stop()
						s = serve(t)
					}
				}
				s.stop()
				if tried == 0 {
					t.Error("nothing was tried")
				}
			})
		})
	}
}

func serve(t *testing.T) *served {
	s := &served{newCluster(t)}
	s.lead()
	s.create(task("t", "n1"), &api.Volume{Id: "v", Spec: &api.VolumeSpec{Annotations: &api.Annotations{Name: "v"}}, PublishStatus: []*api.VolumePublishStatus{{NodeId: "n1"}}})
	if err := s.call(&api.SessionRequest{}); err != nil {
		t.Fatal(err)
	}
	return s
}

// call gives a request to its handler as it is, without a wire that would repair
// what is nil in it. A stream is left after its first message.
func (s *served) call(request proto.Message) (err error) {
	ctx, cancel := context.WithCancel(rpc.WithCaller(s.Context(), rpc.Identity{NodeID: "n1", Addr: "192.0.2.7:1"}))
	defer cancel()
	first := &firstMessage{ctx: ctx, cancel: cancel}
	switch request := request.(type) {
	case *api.HeartbeatRequest:
		_, err = s.dispatcher.Heartbeat(ctx, request)
	case *api.UpdateTaskStatusRequest:
		_, err = s.dispatcher.UpdateTaskStatus(ctx, request)
	case *api.UpdateVolumeStatusRequest:
		_, err = s.dispatcher.UpdateVolumeStatus(ctx, request)
	case *api.SessionRequest:
		err = s.dispatcher.Session(request, &grpc.GenericServerStream[api.SessionRequest, api.SessionMessage]{ServerStream: first})
	case *api.AssignmentsRequest:
		err = s.dispatcher.Assignments(request, &grpc.GenericServerStream[api.AssignmentsRequest, api.AssignmentsMessage]{ServerStream: first})
	case *api.TasksRequest:
		err = s.dispatcher.Tasks(request, &grpc.GenericServerStream[api.TasksRequest, api.TasksMessage]{ServerStream: first})
	default:
		err = fmt.Errorf("no handler for %T", request)
	}
	if first.sent {
		return nil
	}
	return err
}

// firstMessage is a stream whose client goes away after one message.
type firstMessage struct {
	ctx    context.Context
	cancel func()
	sent   bool
}

func (f *firstMessage) Context() context.Context     { return f.ctx }
func (f *firstMessage) SetHeader(metadata.MD) error  { return nil }
func (f *firstMessage) SendHeader(metadata.MD) error { return nil }
func (f *firstMessage) SetTrailer(metadata.MD)       {}
func (f *firstMessage) RecvMsg(any) error            { return context.Canceled }

func (f *firstMessage) SendMsg(m any) error {
	f.sent = true
	f.cancel()
	_, err := proto.Marshal(m.(proto.Message))
	return err
}
