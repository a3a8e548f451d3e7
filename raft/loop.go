package raft

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	etcdraft "go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// event is what reaches the loop from other goroutines: a message for raft, a change of
// membership that was committed, or a call of ReadIndex.
type event struct {
	msg     *raftpb.Message
	change  *raftpb.ConfChange
	index   uint64 // of the entry with the change
	changed chan<- error
	offer   *offer
	read    *read
	// do is for what is rare.
	do func(*loop) error
}

// loop steps raft. It never waits for anything but events.
type loop struct {
	*Node
	raw *etcdraft.RawNode

	state  etcdraft.StateType
	lead   uint64
	term   uint64
	vote   uint64
	commit uint64
	last   uint64
	// ownFirst is the first entry of the term in which this member leads.
	ownFirst uint64
	// uncommitted are the bytes that were proposed here and are not committed.
	uncommitted int
	// unsynced is how many batches of entries the appender has that are not durable yet.
	unsynced int
	reads    reads

	changes   changes
	ticks     int
	heard     int                 // the tick at which the leader was heard of last
	progress  map[uint64]progress // of the others, while it leads
	promoting map[uint64]bool
	transfers transfers
	// offered is the snapshot that is being given to raft, restored the index of the last
	// one that it took.
	offered  *offer
	restored uint64
	gate     gate
}

func (n *Node) runLoop(ctx context.Context) error {
	status := n.raw.BasicStatus()
	l := &loop{
		Node: n, raw: n.raw,
		term: status.GetTerm(), vote: status.GetVote(), commit: status.GetCommit(),
	}
	l.last, _ = n.mem.LastIndex()
	var err error
	if l.gate, err = l.newGate(); err != nil {
		return err
	}
	if _, err := rand.Read(l.reads.epoch[:]); err != nil {
		return fmt.Errorf("draw a name for reads: %w", err)
	}
	n.cfg.Transport.SetMembers(n.members.Load().members)
	ticker := time.NewTicker(n.cfg.Tick)
	defer ticker.Stop()
	defer l.stop()
	for {
		if err := l.guard(); err != nil {
			return err
		}
		l.campaign()
		l.propose()
		l.ask()
		l.changeMembership()
		l.watchTransfer()
		for l.raw.HasReady() {
			l.handle(l.raw.Ready())
			l.ask()
		}
		select {
		case <-n.events.ready:
			for _, e := range n.events.take() {
				if err := l.step(e); err != nil {
					return err
				}
			}
		case <-n.proposals.ready:
		case <-ticker.C:
			if l.gate.open || l.leads() {
				l.raw.Tick()
			}
			l.tickReads()
			l.tickOthers()
		case <-ctx.Done():
			return nil
		}
	}
}

// stop refuses what was not taken and lets nobody read here any more.
func (l *loop) stop() {
	l.readable.Store(0)
	l.proposals.close()
	l.followed.Store(nil)
	l.changed.notify()
}

func (l *loop) leads() bool { return l.state == etcdraft.StateLeader }

// campaign makes the only voter lead at once: nobody else could, and nobody is to be
// waited for.
func (l *loop) campaign() {
	if l.state == etcdraft.StateFollower && l.lead == etcdraft.None && l.members.Load().onlyVoter(l.id) {
		// It fails when a change of membership is not applied yet; it is tried again then.
		_ = l.raw.Campaign()
	}
}

func (l *loop) step(e event) error {
	switch {
	case e.change != nil:
		e.changed <- l.apply(e.change, e.index)
	case e.offer != nil:
		return l.take(e.offer)
	case e.read != nil:
		l.reads.waiting = append(l.reads.waiting, *e.read)
	case e.do != nil:
		return e.do(l)
	default:
		return l.stepMessage(e.msg)
	}
	return nil
}

func (l *loop) stepMessage(m *raftpb.Message) error {
	if err := l.amnesia(m); err != nil {
		return err
	}
	if l.hold(m) {
		return nil
	}
	l.noteVote(m)
	if m.GetFrom() == l.lead {
		l.heard = l.ticks
	}
	if m.GetType() == raftpb.MsgStorageAppendResp {
		l.unsynced--
	}
	// What raft does not take is late or of no member: nothing follows from it.
	if err := l.raw.Step(m); err != nil && !errors.Is(err, etcdraft.ErrStepPeerNotFound) && !errors.Is(err, etcdraft.ErrProposalDropped) {
		return err
	}
	return nil
}

// apply changes the membership.
func (l *loop) apply(cc *raftpb.ConfChange, index uint64) error {
	before := l.members.Load()
	if index <= l.restored || before.refuses(cc) {
		return nil // the snapshot that raft has taken knows of it
	}
	if before.find(cc.GetNodeId()) == nil && cc.GetNodeId() != l.id {
		l.mem.added(index)
		if l.leads() && l.mem.lacking() {
			l.wantSnapshot()
		}
	}
	members, err := before.apply(cc, l.raw.ApplyConfChange(cc))
	if err != nil {
		return err
	}
	l.setMembers(&members)
	l.publish()
	l.cfg.Log.Info("raft membership changed", "raft.id", l.id, "change", cc.GetType().String(), "member", cc.GetNodeId(),
		"voters", len(members.conf.GetVoters()), "learners", len(members.conf.GetLearners()))
	if cc.GetType() == raftpb.ConfChangeRemoveNode && cc.GetNodeId() == l.id {
		return ErrRemoved
	}
	return nil
}

