package manager

import (
	"context"

	"skep/rpc"
)

// leadership is what rpc needs to know of raft.
type leadership struct{ m *Manager }

// Leader says who leads. This manager does from when it has founded the swarm,
// if need be, and its leader's parts run.
func (l leadership) Leader() (rpc.LeaderInfo, <-chan struct{}) {
	serving, changed := l.m.serving.get()
	if serving {
		return rpc.LeaderInfo{Self: true, NodeID: l.m.cfg.Identity.NodeID(), Addr: l.m.cfg.Addr}, changed
	}
	return rpc.LeaderInfo{}, changed
}

// ReadBarrier waits until the store has what raft's read point asks for. Nothing
// can be read of a swarm that is being founded.
func (l leadership) ReadBarrier(ctx context.Context) error {
	index, err := l.m.raft.ReadIndex(ctx)
	if err != nil {
		return err
	}
	if _, err := l.m.store.ReadAt(ctx, index); err != nil || l.m.Founded() {
		return err
	}
	return l.m.AwaitServing(ctx)
}
