package raft

import (
	"context"
	"errors"
	"time"

	etcdraft "go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"skep/model"
	"skep/raft/snap"
	"skep/raft/wal"
)

// runAppender makes durable what the loop hands over. While one batch is being synced, the
// next one gathers.
func (n *Node) runAppender(ctx context.Context) error {
	for {
		msgs, ok := n.appends.wait(ctx)
		if !ok {
			return nil
		}
		if err := n.rekey(); err != nil {
			return err
		}
		n.busy.Store(n.since())
		err := n.appendAll(ctx, msgs)
		n.busy.Store(0)
		if err != nil {
			return err
		}
	}
}

// appendAll appends batches. A snapshot takes the place of all that the log has: what came
// before it comes first.
func (n *Node) appendAll(ctx context.Context, msgs []*raftpb.Message) error {
	from := 0
	for i, m := range msgs {
		if etcdraft.IsEmptySnap(m.GetSnapshot()) {
			continue
		}
		if i > from {
			if err := n.appendBatch(ctx, msgs[from:i]); err != nil {
				return err
			}
		}
		from = i // its entries, if it has any, follow the snapshot
		if err := n.install(ctx, m); err != nil {
			return err
		}
	}
	select {
	case <-ctx.Done():
		return nil // perhaps before a snapshot was restored
	default:
	}
	return n.appendBatch(ctx, msgs[from:])
}

func (n *Node) appendBatch(ctx context.Context, msgs []*raftpb.Message) error {
	dirty, entries := false, 0
	for _, m := range msgs {
		dirty = n.log.Append(hardState(m), m.GetEntries())
		entries += len(m.GetEntries())
	}
	if dirty {
		began := time.Now()
		size := 0
		written, err := n.untilSpace(ctx, func() (err error) {
			size, err = n.log.Flush()
			return err
		})
		if err != nil || !written {
			return err
		}
		n.metrics.flushed(time.Since(began), entries, size)
	}
	var answers []event
	var others []*raftpb.Message
	for _, m := range msgs {
		n.mem.append(m.GetEntries())
		for _, r := range m.GetResponses() {
			if r.GetTo() == n.id {
				answers = append(answers, event{msg: r})
			} else {
				others = append(others, r)
			}
		}
	}
	if len(others) > 0 {
		n.cfg.Transport.Send(others)
	}
	if len(answers) > 0 {
		n.events.put(answers...)
	}
	return nil
}

// fullRetry is how long a full disk is left alone.
const fullRetry = time.Second

// untilSpace writes, again and again while the disk is full. Until then nothing is
// acknowledged, and the loop hands leadership over if there is somebody to take it. It reports
// false if ctx ended before.
func (n *Node) untilSpace(ctx context.Context, write func() error) (bool, error) {
	err := write()
	if err == nil {
		return true, nil
	}
	if !diskFull(err) {
		return false, fatal(err)
	}
	n.cfg.Log.Error("the disk of the raft log is full; until there is space this manager acknowledges nothing, and others lead: free some", "raft.id", n.id, "dir", n.cfg.Dir, "error", err)
	why := model.Errorf(model.Unavailable, "the disk of the raft log is full (%w): free some space in %s, and this manager goes on by itself", err, n.cfg.Dir)
	n.full.Store(&why)
	defer n.full.Store(nil)
	retry := time.NewTicker(fullRetry)
	defer retry.Stop()
	for {
		select {
		case <-retry.C:
		case <-ctx.Done():
			return false, nil
		}
		switch err := write(); {
		case err == nil:
			n.cfg.Log.Info("there is space for the raft log again", "raft.id", n.id)
			return true, nil
		case !diskFull(err):
			return false, fatal(err)
		}
	}
}

// diskFull reports whether nothing but space was lacking, and the same may be tried again.
func diskFull(err error) bool { return errors.Is(err, wal.ErrFull) || errors.Is(err, snap.ErrFull) }

// hardState returns the hard state in a MsgStorageAppend, or nil if it has none.
func hardState(m *raftpb.Message) *wal.HardState {
	if m.Term == nil && m.Vote == nil && m.Commit == nil {
		return nil
	}
	return &wal.HardState{Term: m.GetTerm(), Vote: m.GetVote(), Commit: m.GetCommit()}
}
