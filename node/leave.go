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

// departure is one try to take this node out of the swarm.
type departure struct {
	manager *manager.Manager // nil for a worker
	// said is what the node is busy with, with place for all of it; it is closed at the end.
	said chan string
	// over is closed at the end, and err is set by then.
	over chan struct{}
	err  error
}

func newDeparture(m *manager.Manager) *departure {
	const steps = 3
	return &departure{manager: m, said: make(chan string, steps), over: make(chan struct{})}
}

// Leave takes this node out of the swarm, and goes on with that when whoever asked is gone.
// What it has on disk of the swarm goes when everything that uses it has ended, after the answer.
func (l local) Leave(r *skep.LeaveRequest, stream grpc.ServerStreamingServer[skep.LeaveProgress]) error {
	n := l.n
	m := n.manager.Load()
	if (m != nil || n.manages()) && !r.GetForce() {
		return model.Errorf(model.Precondition, "this node is a manager: demote it first with 'swarmctl node demote' on another manager, so that the others go on without it; if it is the last one, leaving ends the swarm: use --force")
	}
	d := newDeparture(m)
	if !n.leaving.CompareAndSwap(nil, d) {
		return model.Errorf(model.Precondition, "this node is leaving already")
	}
	n.departures <- d // it has place for one, and there is one
	for {
		select {
		case text, more := <-d.said:
			if !more {
				return d.err
			}
			_ = stream.Send(&skep.LeaveProgress{Message: text}) // nobody may be left to hear it
		case <-stream.Context().Done():
			return context.Cause(stream.Context())
		}
	}
}

// leaveWhenAsked carries out what Leave begins, until the node has left or ctx ends.
func (n *node) leaveWhenAsked(ctx context.Context) {
	for {
		select {
		case d := <-n.departures:
			d.err = n.leave(ctx, d)
			if d.err == nil {
				close(n.left)
			} else {
				n.cfg.Log.WarnContext(ctx, "this node was to leave the swarm and stays in it", slog.Any("error", d.err))
				n.leaving.Store(nil)
			}
			close(d.said)
			close(d.over)
		case <-n.left:
			return
		case <-ctx.Done():
			return
		}
	}
}

// leave fails only before anything has changed: the others may refuse, and nothing that runs here
// is to end for that. Once they have let this node go it does not come back.
func (n *node) leave(ctx context.Context, d *departure) error {
	if m := d.manager; m != nil && !m.Alone() && n.denied() == "" { // whoever was removed has nobody to ask
		d.said <- "leaving the other managers"
		limited, cancel := context.WithTimeout(ctx, leaveLimit)
		defer cancel()
		if err := m.Leave(limited); err != nil {
			return fmt.Errorf("leave the other managers: %w", err)
		}
	}
	d.said <- "stopping its tasks"
	n.stopTasks(ctx)
	d.said <- "removing what it has of the swarm"
	return nil
}

// awaitDeparture waits while this node is about to leave and ctx goes on, and reports whether it has left.
func (n *node) awaitDeparture(ctx context.Context) (left bool) {
	d := n.leaving.Load()
	if d == nil {
		return false
	}
	select {
	case <-d.over:
	case <-ctx.Done():
	}
	select {
	case <-n.left:
		return true
	default:
		return false
	}
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