// gather tells to let proposals wait while the disk of this leader writes a batch. They would not be
// applied here any sooner, and only make more of the messages, each of which costs every member the
// same for one entry as for many.
func (l *loop) gather() bool { return l.leads() && l.unsynced > 0 }

// propose gives raft what waits in the queue, as far as its log of what is not committed
// has room. What is queued for another term is refused.
func (l *loop) propose() {
	for !l.gather() {
		term := l.term
		if !l.leads() {
			term = 0
		}
		limit := min(maxProposal, l.maxUncommitted-l.uncommitted)
		taken, refused := l.proposals.take(term, limit, l.uncommitted == 0)
		if len(refused) > 0 {
			l.cfg.StateMachine.Refused(refused)
		}
		if len(taken) == 0 {
			return
		}
		entries := make([]*raftpb.Entry, len(taken))
		size := 0
		for i, p := range taken {
			entries[i] = &raftpb.Entry{Data: p.data}
			size += len(p.data)
		}
		if err := l.raw.Step(&raftpb.Message{Type: raftpb.MsgProp.Enum(), From: &l.id, Entries: entries}); err != nil {
			// It leads and does not take them: leadership is being handed over. Either
			// that succeeds, and they are refused, or they are taken later.
			l.proposals.putBack(taken)
			return
		}
		l.uncommitted += size
		l.metrics.proposed(taken)
	}
}

// handle carries out what raft wants done.
func (l *loop) handle(rd etcdraft.Ready) {
	if hs := rd.HardState; !etcdraft.IsEmptyHardState(hs) {
		if hs.GetTerm() != l.term {
			l.askAgain() // even the same leader has forgotten what it was asked
		}
		l.term, l.commit = hs.GetTerm(), hs.GetCommit()
	}
	if n := len(rd.Entries); n > 0 {
		l.last = rd.Entries[n-1].GetIndex()
		if l.changes.posed {
			l.changes.posed, l.changes.at = false, l.last
		}
	}
	if s := rd.Snapshot; !etcdraft.IsEmptySnap(s) {
		l.last = s.GetMetadata().GetIndex()
		if n := len(rd.Entries); n > 0 {
			l.last = rd.Entries[n-1].GetIndex()
		}
		l.accept(s)
	}
	if rd.SoftState != nil {
		l.roles(rd)
		defer l.changed.notify() // when it is published
	}
	for _, e := range rd.CommittedEntries {
		if l.leads() && e.GetTerm() == l.term && e.GetType() == raftpb.EntryNormal {
			l.uncommitted -= len(e.GetData())
		}
	}
	// Before anybody can learn that it is committed, a read must find it.
	l.publish()
	l.answer(rd.ReadStates)
	var others []*raftpb.Message
	for _, m := range rd.Messages {
		switch {
		case l.send(m):
		case m.GetFrom() != l.id:
			// raft passes on what was meant for the leader. It is the sender's to say: it asks
			// again as soon as it knows who leads, and nobody else is heard in its name.
		default:
			others = append(others, m)
		}
	}
	if len(others) > 0 {
		l.cfg.Transport.Send(others)
	}
}

// roles notes who leads now.
func (l *loop) roles(rd etcdraft.Ready) {
	led, leader := l.leads(), l.lead
	l.state, l.lead = rd.RaftState, rd.Lead
	l.heard = l.ticks
	if l.lead != leader {
		l.askAgain()
		l.cfg.Log.Info("raft leader changed", "raft.leader", l.lead, "raft.term", l.term, "raft.id", l.id)
	}
	if led == l.leads() {
		return
	}
	l.uncommitted = 0
	l.changes.posed, l.changes.at = false, 0
	l.progress, l.promoting = nil, nil
	l.followed.Store(nil)
	if led {
		l.ownFirst = 0
		l.proposals.close()
		l.orders.put(order{deposed: true})
		return
	}
	l.gate.news = true
	l.ownFirst = l.last // the empty entry that raft began the term with
	l.metrics.elected()
	l.orders.put(order{elected: l.term})
	l.observe()
}

// publish makes visible to other goroutines what the loop knows.
func (l *loop) publish() {
	l.known.Store(&known{lead: l.lead, term: l.term, commit: l.commit, last: l.last})
	readable := uint64(0)
	if l.leads() && l.commit >= l.ownFirst && l.members.Load().onlyVoter(l.id) {
		readable = l.commit
	}
	l.readable.Store(readable)
}

// send hands a message to the goroutine it is for. It reports false if it is for another
// member.
func (l *loop) send(m *raftpb.Message) bool {
	switch m.GetTo() {
	case etcdraft.LocalAppendThread:
		l.gate.acknowledging(m.GetResponses())
		if len(m.GetResponses()) > 0 || len(m.GetEntries()) > 0 {
			for _, r := range m.GetResponses() {
				if r.GetType() == raftpb.MsgStorageAppendResp {
					l.unsynced++
				}
			}
			l.appends.put(m)
		} else {
			l.appends.leave(m) // a commit index, which is written with whatever comes next
		}
	case etcdraft.LocalApplyThread:
		l.orders.put(order{apply: m})
	default:
		return false
	}
	return true
}
