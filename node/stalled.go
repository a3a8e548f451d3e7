package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"
)

// stallRetry is when what keeps a node from being what its certificate says is tried again.
const stallRetry = 5 * time.Second

// stall is for what has failed with err: it calls again every now and then, until that fails no more or
// ctx ends. The node runs its tasks meanwhile, and says on the socket what it cannot do and why.
func (n *node) stall(ctx context.Context, text string, err error, again func() error) error {
	defer n.stalled.Store(nil)
	note := func(err error) {
		err = fmt.Errorf("%s: %w", text, err)
		why := err.Error()
		n.stalled.Store(&why)
		n.cfg.Log.ErrorContext(ctx, "this node is not yet what it is to be", slog.Any("error", err), slog.Duration("retry", stallRetry))
	}
	note(err)
	var group errgroup.Group
	stop, err := n.answer(&group, n.socketConfig(), n.registerLocal)
	if err != nil {
		return err
	}
	n.playOnce.Do(func() { close(n.playing) })
	for await(ctx, stallRetry, n.left, nil) {
		if n.awaitDeparture(ctx) {
			<-ctx.Done()
			break
		}
		err := again()
		if err == nil {
			break
		}
		note(err)
	}
	return errors.Join(stop(endedLimit), group.Wait())
}
