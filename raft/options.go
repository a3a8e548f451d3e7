package raft

import (
	etcdraft "go.etcd.io/raft/v3"
)

const (
	// maxUncommitted bounds the bytes of proposals that raft has and which are not
	// committed. More wait in the queue.
	maxUncommitted = 64 << 20
	// maxProposal bounds the bytes that are given to raft in one step.
	maxProposal = 4 << 20
	// maxApplying bounds the bytes of entries that the applier has.
	maxApplying = 16 << 20
	// keepBytes bounds what KeepEntries may hold in memory.
	keepBytes = 8 << 20
)

// options returns the library's configuration for a group.
func (c Config) options(id uint64, storage etcdraft.Storage, applied uint64) *etcdraft.Config {
	o := &etcdraft.Config{
		ID:                        id,
		Storage:                   storage,
		Applied:                   applied,
		ElectionTick:              c.ElectionTicks,
		HeartbeatTick:             c.HeartbeatTicks,
		AsyncStorageWrites:        true,
		CheckQuorum:               true,
		PreVote:                   true,
		DisableProposalForwarding: true,
		StepDownOnRemoval:         true,
		MaxSizePerMsg:             1 << 20,
		MaxInflightMsgs:           1024,
		MaxInflightBytes:          64 << 20,
		MaxCommittedSizePerReady:  maxApplying,
		// The queue keeps to maxUncommitted, so that this is never reached.
		MaxUncommittedEntriesSize: 4 * maxUncommitted,
		Logger:                    logger{c.Log},
	}
	if c.Group == Mixed {
		o.PreVote = false
		o.MaxSizePerMsg = 65535
		o.MaxInflightMsgs = 256
	}
	return o
}
