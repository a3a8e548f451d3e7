package raft

import (
	"context"
	"time"

	etcdraft "go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"

	"skep/model"
)

// progress is what a leader knows of another member.
type progress struct {
	match   uint64
	learner bool
	// seen tells that it was heard of at all in this term, or is missing for long enough to
	// say that it was not; active that it was, lately.
	seen, active bool
	at           int // the tick at which it was heard of last, or followed first
	// A learner is measured in rounds, each over what was committed when it began: goal, at
	// the tick begun. prompt tells that the last one took no longer than an election.
	goal   uint64
	begun  int
	prompt bool
}

// learn measures a learner (Ongaro's dissertation, 4.2.1): how many entries it lacks says
// little, since they may be large and its link narrow. Who cannot keep up would, as a voter, be
// waited for.
func (p *progress) learn(was progress, commit uint64, tick, limit int) {
	p.goal, p.begun, p.prompt = was.goal, was.begun, was.prompt
	if p.goal != 0 && p.match < p.goal {
		return
	}
	p.prompt = p.goal != 0 && tick-p.begun <= limit
	p.goal, p.begun = commit, tick
}

// since returns the present time as it stands in busy and applying.
func (n *Node) since() int64 { return max(int64(time.Since(n.began)), 1) }

// active reports whether the leader heard of a member within about an election time.
func (l *loop) active(id uint64) bool { return l.progress[id].active }

// setMembers makes a membership the present one.
func (l *loop) setMembers(m *membership) {
	l.members.Store(m)
	l.reach.keep(m)
	l.had.forget(m.removed)
	l.gate.news = true
	l.cfg.Transport.SetMembers(m.members)
	if l.leads() {
		l.observe()
	}
	l.changed.notify()
}

// tickOthers does what the clock of a member with others calls for.
func (l *loop) tickOthers() {
	l.ticks++
	if l.lead != etcdraft.None && !l.leads() && l.ticks-l.heard > 2*l.cfg.ElectionTicks && !l.members.Load().voter(l.id) {
		_ = l.raw.ForgetLeader() // who has no vote elects nobody, and would follow one that is gone for ever
	}
	leads := l.leads() && len(l.members.Load().members) > 1
	if leads {
		l.observe()
	}
	l.tell()
	if !leads {
		return
	}
	l.promote()
	if l.ticks%l.cfg.ElectionTicks == 0 && l.mem.lacking() {
		l.wantSnapshot() // the one that was due did not get there
	}
	if limit := l.electionTime(); l.Full() != nil || l.stalled(&l.busy, limit) || l.stalled(&l.applying, limit) {
		if l.transfers.shed+l.cfg.ElectionTicks <= l.ticks {
			l.transfers.shed = l.ticks
			if to := l.heir(); to != 0 {
				l.cfg.Log.Warn("the disk or the state machine of the raft leader stalls, or the disk is full; it hands over", "raft.id", l.id, "to", to)
				l.raw.TransferLeader(to)
			}
		}
	}
}

func (n *Node) electionTime() time.Duration { return time.Duration(n.cfg.ElectionTicks) * n.cfg.Tick }

func (l *loop) stalled(since interface{ Load() int64 }, limit time.Duration) bool {
	at := since.Load()
	return at != 0 && time.Duration(l.since()-at) > limit
}

// observe notes how far the others are.
func (l *loop) observe() {
	next := make(map[uint64]progress)
	news, leads := false, l.leadsStill()
	l.raw.WithProgress(func(id uint64, typ etcdraft.ProgressType, pr tracker.Progress) {
		if leads {
			l.noteMatch(id, pr.Match)
		}
		if id == l.id {
			return
		}
		was, known := l.progress[id]
		p := progress{match: pr.Match, learner: typ == etcdraft.ProgressTypeLearner, seen: was.seen, at: was.at}
		if !known || pr.RecentActive {
			p.at = l.ticks
		}
		silent := l.ticks-p.at > l.cfg.ElectionTicks
		p.seen = p.seen || pr.RecentActive || silent
		p.active = p.seen && !silent
		if p.learner {
			p.learn(was, l.commit, l.ticks, l.cfg.ElectionTicks)
		}
		news = news || p.active != was.active || p.seen != was.seen
		next[id] = p
	})
	l.progress = next
	l.followed.Store(&next)
	if news {
		l.changed.notify()
	}
}

