package raft

import (
	"context"
	"time"

	etcdraft "go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

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
			if err := n.appendBatch(msgs[from:i]); err != nil {
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
	return n.appendBatch(msgs[from:])
}

func (n *Node) appendBatch(msgs []*raftpb.Message) error {
	dirty, entries := false, 0
	for _, m := range msgs {
		dirty = n.log.Append(hardState(m), m.GetEntries())
		entries += len(m.GetEntries())
	}
	if dirty {
		began := time.Now()
		size, err := n.log.Flush()
		if err != nil {
			return fatal(err)
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

// hardState returns the hard state in a MsgStorageAppend, or nil if it has none.
func hardState(m *raftpb.Message) *wal.HardState {
	if m.Term == nil && m.Vote == nil && m.Commit == nil {
		return nil
	}
	return &wal.HardState{Term: m.GetTerm(), Vote: m.GetVote(), Commit: m.GetCommit()}
}
