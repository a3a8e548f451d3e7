package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"skep/ca"
	"skep/client"
	"skep/model"
)

// connect reaches a manager for a session: this node's own, if it runs one that has joined
// the others. Until then only they can say what this node is to be; so it is when the last
// session with its own came to nothing: the others may have given it up.
func (n *node) connect(ctx context.Context) (grpc.ClientConnInterface, func(error), error) {
	select {
	case <-n.playing: // before, there may be nobody to ask but the manager that is about to run here
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
	if m := n.manager.Load(); m != nil && m.Joined() && !n.ownFailed.Swap(false) {
		return n.connectLocal()
	}
	return n.connectRemote(ctx)
}

// connectLocal reaches this node's own manager over the socket.
func (n *node) connectLocal() (grpc.ClientConnInterface, func(error), error) {
	conn, err := client.DialSocket(n.cfg.Socket, grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		return n.machine.Dial(ctx, "unix", n.cfg.Socket)
	}))
	if err != nil {
		return nil, nil, err
	}
	return conn, func(error) {
		n.ownFailed.Store(!n.registered.Swap(false))
		_ = conn.Close()
	}, nil
}

// connectRemote reaches one of the other managers that this node knows, but the one that was the
// last to fail only if there is no other. One that registered the node is a good one,
// however that session ended.
func (n *node) connectRemote(context.Context) (grpc.ClientConnInterface, func(error), error) {
	addr, ok := n.managers.Pick(rand.Float64(), n.avoided()...)
	if !ok {
		return nil, nil, fmt.Errorf("no manager is known: %s lists none; join again with an empty --state-dir", n.dir.join(stateFile))
	}
	conn, err := n.dialManager(addr)
	if err != nil {
		return nil, nil, err
	}
	return conn, func(err error) {
		registered := n.registered.Swap(false)
		if registered {
			n.managers.Succeeded(addr)
		} else {
			n.managers.Failed(addr)
			n.noteRefusal(err)
		}
		n.away = ""
		if !registered || silent(err) {
			n.away = addr
		}
		_ = conn.Close()
	}, nil
}

// avoided are the managers to ask only if there is no other: the one that was the last to fail, and
// this node's own, which is in the list as others have it. While that one has not joined the others it
// has no leader, and says so only after having waited for one.
func (n *node) avoided() []string {
	var own []string
	others := 0
	for _, p := range n.managers.Peers() {
		if addr := n.addr.Load(); p.GetPeer().GetNodeId() == n.identity.NodeID() || addr != nil && p.GetPeer().GetAddr() == *addr {
			own = append(own, p.GetPeer().GetAddr())
		} else {
			others++
		}
	}
	if others < 2 {
		return own // whoever fails is asked again rather than oneself
	}
	return append(own, n.away)
}

// silent reports whether what ended a session was not said by a manager, but that none
// answers.
func silent(err error) bool {
	_, advised := model.Advised(err)
	code := status.Code(err)
	return code == codes.Unavailable && !advised || code == codes.DeadlineExceeded
}

// noteRefusal keeps why a session came to nothing: whoever asks this node for what only a
// manager answers is told, too.
func (n *node) noteRefusal(err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	why := status.New(codes.Unknown, err.Error())
	var answer interface{ GRPCStatus() *status.Status }
	if errors.As(err, &answer) {
		why = answer.GRPCStatus()
	}
	n.refused.Store(why)
}

// denied says why the managers do not take this node for one of theirs, "" if they do or do
// not say.
func (n *node) denied() string {
	if why := n.refused.Load(); why.Code() == codes.PermissionDenied {
		return why.Message()
	}
	return ""
}

// dialManager returns a connection to the manager at addr with this node's certificate.
func (n *node) dialManager(addr string) (*grpc.ClientConn, error) {
	return client.Dial(addr, heeding{n.identity.ClientCredentials(ca.ManagerOU), n.foreign}, grpc.WithContextDialer(n.dialTCP))
}

func (n *node) dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	return n.machine.Dial(ctx, "tcp", addr)
}
