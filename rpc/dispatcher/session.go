package dispatcher

import (
	"context"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"skep/api"
	"skep/model"
	"skep/rpc"
	"skep/store"
)

// Session registers the caller's node and keeps it informed: a message at once,
// and whenever node, managers, network keys or root CA are others.
func (d *Dispatcher) Session(request *api.SessionRequest, stream grpc.ServerStreamingServer[api.SessionMessage]) error {
	ctx := stream.Context()
	s, taken, err := d.register(ctx, request)
	if err != nil {
		return err
	}
	var said *api.Node
	var told *news
	for {
		node, ok := d.store.Read().Nodes.Get(s.node)
		if !ok {
			d.sessions.wake(s.node, true)
			return errRemoved(s.node)
		}
		if now := d.news.Load(); now != told || !model.SameToItself(node, said) {
			err := stream.Send(&api.SessionMessage{
				SessionId:            s.id,
				Node:                 node,
				Managers:             now.managers,
				NetworkBootstrapKeys: now.keys,
				RootCA:               now.root,
			})
			if err != nil {
				return err
			}
			said, told = node, now
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-taken:
			return model.Errorf(model.Conflict, "node %s continues its session elsewhere", s.node)
		case <-s.ended:
			return s.why
		case <-s.wake:
		case <-told.changed:
		}
	}
}

// register gives the caller's node a session, and makes it READY.
func (d *Dispatcher) register(ctx context.Context, request *api.SessionRequest) (*session, <-chan struct{}, error) {
	caller, err := callerOf(ctx)
	if err != nil {
		return nil, nil, err
	}
	if _, ok := d.store.Read().Nodes.Get(caller.NodeID); !ok {
		return nil, nil, errUnknown(caller.NodeID)
	}
	if err := model.CheckWellFormed("description", request.GetDescription()); err != nil {
		return nil, nil, err
	}
	s, taken, err := d.sessions.enter(caller.NodeID, request.GetSessionId(), host(caller.Addr), time.Now(), missed*d.news.Load().period)
	if err != nil {
		return nil, nil, err
	}
	// After the session is known: markDown looks at that in its transaction.
	_, err = store.Edit(ctx, d.store, caller.NodeID, nil, func(node *api.Node) error {
		node.Status = &api.NodeStatus{State: api.NodeStatus_READY, Addr: host(caller.Addr)}
		if is := request.GetDescription(); is != nil && !proto.Equal(node.GetDescription(), is) {
			node.Description = is
		}
		return nil
	})
	if err != nil {
		d.sessions.end(s, err)
		return nil, nil, err
	}
	return s, taken, nil
}

// Heartbeat says that the caller's node is there, and is answered with the time
// until its next.
func (d *Dispatcher) Heartbeat(ctx context.Context, request *api.HeartbeatRequest) (*api.HeartbeatResponse, error) {
	caller, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	period := d.period()
	if err := d.sessions.heartbeat(caller.NodeID, request.GetSessionId(), time.Now(), missed*period); err != nil {
		return nil, err
	}
	return &api.HeartbeatResponse{Period: durationpb.New(period)}, nil
}

// find returns the caller's session if it is id.
func (d *Dispatcher) find(ctx context.Context, id string) (*session, error) {
	caller, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	return d.sessions.find(caller.NodeID, id, time.Now())
}

func callerOf(ctx context.Context) (rpc.Identity, error) {
	caller := rpc.Caller(ctx)
	if caller.NodeID == "" {
		return caller, model.Errorf(model.Denied, "only a node of the cluster has a session: the caller shows no certificate")
	}
	return caller, nil
}

// host is the address without its port.
func host(addr string) string {
	if h, _, err := net.SplitHostPort(addr); err == nil {
		return h
	}
	return addr
}

func errUnknown(node string) error {
	return model.Errorf(model.NotFound, "node %s is not known to this cluster; if it was removed, leave and join again", node)
}

func errRemoved(node string) error {
	return model.Errorf(model.Denied, "node %s was removed from the swarm", node)
}
