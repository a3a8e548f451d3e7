package node

import (
	"context"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"skep/api/skep"
	"skep/model"
	"skep/rpc"
)

// joining answers on the socket while the node waits to be let in.
type joining struct {
	skep.UnimplementedLocalServer
	addr, version string
}

func (j joining) Status(context.Context, *skep.StatusRequest) (*skep.StatusResponse, error) {
	return &skep.StatusResponse{
		State:    skep.StatusResponse_JOINING,
		Managers: []string{j.addr},
		Version:  j.version,
		Message:  "joining the swarm of the manager at " + j.addr,
	}, nil
}

// Unlock is for a manager that is locked, which this one is not.
func (j joining) Unlock(context.Context, *skep.UnlockRequest) (*skep.UnlockResponse, error) {
	return nil, errNotLocked()
}

func (j joining) TaskLogs(*skep.TaskLogsRequest, grpc.ServerStreamingServer[skep.TaskLogsResponse]) error {
	return j.refuse("")
}

func (j joining) refuse(string) error {
	return model.Errorf(model.Unavailable, "this node is still joining the swarm of the manager at %s: it has no tasks yet and cannot answer for the swarm; ask that manager, or wait", j.addr)
}

// serveJoining serves the socket until stop.
func (n *node) serveJoining() (stop func() error, err error) {
	j := joining{addr: n.cfg.JoinAddr, version: n.cfg.Version}
	var group errgroup.Group
	end, err := n.answer(&group, rpc.Config{
		Credentials: rpc.LocalCredentials(nil),
		Local:       func() rpc.Identity { return rpc.Identity{} },
		Unknown:     j.refuse,
		Now:         n.cfg.Now,
		Log:         n.cfg.Log,
		Metrics:     n.grpcMetrics,
	}, func(r grpc.ServiceRegistrar) { skep.RegisterLocalServer(r, j) })
	if err != nil {
		return nil, err
	}
	return func() error {
		if err := end(drainLimit); err != nil {
			return err
		}
		return group.Wait()
	}, nil
}
