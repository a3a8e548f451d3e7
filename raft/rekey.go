package raft

import (
	"context"
	"errors"
	"fmt"
	"time"

	etcdraft "go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"skep/model"
	"skep/raft/seal"
	"skep/raft/wal"
)

// rotation is the state of RotateKey.
type rotation struct {
	keys *seal.Ring
	one  chan struct{} // held by the call that is under way
	// written is sent to, if it has room, when an attempt at a snapshot has ended.
	written chan struct{}
}

func newRotation(c Config) rotation {
	others := make([]seal.Key, len(c.OldKeys))
	for i, key := range c.OldKeys {
		others[i] = key
	}
	return rotation{
		keys: seal.NewRing(c.Key, others...), one: make(chan struct{}, 1), written: make(chan struct{}, 1),
	}
}

// rotateRetry is how long RotateKey waits for something to have changed.
const rotateRetry = time.Second

// RotateKey has everything written with key from now on, and returns nil when nothing on
// disk needs another: the log goes on in a new file, and snapshots take the place of
// what was before. It takes as long as these do, and a full disk holds it up. The key
// must be stored where the next start finds it, as Config.Key, before, and the present
// one, as one of Config.OldKeys, until RotateKey has returned nil. After an error, or a
// crash, the same call goes on where it was.
func (n *Node) RotateKey(ctx context.Context, key [32]byte) error {
	if key == [32]byte{} {
		return errors.New("raft: RotateKey without a key")
	}
	select {
	case n.rotation.one <- struct{}{}:
		defer func() { <-n.rotation.one }()
	case <-ctx.Done():
		return model.Errorf(model.Unavailable, "rotate the key of the raft log: the rotation before it is not done: %w", context.Cause(ctx))
	}
	n.rotation.keys.Rotate(key)
	retry := time.NewTicker(rotateRetry)
	defer retry.Stop()
	for {
		old, err := n.oldKeys()
		if err != nil {
			return err
		}
		if !old {
			n.rotation.keys.Forget()
			return nil
		}
		n.appends.wake() // see rekey
		n.wantSnapshot()
		select {
		case <-n.rotation.written:
		case <-retry.C:
		case <-n.done:
			return model.Errorf(model.Unavailable, "rotate the key of the raft log: this manager has stopped; the rotation goes on when it runs again")
		case <-ctx.Done():
			return model.Errorf(model.Unavailable, "rotate the key of the raft log: it goes on with the next call: %w", context.Cause(ctx))
		}
	}
}

// oldKeys reports whether anything on disk is sealed with another key than the current.
func (n *Node) oldKeys() (bool, error) {
	if _, old := n.log.OldKeys(); old {
		return true, nil
	}
	if n.incoming.oldKeys(n.rotation.keys.Current()) {
		return true, nil
	}
	old, err := n.snapshots.OldKeys()
	if err != nil {
		return false, fmt.Errorf("rotate the key of the raft log: %w", err)
	}
	return len(old) > 0, nil
}

// rekey has the appender begin a segment with the current key. On a full disk it is done
// when RotateKey asks again.
func (n *Node) rekey() error {
	if err := n.log.Rekey(); err != nil && !errors.Is(err, wal.ErrFull) {
		return fatal(err)
	}
	return nil
}

// recapture takes a snapshot of what is applied, for the sake of its key.
func (a *applier) recapture(ctx context.Context) error {
	index := a.applied.Load()
	if index == 0 {
		return nil // the first entry is about to be
	}
	term, err := a.mem.Term(index)
	switch {
	case errors.Is(err, etcdraft.ErrUnavailable), errors.Is(err, etcdraft.ErrCompacted):
		// Others have it, the disk here not yet, or a snapshot of another member is about to
		// be restored: whoever wants this one asks again.
		return nil
	case err != nil:
		return fmt.Errorf("take a snapshot at entry %d of the raft log: %w", index, err)
	}
	if a.writing.Swap(true) {
		return nil // another one is being written
	}
	if err := a.take(ctx, &raftpb.Entry{Index: &index, Term: &term}); err != nil {
		return fmt.Errorf("take a snapshot at entry %d of the raft log: %w", index, err)
	}
	return nil
}
