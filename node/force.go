package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"time"
)

// forcedFile notes when this node was made the only manager of its swarm.
const forcedFile = "forced"

// force says whether this manager is to be made the only one of its swarm. That happens once,
// however often the node is started like that, as by a unit file: managers that joined afterwards
// would lose what they have acknowledged, and go on beside the new group. unforced then says what
// was not done. Whoever really wants it again removes the note.
func (n *node) force(ctx context.Context) (force bool, unforced string, err error) {
	if !n.cfg.ForceNewCluster {
		return false, "", nil
	}
	switch when, err := n.dir.read(forcedFile); {
	case err == nil:
		unforced = fmt.Sprintf("--force-new-cluster is ignored: it has made this manager the only one of its swarm before (%s), and others may have joined since: take it off the command line; to force it once more, without them, remove %s and start again",
			strings.TrimSpace(string(when)), n.dir.join(forcedFile))
		n.cfg.Log.WarnContext(ctx, "this manager was forced to be the only one before, and is not again", slog.String("reason", unforced))
		return false, unforced, nil
	case !errors.Is(err, fs.ErrNotExist):
		return false, "", fmt.Errorf("look whether this manager was forced to be the only one before: %w", err)
	}
	// Who was promoted, or removed, meanwhile has no log and joins the others.
	had, err := n.dir.has(raftDir)
	return had || !n.played, "", err
}

// noteForced notes that this node was made the only manager, before any other can join.
func (n *node) noteForced() error {
	return n.dir.write([]byte(n.cfg.Now().UTC().Format(time.RFC3339)+"\n"), forcedFile)
}
