package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"skep/api/skep"
	"skep/ca"
	"skep/model"
	"skep/rpc"
)

// locked answers on the socket while a manager has no key to what it has on disk.
type locked struct {
	skep.UnimplementedLocalServer
	files    *ca.Files
	managers []string
	version  string
	// opened is closed when the key was given.
	opened chan struct{}
	once   *sync.Once
}

const (
	isLocked = "this manager is locked: it cannot read what it has on disk without the swarm's unlock key; give it the key with 'swarmctl cluster unlock'"
	wrongKey = "this is not the unlock key that this manager is locked with: 'swarmctl cluster unlock-key' on a manager that runs prints the one of today; if the key was rotated while this manager was down, it is an older one"
)

func (l locked) Status(context.Context, *skep.StatusRequest) (*skep.StatusResponse, error) {
	return &skep.StatusResponse{
		State: skep.StatusResponse_LOCKED, Managers: l.managers, Version: l.version, Message: isLocked,
	}, nil
}

// Unlock takes the key. What is wrong with one shows nothing of it.
func (l locked) Unlock(_ context.Context, r *skep.UnlockRequest) (*skep.UnlockResponse, error) {
	key, err := ca.ParseUnlockKey(r.GetUnlockKey())
	if err != nil {
		return nil, err
	}
	switch err := l.files.Unlock(key.Bytes()); {
	case errors.Is(err, ca.ErrWrongKEK):
		return nil, model.Errorf(model.Invalid, wrongKey)
	case err != nil:
		return nil, err
	}
	l.once.Do(func() { close(l.opened) })
	return &skep.UnlockResponse{}, nil
}

func (l locked) TaskLogs(*skep.TaskLogsRequest, grpc.ServerStreamingServer[skep.TaskLogsResponse]) error {
	return l.refuse("")
}

// Leave needs what cannot be read: which tasks run here, and who the others are.
func (l locked) Leave(*skep.LeaveRequest, grpc.ServerStreamingServer[skep.LeaveProgress]) error {
	return model.Errorf(model.Precondition, "this manager is locked and cannot stop the tasks that run here: unlock it first with 'swarmctl cluster unlock'; if the key is lost, stop swarmd and what it runs, have another manager remove this node with 'swarmctl node rm --force', and start over with an empty --state-dir")
}

func (l locked) refuse(string) error { return model.Errorf(model.Unavailable, isLocked) }

func errNotLocked() error {
	return model.Errorf(model.Precondition, "this node is not locked: there is nothing to unlock")
}

// unlock opens what a locked manager has on disk, with the key that the node was started
// with, else with the one that somebody brings to the socket, for as long as that takes.
func (n *node) unlock(ctx context.Context, managers []string) error {
	if key := n.cfg.UnlockKey; !key.IsZero() {
		err := n.files.Unlock(key.Bytes())
		if errors.Is(err, ca.ErrWrongKEK) {
			return fmt.Errorf("the unlock key that swarmd was given: %s", wrongKey)
		}
		return err
	}
	l := locked{files: n.files, managers: managers, version: n.cfg.Version, opened: make(chan struct{}), once: &sync.Once{}}
	var group errgroup.Group
	stop, err := n.answer(&group, rpc.Config{
		Credentials: rpc.LocalCredentials(nil),
		Local:       func() rpc.Identity { return rpc.Identity{} },
		Unknown:     l.refuse,
		Now:         n.cfg.Now,
		Log:         n.cfg.Log,
		Metrics:     n.grpcMetrics,
	}, func(r grpc.ServiceRegistrar) { skep.RegisterLocalServer(r, l) })
	if err != nil {
		return err
	}
	n.cfg.Log.WarnContext(ctx, "this manager is locked and waits for the unlock key: give it with 'swarmctl cluster unlock'", slog.String("socket", n.cfg.Socket))
	select {
	case <-l.opened:
		n.cfg.Log.InfoContext(ctx, "this manager is unlocked")
	case <-ctx.Done():
		err = ctx.Err()
	}
	return errors.Join(err, stop(drainLimit), group.Wait())
}
