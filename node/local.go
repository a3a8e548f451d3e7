package node

import (
	"cmp"
	"context"
	"strings"

	"google.golang.org/grpc"

	"skep/agent/exec"
	"skep/api"
	"skep/api/skep"
	"skep/model"
	"skep/rpc"
)

// local answers on the socket what concerns this machine only.
type local struct {
	skep.UnimplementedLocalServer
	n *node
}

func (l local) Status(context.Context, *skep.StatusRequest) (*skep.StatusResponse, error) {
	n := l.n
	r := &skep.StatusResponse{
		NodeId:    n.identity.NodeID(),
		ClusterId: n.identity.ClusterID(),
		Manager:   n.manager != nil,
		Version:   n.cfg.Version,
	}
	for _, p := range n.managers.Peers() {
		r.Managers = append(r.Managers, p.GetPeer().GetAddr())
	}
	switch {
	case n.manager != nil:
		r.Leader = n.manager.Leading()
		if !r.Leader {
			r.Message = "no manager leads yet"
		}
	case !n.registered.Load():
		r.Message = "not registered with a manager; tries " + n.managers.String()
	}
	return r, nil
}

func (l local) TaskLogs(r *skep.TaskLogsRequest, stream grpc.ServerStreamingServer[skep.TaskLogsResponse]) error {
	if r.GetTaskId() == "" {
		return model.Errorf(model.Invalid, "the ID of the task is missing")
	}
	const most = 1 << 30
	return l.n.agent.TaskLogs(stream.Context(), r.TaskId, r.Follow, int(min(r.Tail, most)), func(m exec.LogMessage) error {
		kind := skep.TaskLogsResponse_STDOUT
		if m.Stream == api.LogStream_LOG_STREAM_STDERR {
			kind = skep.TaskLogsResponse_STDERR
		}
		return stream.Send(&skep.TaskLogsResponse{Stream: kind, Data: m.Data})
	})
}

// socketServer serves the socket: this machine's own service, and the manager's
// services if it runs one.
func (n *node) socketServer() (*grpc.Server, error) {
	cfg := rpc.Config{
		Credentials: rpc.LocalCredentials(n.identity.ServerCredentials()),
		Local:       rpc.Self(n.identity, cmp.Or(n.addr, "127.0.0.1:0")),
		Now:         n.cfg.Now,
		Log:         n.cfg.Log,
		Metrics:     n.grpcMetrics,
	}
	services := []func(grpc.ServiceRegistrar){func(r grpc.ServiceRegistrar) { skep.RegisterLocalServer(r, local{n: n}) }}
	if n.manager != nil {
		cfg.Leadership = n.manager.Leadership()
		services = append(services, n.manager.RegisterLocal)
	} else {
		cfg.Unknown = n.notManager
	}
	return rpc.NewServer(cfg, services...)
}

// notManager answers what only managers can.
func (n *node) notManager(fullMethod string) error {
	return model.Errorf(model.Precondition, "this node is a worker and cannot answer %s: ask a manager (%s)",
		fullMethod[strings.LastIndexByte(fullMethod, '/')+1:], n.managers)
}
