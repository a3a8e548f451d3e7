package raft

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"path"

	etcdraft "go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"skep/raft/seal"
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
	}
	if err := n.open(); err != nil {
		return nil, err
	}
	return n, nil
}

func (n *Node) open() error {
	logs := wal.Config{FS: n.cfg.FS, Dir: path.Join(n.cfg.Dir, "log"), Key: seal.Key(n.cfg.Key)}
	if err := vfs.MakeDir(n.cfg.FS, logs.Dir); err != nil {
		return fmt.Errorf("make the raft directory: %w", err)
	}
	log, found, err := wal.Open(logs, 0)
	if errors.Is(err, wal.ErrNone) {
		log, found, err = n.bootstrap(logs)
	}
	if err != nil {
		return err
	}
	n.log, n.id = log, found.ID
	if err := n.recognize(logs.Dir, found); err != nil {
		return errors.Join(err, log.Close())
	}
	if cut := found.Cut; cut != nil {
		n.cfg.Log.Info("cut off an unfinished write at the end of the raft log",
			"file", cut.File, "offset", cut.Offset, "bytes", cut.Bytes)
	}
	n.members.Store(&membership{conf: &raftpb.ConfState{}})
	n.mem = newMemLog(&raftpb.Snapshot{}, found.State, found.Entries)
	n.known.Store(&known{term: found.State.Term, commit: found.State.Commit, last: found.LastIndex})
	n.raw, err = etcdraft.NewRawNode(n.cfg.options(n.id, n.mem, 0))
	if err != nil {
		return errors.Join(fmt.Errorf("start raft: %w", err), log.Close())
	}
	return nil
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

// recognize checks that the log is this node's.
func (n *Node) recognize(dir string, found *wal.Recovered) error {
	switch {
	case found.Owner != n.cfg.NodeID:
		return fmt.Errorf("the raft log in %s belongs to node %s, and this is node %s: give each manager a state directory of its own", dir, found.Owner, n.cfg.NodeID)
	case n.cfg.ID != 0 && n.cfg.ID != found.ID:
		return fmt.Errorf("the raft log in %s belongs to raft member %x, and this is %x: give each manager a state directory of its own", dir, found.ID, n.cfg.ID)
	}
	return nil
}
