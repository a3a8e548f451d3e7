package node

import (
	"context"
	"errors"
	"log/slog"
	"syscall"
	"time"
)

// spaceRetry is how long a full disk is left alone.
const spaceRetry = 5 * time.Second

// full reports whether err is about a disk without space.
func full(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// started reports whether the node has begun to be what its certificate says.
func (n *node) started() bool {
	select {
	case <-n.playing:
		return true
	default:
		return false
	}
}

// waitForSpace waits before what a full disk has kept this node from is tried again. A node
// that runs has tasks to look after and is no use to anybody when it ends for that; one that
// starts tells who started it.
func (n *node) waitForSpace(ctx context.Context, err error) {
	n.cfg.Log.ErrorContext(ctx, "the disk of the state directory is full, so this node is no manager, and cannot become one or cease to be one, until there is space; free some, it tries again by itself",
		slog.String("dir", n.dir.path), slog.Any("error", err), slog.Duration("retry", spaceRetry))
	timer := time.NewTimer(spaceRetry)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