// heir returns the voter that could lead soonest, or zero. Right after an election that may be one
// that was not heard of yet.
func (l *loop) heir() uint64 {
	l.observe()
	members := l.members.Load()
	best := uint64(0)
	for id, p := range l.progress {
		if reachable, known := l.reach.get(id); !members.voter(id) || p.seen && !p.active || known && !reachable {
			continue
		}
		if b := l.progress[best]; best == 0 || p.match > b.match || p.match == b.match && id < best {
			best = id
		}
	}
	return best
}

// transfers are the calls of TransferLeadership that wait.
type transfers struct {
	waiting []*transfer
	shed    int // the tick of the last transfer because of a stall
}

type transfer struct {
	to     uint64 // 0: the best one
	asked  bool
	answer chan<- error
	left   <-chan struct{}
}

// TransferLeadership hands leadership to another voter, the one that is furthest if to is
// zero, and returns when another leads. It returns nil at once if this member does not
// lead. Its error is of kind model.Precondition if there is nobody to take over.
func (n *Node) TransferLeadership(ctx context.Context, to uint64) error {
	answer := make(chan error, 1)
	t := &transfer{to: to, answer: answer, left: ctx.Done()}
	n.events.put(event{do: func(l *loop) error {
		l.transfers.waiting = append(l.transfers.waiting, t)
		return nil
	}})
	select {
	case err := <-answer:
		return err
	case <-n.done:
		return nil
	case <-ctx.Done():
		return model.Errorf(model.Unavailable, "hand over leadership: no other manager leads yet: %w", context.Cause(ctx))
	}
}

// watchTransfer begins the transfers that were asked for, and ends those that are done.
func (l *loop) watchTransfer() {
	if len(l.transfers.waiting) == 0 {
		return
	}
	now := l.raw.BasicStatus() // newer than what the last Ready said
	leads := now.RaftState == etcdraft.StateLeader
	var left []*transfer
	for _, t := range l.transfers.waiting {
		select {
		case <-t.left:
			continue
		default:
		}
		switch {
		case !leads && now.Lead != etcdraft.None:
			t.answer <- nil
			continue
		case !leads: // an election is under way
		case !t.asked:
			if err := l.transfer(t); err != nil {
				t.answer <- err
				continue
			}
		case now.LeadTransferee == etcdraft.None:
			t.answer <- model.Errorf(model.Unavailable, "hand over leadership: the other manager did not take over in time: try again")
			continue
		}
		left = append(left, t)
	}
	l.transfers.waiting = left
}

func (l *loop) transfer(t *transfer) error {
	to := t.to
	switch {
	case to == 0:
		if to = l.heir(); to == 0 {
			return model.Errorf(model.Precondition, "hand over leadership: no other manager that votes can be reached: bring one back or add one first")
		}
	case to == l.id || !l.members.Load().voter(to):
		return model.Errorf(model.Precondition, "hand over leadership: %x is no other manager that votes", to)
	}
	t.asked = true
	l.raw.TransferLeader(to)
	return nil
}

// HandOver lets another member lead, if this one leads and another can: best before this one
// ends. It takes at most about one election time.
func (n *Node) HandOver(ctx context.Context) {
	k, members := n.known.Load(), n.members.Load()
	if k.lead != n.id || len(members.conf.GetVoters()) < 2 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, n.electionTime())
	defer cancel()
	if err := n.TransferLeadership(ctx, 0); err != nil {
		n.cfg.Log.Info("this manager led and could not hand over", "raft.id", n.id, "error", err)
	}
}
