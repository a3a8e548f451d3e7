package raft

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// order is what the loop tells the applier: that this member was elected, that it leads no
// more, committed entries, to take a snapshot, or to restore one.
type order struct {
	elected  uint64
	deposed  bool
	snapshot bool
	restore  *restoring
	apply    *raftpb.Message
}

// applier calls the state machine.
type applier struct {
	*Node
	elected uint64 // in this term, but not all before it is applied
	leading bool   // as far as the state machine knows
	due     due
}

func (n *Node) runApplier(ctx context.Context) error {
	a := &applier{Node: n}
	defer a.follow()
	for {
		orders, ok := n.orders.wait(ctx)
		if !ok {
			return nil
		}
		for _, o := range orders {
			if ctx.Err() != nil {
				return nil
			}
			a.applying.Store(a.since())
			err := a.carryOut(ctx, o)
			a.applying.Store(0)
			if err != nil {
				return err
			}
		}
	}
}

func (a *applier) carryOut(ctx context.Context, o order) error {
	switch {
	case o.elected != 0:
		a.elected = o.elected
	case o.deposed:
		a.elected = 0
		a.follow()
	case o.restore != nil:
		return a.restoreReceived(ctx, o.restore)
	case o.snapshot:
		a.wanted.Store(false)
		return a.recapture(ctx)
	default:
		if err := a.apply(ctx, o.apply.GetEntries()); err != nil {
			return err
		}
		for _, r := range o.apply.GetResponses() {
			a.events.put(event{msg: r})
		}
	}
	return nil
}

func (a *applier) follow() {
	if a.leading {
		a.leading = false
		a.cfg.StateMachine.Follow()
	}
}

func (a *applier) apply(ctx context.Context, entries []*raftpb.Entry) error {
	var normal []Entry
	flush := func() error {
		if len(normal) == 0 {
			return nil
		}
		if err := a.cfg.StateMachine.Apply(normal); err != nil {
			return fmt.Errorf("apply entries %d to %d of the raft log: %w", normal[0].Index, normal[len(normal)-1].Index, err)
		}
		a.metrics.applied(len(normal))
		normal = nil
		return nil
	}
	for _, e := range entries {
		a.due.applied(e)
		switch {
		case e.GetType() == raftpb.EntryNormal && len(e.GetData()) > 0:
			normal = append(normal, Entry{Index: e.GetIndex(), Term: e.GetTerm(), Data: e.GetData()})
		case e.GetType() == raftpb.EntryConfChange:
			if err := errors.Join(flush(), a.changeMembers(ctx, e)); err != nil {
				return err
			}
		case e.GetType() != raftpb.EntryNormal:
			return fmt.Errorf("entry %d of the raft log is of type %s, which no member of this group proposes", e.GetIndex(), e.GetType())
		}
	}
	if err := flush(); err != nil {
		return err
	}
	last := entries[len(entries)-1]
	a.applied.Store(last.GetIndex())
	a.cfg.StateMachine.Applied(last.GetIndex(), last.GetTerm())
	if err := a.capture(ctx, last); err != nil {
		return fmt.Errorf("take a snapshot at entry %d of the raft log: %w", last.GetIndex(), err)
	}
	if a.elected != 0 && last.GetTerm() == a.elected {
		// The first entry of a leader's own term is the empty one it begins with, and
		// nothing is proposed before Lead.
		a.proposals.open(a.elected)
		a.leading = true
		a.cfg.StateMachine.Lead(a.elected)
		a.elected = 0
	}
	return nil
}

// changeMembers applies a change of membership, in raft, which belongs to the loop, too.
func (a *applier) changeMembers(ctx context.Context, e *raftpb.Entry) error {
	cc := &raftpb.ConfChange{}
	if err := proto.Unmarshal(e.GetData(), cc); err != nil {
		return fmt.Errorf("read the change of members in entry %d of the raft log: %w", e.GetIndex(), err)
	}
	changed := make(chan error, 1)
	a.events.put(event{change: cc, index: e.GetIndex(), changed: changed})
	select {
	case err := <-changed:
		return err
	case <-ctx.Done():
		return nil
	}
}
