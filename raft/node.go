package raft

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	etcdraft "go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"golang.org/x/sync/errgroup"

	"skep/api"
	"skep/raft/snap"
	"skep/raft/wal"
)

// Node is one member of a raft group.
type Node struct {
	cfg     Config
	id      uint64
	log     *wal.Log // the appender's, but for Release
	mem     *memLog
	raw     *etcdraft.RawNode // the loop's
	found   uint64            // the last entry that the log had when it was opened
	metrics *metrics
	group   *errgroup.Group // all goroutines of Run

	maxUncommitted int // bytes that raft may hold and which are not committed

	snapshots    snap.Dir
	snapshotSize atomic.Uint64 // of the last one
	writing      atomic.Bool   // one is being written
	wanted       atomic.Bool   // one was ordered, and the applier does not know yet
	tuning       atomic.Pointer[Tuning]
	rotation     rotation
	incoming     incoming
	taken        sync.Map // *offer that raft took, by index, until it is installed

	proposals *proposals
	events    *mailbox[event]           // to the loop
	appends   *mailbox[*raftpb.Message] // to the appender
	orders    *mailbox[order]           // to the applier

	known    atomic.Pointer[known]
	followed atomic.Pointer[map[uint64]progress] // by a leader
	reach    reach
	had      had
	changed  signal
	busy     atomic.Int64 // since when the appender writes, in nanoseconds after began; 0: it does not
	applying atomic.Int64 // the applier, likewise
	began    time.Time
	members  atomic.Pointer[membership]
	full     atomic.Pointer[error] // what nothing can be appended for: the disk is full
	ahead    atomic.Uint64         // members may be as of this entry already, which a snapshot brings
	applied  atomic.Uint64
	readable atomic.Uint64 // what a read here, now, must have applied; 0: not known
	started  atomic.Bool
	done     chan struct{} // Run has returned
}

// known is what the loop publishes.
type known struct{ lead, term, commit, last uint64 }

// Run replicates until ctx ends, or until the member cannot go on, which it reports
// as an error. When it returns, all goroutines that it started have ended, what was
// proposed is applied, refused or of unknown outcome, and the state machine follows.
// It may be called once.
func (n *Node) Run(ctx context.Context) (err error) {
	if n.started.Swap(true) {
		return errors.New("raft: Run was called before")
	}
	defer close(n.done)
	defer func() {
		err = errors.Join(err, n.log.Close())
	}()
	if err := n.metrics.register(); err != nil {
		return fmt.Errorf("register the metrics of raft: %w", err)
	}
	defer n.metrics.unregister()

	// When ctx ends, all goes on until another leads.
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	outer := ctx
	n.group, ctx = errgroup.WithContext(running)
	n.group.Go(func() error { return n.runAppender(ctx) })
	n.group.Go(func() error { return n.runApplier(ctx) })
	n.group.Go(func() error { return n.runLoop(ctx) })
	n.group.Go(func() error {
		select {
		case <-outer.Done():
			n.HandOver(ctx)
			stop()
		case <-ctx.Done():
		}
		return nil
	})
	err = n.group.Wait()
	n.incoming.end()

	// Nobody proposes after Follow; what came before it and after the loop is here.
	if _, refused := n.proposals.take(0, 0, false); len(refused) > 0 {
		n.cfg.StateMachine.Refused(refused)
	}
	n.cfg.StateMachine.End()
	return err
}

// Propose proposes each of data as one entry, in this order and after all that was
// proposed before. It never waits. What becomes of them is told through the
// StateMachine: while this member leads they are taken, if slowly; once it does not, they are
// refused. The data belongs to the node from here on.
func (n *Node) Propose(data [][]byte) { n.proposals.put(data) }

// Full returns an error of kind model.Unavailable while the disk is full and nothing can be
// appended, and nil otherwise. What is proposed meanwhile waits until there is space.
func (n *Node) Full() error {
	if err := n.full.Load(); err != nil {
		return *err
	}
	return nil
}

// Status is what a node knows of itself and its group.
type Status struct {
	// ID is this member, Leader the one that leads, or zero if none is known.
	ID, Leader uint64
	Term       uint64
	// Applied ≤ Commit ≤ LastIndex are indexes of the log.
	Applied, Commit, LastIndex uint64
	// Members are the members of the group, by id, with who leads and who can be reached.
	Members []*api.RaftMember
	// Learners are the ids of those that do not vote yet, Removed those of former members.
	// They are shared: do not change them.
	Learners, Removed []uint64
	// Match is, on the leader, up to where each other member is known to have the log.
	Match map[uint64]uint64
}

// Status returns the present status. It does not wait.
func (n *Node) Status() Status {
	applied, k, m := n.applied.Load(), n.known.Load(), n.members.Load()
	s := Status{
		ID: n.id, Leader: k.lead, Term: k.term,
		Applied: applied, Commit: k.commit, LastIndex: k.last,
		Learners: m.conf.GetLearners(), Removed: m.removed,
	}
	followed := map[uint64]progress{}
	if p := n.followed.Load(); p != nil {
		followed = *p
		s.Match = map[uint64]uint64{}
	}
	for _, member := range m.members {
		id := member.GetRaftId()
		p, isFollowed := followed[id]
		if isFollowed && id != n.id {
			s.Match[id] = p.match
		}
		s.Members = append(s.Members, &api.RaftMember{
			RaftId: id, NodeId: member.GetNodeId(), Addr: member.GetAddr(),
			Status: &api.RaftMemberStatus{Leader: id == k.lead, Reachability: n.reachability(id, p, isFollowed)},
		})
	}
	return s
}

// reachability says whether a member can be reached: the leader hears from it, others
// know from the transport.
func (n *Node) reachability(id uint64, p progress, followed bool) api.RaftMemberStatus_Reachability {
	reachable, known := n.reach.get(id)
	switch {
	case id == n.id:
		return api.RaftMemberStatus_REACHABLE
	case followed && p.active && (reachable || !known):
		return api.RaftMemberStatus_REACHABLE
	case followed && p.seen:
		return api.RaftMemberStatus_UNREACHABLE
	case !known:
		return api.RaftMemberStatus_UNKNOWN
	case reachable:
		return api.RaftMemberStatus_REACHABLE
	default:
		return api.RaftMemberStatus_UNREACHABLE
	}
}

// fatal says of an error of the log's files what it means. A lack of space is none: see untilSpace.
func fatal(err error) error {
	return fmt.Errorf("%w; this manager stops, since nothing can be acknowledged that may not be on disk: check the disk (the kernel's log says more), then start it again; if it cannot and other managers run, have one of them demote and remove it, and join again with an empty --state-dir", err)
}
