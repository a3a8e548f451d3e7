package raft

import (
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"skep/api"
	"skep/vfs"
)

// Group says what kind of members a raft group has. All must agree on it.
type Group uint8

const (
	// Native is a group of our own managers only.
	Native Group = iota
	// Mixed is a group that has a stock manager in it. It keeps to what such a
	// manager knows: no PreVote, no learners, no ReadIndex between members, changes
	// of membership in the first format only, ticks of one second.
	Mixed
)

// Config says what a Node is made of. The zero value of a field that has a default
// means the default.
type Config struct {
	// FS and Dir are where the log and the snapshots are. Dir is made if it does
	// not exist. One Node at a time may use it.
	FS  vfs.FS
	Dir string
	// Key is the data encryption key. Keys for the files are derived from it.
	Key [32]byte
	// OldKeys are other keys that files may be sealed with, while a RotateKey to Key
	// has not returned nil. Nothing is written with them.
	OldKeys [][32]byte
	// ID is the raft id. Zero takes the one on disk, or a new random one.
	ID uint64
	// NodeID and Addr are the swarm node and the address that other managers
	// reach it at. They are recorded in the group's membership.
	NodeID, Addr string
	// Group selects the options that all members share. Default: Native.
	Group Group
	// Tick is the unit of the two below. Default: 80 ms (1 s in a mixed group).
	Tick time.Duration
	// ElectionTicks is how long a follower waits for its leader, at least.
	// Default: 10.
	ElectionTicks int
	// HeartbeatTicks is how often a leader shows that it is there. Default: 1.
	HeartbeatTicks int
	// SnapshotEntries and SnapshotBytes are how many entries, and how many bytes of
	// log, are applied between two snapshots at most, whichever comes first; but entries
	// alone are no reason to write again a state that is more than twice their size. 16 MiB
	// of the log are one, if they are half the size of the state. Default: 10,000 and 64 MiB.
	SnapshotEntries, SnapshotBytes uint64
	// KeepEntries is how many entries before a snapshot stay in the log for
	// followers that lag. Default: 500.
	KeepEntries uint64
	// KeepSnapshots is how many snapshots stay beside the newest, as in Tuning.
	KeepSnapshots uint64
	// SegmentBytes is the size from which on a file of the log is followed by a new one.
	// Files are removed as a whole. Default: 16 MiB.
	SegmentBytes int64
	// Transport carries messages to other members. Default: none, which is enough for
	// a member that is alone.
	Transport Transport
	// Join is how this member gets into a group that exists. It counts while there is
	// no log, or none yet that says who the members are; otherwise a group is made.
	Join *JoinInfo
	// ForceNew makes this member the only one of its group when the log is opened: all others
	// are removed, as members that must never come back, and what the log has is committed. It
	// is for when most members are gone for good. Without others it changes nothing but
	// the address, if that is another.
	ForceNew bool
	// StateMachine is what is replicated.
	StateMachine StateMachine
	// Log receives what an operator wants to know, and at debug level what the
	// raft library says. Default: discarded.
	Log *slog.Logger
	// Metrics is where the node's metrics are registered while it runs. Default: none.
	Metrics prometheus.Registerer
}

// JoinInfo is what a group answers to a node that joins.
type JoinInfo struct {
	// ID is the raft id that the group gave this node.
	ID uint64
	// Members are all members, this one included, Removed the ids of former ones, which
	// the log tells too.
	Members []*api.RaftMember
	Removed []uint64
}

func (c Config) withDefaults() (Config, error) {
	switch {
	case c.FS == nil:
		return c, errors.New("raft: Config.FS is missing")
	case c.Dir == "":
		return c, errors.New("raft: Config.Dir is missing")
	case c.StateMachine == nil:
		return c, errors.New("raft: Config.StateMachine is missing")
	case c.Join != nil && (c.Join.ID == 0 || c.ID != 0 && c.ID != c.Join.ID):
		return c, errors.New("raft: Config.Join.ID is missing, or another than Config.ID")
	case c.Join != nil && c.ForceNew:
		return c, errors.New("raft: Config.Join and Config.ForceNew exclude each other")
	case c.Key == [32]byte{}:
		return c, errors.New("raft: Config.Key is missing")
	}
	if c.Tick == 0 {
		c.Tick = 80 * time.Millisecond
		if c.Group == Mixed {
			c.Tick = time.Second
		}
	}
	if c.ElectionTicks == 0 {
		c.ElectionTicks = 10
	}
	if c.HeartbeatTicks == 0 {
		c.HeartbeatTicks = 1
	}
	t := Tuning{c.SnapshotEntries, c.KeepSnapshots, c.KeepEntries}.withDefaults()
	c.SnapshotEntries, c.KeepSnapshots, c.KeepEntries = t.SnapshotEntries, t.KeepSnapshots, t.KeepEntries
	if c.SnapshotBytes == 0 {
		c.SnapshotBytes = 64 << 20
	}
	if c.Transport == nil {
		c.Transport = nobody{}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}
