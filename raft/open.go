package raft

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"time"

	etcdraft "go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"skep/raft/seal"
	"skep/raft/snap"
	"skep/raft/wal"
	"skep/vfs"
)

// New opens the log in cfg.Dir, or makes one for a group whose only member is this
// node, restores the newest snapshot into the state machine and returns a node that
// is ready to run. Its errors are for an operator: they name the file, the offset in
// it, and what to do. A node that was made must be run, which closes its files.
func New(cfg Config) (*Node, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	n := &Node{
		cfg:       cfg,
		metrics:   newMetrics(cfg.Metrics),
		proposals: newProposals(),
		events:    newMailbox[event](),
		appends:   newMailbox[*raftpb.Message](),
		orders:    newMailbox[order](),
		done:      make(chan struct{}),
		rotation:  newRotation(cfg),
		began:     time.Now(),

		maxUncommitted: maxUncommitted,
	}
	n.Tune(Tuning{cfg.SnapshotEntries, cfg.KeepSnapshots, cfg.KeepEntries})
	if err := n.open(); err != nil {
		return nil, err
	}
	return n, nil
}

func (n *Node) open() error {
	logs := wal.Config{
		FS: n.cfg.FS, Dir: path.Join(n.cfg.Dir, "log"), Keys: n.rotation.keys, SegmentBytes: n.cfg.SegmentBytes,
	}
	n.snapshots = snap.Dir{FS: n.cfg.FS, Path: path.Join(n.cfg.Dir, "snapshots"), Keys: logs.Keys}
	for _, dir := range []string{logs.Dir, n.snapshots.Path} {
		if err := vfs.MakeDir(n.cfg.FS, dir); err != nil {
			return fmt.Errorf("make the raft directory: %w", err)
		}
	}
	if err := n.snapshots.Forsake(); err != nil {
		return err
	}
	newest, err := n.restoreNewest()
	if err != nil {
		return err
	}
	if newest.meta.Received {
		logs.Restart = &newest.meta.Term
	}
	log, found, err := wal.Open(logs, newest.meta.Index)
	switch {
	case errors.Is(err, wal.ErrNone) && newest.any:
		return fmt.Errorf("the raft log in %s is gone, though there are snapshots in %s: %s", logs.Dir, n.snapshots.Path, seal.AdviceRestore)
	case errors.Is(err, wal.ErrNone) && n.cfg.Join != nil:
		log, found, err = n.join(logs)
	case errors.Is(err, wal.ErrNone):
		log, found, err = n.bootstrap(logs)
	}
	if err != nil {
		return errors.Join(err, newest.damage)
	}
	n.log, n.id = log, found.ID
	if err := n.restore(logs.Dir, newest, found); err != nil {
		return errors.Join(err, log.Close())
	}
	return nil
}

// candidate is the newest snapshot that can be used, if there is one: the state machine has it.
type candidate struct {
	meta snap.Meta
	// any tells that there are snapshot files at all, damage why newer ones are not used.
	any    bool
	damage error
}

// restoreNewest restores the newest snapshot that is whole. One that is damaged is passed
// over: whether the log reaches back to the one before it is for wal.Open to say.
func (n *Node) restoreNewest() (candidate, error) {
	c := candidate{meta: snap.Meta{Conf: &raftpb.ConfState{}}}
	indexes, err := n.snapshots.List()
	if err != nil {
		return c, err
	}
	c.any = len(indexes) > 0
	for _, index := range indexes {
		meta, err := n.load(index)
		var damage *seal.DamageError
		switch {
		case err == nil:
			c.meta = meta
			return c, nil
		case !errors.As(err, &damage), errors.Is(err, seal.ErrKey), errors.Is(err, seal.ErrNewer):
			return c, err
		}
		c.damage = errors.Join(c.damage, err)
	}
	return c, nil
}

