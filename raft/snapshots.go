package raft

import (
	"context"
	"errors"
	"io"
	"path"
	"slices"
	"syscall"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"skep/raft/snap"
)

// due decides when the applier takes a snapshot.
type due struct{ entries, bytes uint64 } // applied since the last one

func (d *due) applied(e *raftpb.Entry) {
	d.entries++
	d.bytes += entrySize(e)
}

// worthBytes is how much of the log is worth a snapshot, if the state is no larger than twice that.
const worthBytes = 16 << 20

// now reports whether a snapshot is worth its cost, when the last one had size bytes: the log may
// grow to half of it, within bytes. It is read again at a start, and held in memory until then.
func (d *due) now(entries, bytes, size uint64) bool {
	worth := size / 2
	return d.bytes >= min(bytes, max(worth, worthBytes)) || d.entries >= entries && d.bytes >= worth
}

// wantSnapshot has the applier take a snapshot, whether one is due or not.
func (n *Node) wantSnapshot() {
	if !n.wanted.Swap(true) {
		n.orders.put(order{snapshot: true})
	}
}

// capture takes a snapshot, if one is due and none is being written, and has it written.
func (a *applier) capture(ctx context.Context, last *raftpb.Entry) error {
	if last.GetIndex() < a.found {
		return nil // a start should not wait for what it may do afterwards
	}
	if !a.due.now(a.tuning.Load().SnapshotEntries, a.cfg.SnapshotBytes, a.snapshotSize.Load()) || a.writing.Swap(true) {
		return nil
	}
	return a.take(ctx, last)
}

// take takes a snapshot and has it written; none other is being written.
func (a *applier) take(ctx context.Context, last *raftpb.Entry) error {
	members := a.members.Load()
	if a.ahead.Load() > last.GetIndex() {
		// A snapshot of another member is about to take the place of this state.
		a.writing.Store(false)
		return nil
	}
	state, err := a.cfg.StateMachine.Snapshot()
	if err != nil {
		return err
	}
	meta := snap.Meta{
		Index: last.GetIndex(), Term: last.GetTerm(),
		Conf: members.conf, Members: members.members, Removed: members.removed,
		ID: a.id, Owner: a.cfg.NodeID,
	}
	a.due = due{}
	a.group.Go(func() error {
		defer func() {
			a.writing.Store(false)
			select {
			case a.rotation.written <- struct{}{}:
			default:
			}
		}()
		return a.writeSnapshot(ctx, meta, state)
	})
	return nil
}

// writeSnapshot writes a snapshot and drops what it makes superfluous. The snapshot before
// it and the log since then stay, in case the new one turns out damaged.
func (n *Node) writeSnapshot(ctx context.Context, meta snap.Meta, state Snapshot) error {
	began := time.Now()
	size, err := n.snapshots.Write(meta, func(w io.Writer) error {
		_, err := state.WriteTo(&untilDone{pace: pace{stop: ctx.Done()}, ctx: ctx, w: w})
		return err
	})
	switch {
	case ctx.Err() != nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		// Nothing is lost but the space that the log takes. The next one is tried
		// after as many entries again.
		n.cfg.Log.Error("no space for a raft snapshot; free some, the log grows until the next one, after as many entries again",
			"raft.id", n.id, "raft.index", meta.Index, "dir", n.cfg.Dir, "error", err)
		return nil
	case err != nil:
		return fatal(err)
	}
	n.snapshotSize.Store(uint64(size))
	n.metrics.snapshots.Observe(time.Since(began).Seconds())
	n.incoming.mu.Lock() // none is installed meanwhile
	defer n.incoming.mu.Unlock()
	previous := n.mem.snapshotIndex()
	keep := []uint64{previous}
	if ahead := n.ahead.Load(); ahead > previous {
		keep = append(keep, ahead) // it is about to take the place of all, and may have its name already
	}
	if meta.Index < previous {
		if err := n.snapshots.Tidy(keep...); err != nil {
			n.cfg.Log.Error("old raft snapshots stay until the next one", "error", err)
		}
		return nil // one that came from another member is newer
	}
	n.mem.compact(n.described(meta), n.tuning.Load().KeepEntries, keepBytes)
	older, err := n.kept(meta.Index)
	if err == nil {
		err = n.snapshots.Tidy(slices.Concat(keep, older, []uint64{meta.Index})...)
	}
	if err := errors.Join(err, n.log.Release(previous)); err != nil {
		n.cfg.Log.Error("old files of the raft log stay until the next snapshot", "error", err)
	}
	n.cfg.Log.Debug("raft snapshot written", "raft.index", meta.Index, "bytes", size, "took", time.Since(began))
	return nil
}

// described returns what raft is told of a snapshot. Its data is the name of its file.
func (n *Node) described(meta snap.Meta) *raftpb.Snapshot {
	return &raftpb.Snapshot{
		Data:     []byte(path.Base(n.snapshots.File(meta.Index))),
		Metadata: &raftpb.SnapshotMetadata{Index: &meta.Index, Term: &meta.Term, ConfState: meta.Conf},
	}
}

// untilDone is a writer at a pace, which fails once ctx has ended, so that nobody waits for a
// snapshot that nobody needs.
type untilDone struct {
	pace
	ctx context.Context
	w   io.Writer
}

func (u *untilDone) Write(p []byte) (int, error) {
	u.on(len(p))
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.w.Write(p)
}
