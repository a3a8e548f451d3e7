package node

import (
	"context"
	"fmt"
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
	m := n.manager.Load()
	r := &skep.StatusResponse{
		State:     skep.StatusResponse_RUNNING,
		NodeId:    n.identity.NodeID(),
		ClusterId: n.identity.ClusterID(),
		Manager:   m != nil,
		Version:   n.cfg.Version,
	}
	if addr := n.addr.Load(); addr != nil {
		r.Addr = *addr
	}
	for _, p := range n.managers.Peers() {
		r.Managers = append(r.Managers, p.GetPeer().GetAddr())
	}
	switch {
	case n.leaving.Load() != nil:
		r.State = skep.StatusResponse_LEAVING
		r.Message = "leaving the swarm"
	case m != nil && m.Waits() == "":
		r.Leader = m.Leading()
		if err := n.expired(); err != nil {
			r.Message = "asks for a new certificate: " + err.Error()
		}
	case n.stalled.Load() != nil:
		r.State = skep.StatusResponse_STARTING
		r.Message = *n.stalled.Load()
	case n.expired() != nil:
		r.State = skep.StatusResponse_STARTING
		r.Message = "asks for a new certificate: " + n.expired().Error()
	case m != nil:
		r.State = skep.StatusResponse_STARTING
		r.Message = m.Waits()
	case !n.registered.Load():
		r.State = skep.StatusResponse_STARTING
		r.Message = "not registered with a manager; tries " + n.managers.String()
		if why := n.refused.Load(); why != nil {
			r.Message += ": " + why.Message()
		}
	}
	return r, nil
}

// Unlock is for a manager that is locked, which this one is not.
func (l local) Unlock(context.Context, *skep.UnlockRequest) (*skep.UnlockResponse, error) {
	return nil, errNotLocked()
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

// registerLocal adds this machine's own service.
func (n *node) registerLocal(r grpc.ServiceRegistrar) { skep.RegisterLocalServer(r, local{n: n}) }

// socketConfig is what every server of the socket has.
func (n *node) socketConfig() rpc.Config {
	addr := "127.0.0.1:0"
	if a := n.addr.Load(); a != nil {
		addr = *a
	}
	return rpc.Config{
		Credentials: rpc.LocalCredentials(n.identity.ServerCredentials()),
		Local:       rpc.Self(n.identity, addr),
		Unknown:     n.notManager,
		Now:         n.cfg.Now,
		Log:         n.cfg.Log,
		Metrics:     n.grpcMetrics,
	}
}

// notManager answers what only managers can.
func (n *node) notManager(fullMethod string) error {
	if n.manager.Load() != nil {
		return model.Errorf(model.Unimplemented, "%s is not served here", fullMethod)
	}
	if why := n.stalled.Load(); why != nil {
		return model.Errorf(model.Unavailable, "%s", *why)
	}
	text := fmt.Sprintf("this node is a worker and cannot answer %s: ask a manager (%s)", fullMethod[strings.LastIndexByte(fullMethod, '/')+1:], n.managers)
	if why := n.refused.Load(); why != nil {
		text += "; it has no session with them: " + why.Message()
	}
	return model.Errorf(model.Precondition, "%s", text)
}
