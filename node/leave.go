package node

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc"

	"skep/api/skep"
	"skep/manager"
	"skep/model"
)

// leaveLimit is how long the other managers may take to let this one go.
const leaveLimit = 15 * time.Second

// Leave takes this node out of the swarm. What it has on disk of the swarm goes when
// everything that uses it has ended, after the answer.
func (l local) Leave(r *skep.LeaveRequest, stream grpc.ServerStreamingServer[skep.LeaveProgress]) error {
	ctx, n := stream.Context(), l.n
	say := func(text string) error { return stream.Send(&skep.LeaveProgress{Message: text}) }
	m := n.manager.Load()
	if m != nil && !r.GetForce() {
		return model.Errorf(model.Precondition, "this node is a manager: demote it first with 'swarmctl node demote' on another manager, so that the others go on without it; if it is the last one, leaving ends the swarm: use --force")
	}
	if !n.leaving.CompareAndSwap(false, true) {
		return model.Errorf(model.Precondition, "this node is leaving already")
	}
	if err := l.leave(ctx, m, say); err != nil {
		n.leaving.Store(false)
		return err
	}
	close(n.left)
	return nil
}

func (l local) leave(ctx context.Context, m *manager.Manager, say func(string) error) error {
	if err := say("stopping its tasks"); err != nil {
		return err
	}
	l.n.stopTasks(ctx)
	if m == nil || m.Alone() || l.n.denied() != "" { // whoever was removed has nobody to ask
		return say("removing what it has of the swarm")
	}
	if err := say("leaving the other managers"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, leaveLimit)
	defer cancel()
	if err := m.Leave(ctx); err != nil {
		return fmt.Errorf("leave the other managers: %w", err)
	}
	return say("removing what it has of the swarm")
}

// forget removes all that the node has of the swarm, once nothing uses it any more.
func (n *node) forget() error {
	for _, name := range []string{raftDir, removedDir, workerDir, tasksDir, forcedFile, certificatesDir} {
		if err := n.dir.remove(name); err != nil {
			return fmt.Errorf("remove what is left of the swarm: %w", err)
		}
	}
	n.cfg.Log.Info("this node has left the swarm", slog.String("node.id", n.identity.NodeID()))
	return n.dir.save(state{})
}
