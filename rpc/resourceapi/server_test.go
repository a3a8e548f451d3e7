package resourceapi_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/internal/badinput"
	"skep/model"
	"skep/rpc/resourceapi"
)

func TestEveryRequestIsUnimplemented(t *testing.T) {
	t.Parallel()
	serve := func(testing.TB) badinput.Server {
		return badinput.Server{Impl: &resourceapi.Server{}, State: func() string { return "" }}
	}
	good := []proto.Message{
		&api.AttachNetworkRequest{Config: &api.NetworkAttachmentConfig{Target: "n"}, ContainerId: "c"},
		&api.DetachNetworkRequest{AttachmentId: "a"},
	}
	badinput.Try(t, &api.ResourceAllocator_ServiceDesc, serve, good, func(err error) bool {
		return model.KindOf(err) == model.Unimplemented
	})
}