// restore makes the node what log and snapshot say it was.
func (n *Node) restore(dir string, newest candidate, found *wal.Recovered) error {
	if err := n.recognize(dir, found); err != nil {
		return err
	}
	meta := newest.meta
	if meta.Index != 0 && (meta.ID != found.ID || meta.Owner != found.Owner) {
		return fmt.Errorf("raft snapshot %s belongs to raft member %x of node %s, the log to %x of %s: %s",
			n.snapshots.File(meta.Index), meta.ID, meta.Owner, found.ID, found.Owner, seal.AdviceRestore)
	}
	if newest.damage != nil {
		n.cfg.Log.Error("a raft snapshot is damaged; an older one and the log take its place", "error", newest.damage, "raft.index", meta.Index)
	}
	if cut := found.Cut; cut != nil {
		n.cfg.Log.Info("cut off an unfinished write at the end of the raft log",
			"file", cut.File, "offset", cut.Offset, "bytes", cut.Bytes)
	}
	members := &membership{conf: meta.Conf, members: meta.Members, removed: meta.Removed}
	if n.cfg.ForceNew {
		if err := n.forceNew(members, found); err != nil {
			return err
		}
	}
	described := &raftpb.Snapshot{}
	if meta.Index != 0 {
		described = n.described(meta)
		n.cfg.StateMachine.Applied(meta.Index, meta.Term)
	}
	if join := n.cfg.Join; join != nil && len(members.members) == 0 {
		// The log will say so, and who was removed: until then this is who to answer.
		members.members = join.Members
	}
	n.members.Store(members)
	n.found = found.LastIndex
	n.applied.Store(meta.Index)
	n.mem = newMemLog(described, found.State, found.Entries)
	n.known.Store(&known{term: found.State.Term, commit: max(found.State.Commit, meta.Index), last: found.LastIndex})
	var err error
	if n.raw, err = etcdraft.NewRawNode(n.cfg.options(n.id, n.mem, meta.Index)); err != nil {
		return fmt.Errorf("start raft: %w", err)
	}
	n.metrics.observe(n)
	n.cfg.Log.Info("raft log opened", "raft.id", n.id, "raft.index", found.LastIndex,
		"raft.snapshot", meta.Index, "entries", len(found.Entries))
	return nil
}

// load restores the state machine from a snapshot. If the file is damaged, which is an error, the
// state is as it was.
func (n *Node) load(index uint64) (snap.Meta, error) {
	info, err := n.cfg.FS.Stat(n.snapshots.File(index))
	if err != nil {
		return snap.Meta{}, fmt.Errorf("open raft snapshot: %w", err)
	}
	r, err := n.snapshots.Open(index)
	if err != nil {
		return snap.Meta{}, err
	}
	if err := errors.Join(n.cfg.StateMachine.Restore(r), r.Close()); err != nil {
		return snap.Meta{}, fmt.Errorf("restore raft snapshot %s: %w", n.snapshots.File(index), err)
	}
	n.snapshotSize.Store(uint64(info.Size()))
	return r.Meta, nil
}

// bootstrap makes the log of a new group.
func (n *Node) bootstrap(logs wal.Config) (*wal.Log, *wal.Recovered, error) {
	id := n.cfg.ID
	if id == 0 {
		var b [8]byte
		if _, err := rand.Read(b[:]); err != nil {
			return nil, nil, fmt.Errorf("draw a raft id: %w", err)
		}
		id = binary.LittleEndian.Uint64(b[:])>>1 | 1 // positive for peers that count signed
	}
	first, err := firstEntry(id, n.cfg.NodeID, n.cfg.Addr)
	if err != nil {
		return nil, nil, err
	}
	state := wal.HardState{Term: 1, Commit: 1}
	log, err := wal.Create(logs, id, n.cfg.NodeID, state, []*raftpb.Entry{first})
	if err != nil {
		return nil, nil, err
	}
	return log, &wal.Recovered{
		ID: id, Owner: n.cfg.NodeID, State: state, Entries: []*raftpb.Entry{first}, LastIndex: 1, LastTerm: 1,
	}, nil
}

// join makes the log of a member of a group that exists. All that is in it comes from there.
func (n *Node) join(logs wal.Config) (*wal.Log, *wal.Recovered, error) {
	log, err := wal.Create(logs, n.cfg.Join.ID, n.cfg.NodeID, wal.HardState{}, nil)
	if err != nil {
		return nil, nil, err
	}
	return log, &wal.Recovered{ID: n.cfg.Join.ID, Owner: n.cfg.NodeID}, nil
}

// recognize checks that the log is this node's.
func (n *Node) recognize(dir string, found *wal.Recovered) error {
	switch {
	case found.Owner != n.cfg.NodeID:
		return fmt.Errorf("the raft log in %s belongs to node %s, and this is node %s: give each manager a state directory of its own", dir, found.Owner, n.cfg.NodeID)
	case n.cfg.Join != nil && n.cfg.Join.ID != found.ID:
		return fmt.Errorf("the raft log in %s belongs to raft member %x, and the group calls this node %x: it was a member before; remove the raft directory and join again", dir, found.ID, n.cfg.Join.ID)
	case n.cfg.ID != 0 && n.cfg.ID != found.ID:
		return fmt.Errorf("the raft log in %s belongs to raft member %x, and this is %x: give each manager a state directory of its own", dir, found.ID, n.cfg.ID)
	}
	return nil
}
