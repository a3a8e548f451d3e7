package node

import (
	"context"
	"errors"
	"net"
	"sync"

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
		Managers: []string{j.addr},
		Version:  j.version,
		Message:  "joining the swarm of the manager at " + j.addr,
	}, nil
}

func (j joining) TaskLogs(*skep.TaskLogsRequest, grpc.ServerStreamingServer[skep.TaskLogsResponse]) error {
	return j.refuse("")
}

func (j joining) refuse(string) error {
	return model.Errorf(model.Unavailable, "this node is still joining the swarm of the manager at %s: it has no tasks yet and cannot answer for the swarm; ask that manager, or wait", j.addr)
}

// serveJoining serves the socket until stop, which leaves it open for the server
// that follows.
func (n *node) serveJoining(socket net.Listener) (stop func() error, err error) {
	j := joining{addr: n.cfg.JoinAddr, version: n.cfg.Version}
	server, err := rpc.NewServer(rpc.Config{
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
	loan, err := rpc.Lend(socket)
	if err != nil {
		return nil, err
	}
	served := make(chan error, 1)
	var wait sync.WaitGroup
	wait.Go(func() { served <- server.Serve(loan) })
	return func() error {
		server.Stop()
		wait.Wait()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return loan.Return()
	}, nil
}
