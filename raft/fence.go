package raft

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"

	etcdraft "go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"skep/api/skep"
	"skep/model"
)

// The fence keeps out a member whose disk is older than what it has said: one restored from a
// backup, rolled back with its machine, or whose disk lied about a sync. It may have forgotten a
// vote and give another one in that term, or an entry that counts as committed and help somebody
// lead who does not have it.
//
// What a member says, others remember: how far its log reached in the term of whoever led and
// was told so, and in which terms it voted. Each leader tells the others what it has heard, each
// member keeps that in memory, and two that connect tell each other first what they know. A
// member is told so before it hears anything else from that other one. If it has less on its
// disk, it ends.
//
// Marks compare by term and then by index. A follower may lose again what it acknowledged to a
// leader, but to a leader of a later term, and that is in its hard state before it says so; in one
// term what it acknowledged stays. So whoever is behind a mark of its own has forgotten, and nobody
// else is. What is compared is what the disk had at the start and what was said since then, and
// not the term of the moment: that rises with any heartbeat, while the entries are missing still.
//
// Until as many others as a majority needs beside this member have told it what they know, it
// neither votes nor stands for election, in a native group. That costs no election: those who could
// elect anybody are the same ones, and whoever asks for a vote has told what it knows before.
//
// What cannot be known: what only those knew who are gone, or were started again since and have not
// been told; what was said within the last tick, if who heard it is gone too.

// mark is how far a member once was.
type mark struct{ term, index uint64 }

func (m mark) less(o mark) bool { return m.term < o.term || m.term == o.term && m.index < o.index }

// maxHad bounds how many members are remembered.
const maxHad = 1024

// had is what is known of what members had, this one included.
type had struct {
	mu sync.Mutex
	of map[uint64]mark
}

// learn reports whether that is news.
func (h *had) learn(id uint64, is mark) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	was, known := h.of[id]
	if !was.less(is) || !known && len(h.of) >= maxHad {
		return false
	}
	if h.of == nil {
		h.of = map[uint64]mark{}
	}
	h.of[id] = is
	return true
}

// forget forgets who was removed.
func (h *had) forget(removed []uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range removed {
		delete(h.of, id)
	}
}

// Had returns all that this member knows of what members had on their disks, itself among them.
func (n *Node) Had() []*skep.Had {
	n.had.mu.Lock()
	defer n.had.mu.Unlock()
	all := make([]*skep.Had, 0, len(n.had.of))
	for _, id := range slices.Sorted(maps.Keys(n.had.of)) {
		all = append(all, &skep.Had{Member: id, Term: n.had.of[id].term, Index: n.had.of[id].index})
	}
	return all
}

// Told tells what another member knows that members had, this one among them. It must come when a
// connection between the two begins, in either direction and even if nothing is known, before
// any message that comes over it, and again when that member knows more. It does not wait. If this
// member has forgotten something, Run returns an error that says so.
func (n *Node) Told(from uint64, had []*skep.Had) {
	n.events.put(event{do: func(l *loop) error { return l.told(from, had) }})
}

// gate is what the loop keeps of the fence.
type gate struct {
	open bool
	// own is the furthest of what the disk had at the start and what this member has said since.
	own mark
	// start is the membership as of since, the commit index of the disk at the start. Until
	// that is applied, the node's is one of the past.
	start *membership
	since uint64
	// news tells that there may be something to judge.
	news bool
	// vouched are those who told what they know while it was closed, accused what those know
	// who know of more than there is.
	vouched map[uint64]bool
	accused map[uint64]mark
	held    []held
	tell    bool // what this member found out itself is not told yet
}

// held is a message that waits until the gate is open.
type held struct {
	*raftpb.Message
	at int // the tick at which it came
}

// newGate returns the gate of a loop that begins. A stock manager tells nobody what it knows.
func (l *loop) newGate() (gate, error) {
	g := gate{
		open: l.cfg.Group == Mixed, own: mark{l.term, l.last}, start: l.members.Load(), since: l.commit, news: true,
		vouched: map[uint64]bool{}, accused: map[uint64]mark{},
	}
	if applied := l.applied.Load(); applied < g.since {
		entries, err := l.mem.Entries(applied+1, g.since+1, math.MaxUint64)
		if err != nil {
			return g, fmt.Errorf("read the raft log from entry %d on: %w", applied+1, err)
		}
		if g.start, err = replay(g.start, entries); err != nil {
			return g, err
		}
	}
	return g, nil
}

// membership returns the one that counts: as far as the log is known to be committed.
func (l *loop) membership() *membership {
	if l.applied.Load() < l.gate.since {
		return l.gate.start
	}
	return l.members.Load()
}

// acknowledging notes what will be said once it is on disk.
func (g *gate) acknowledging(responses []*raftpb.Message) {
	for _, r := range responses {
		if is := said(r); g.own.less(is) {
			g.own = is
		}
	}
}

// said returns what a message says of its sender's disk; a vote, that the disk has the term.
func said(m *raftpb.Message) mark {
	switch {
	case m.GetReject():
		return mark{}
	case m.GetType() == raftpb.MsgAppResp:
		return mark{m.GetTerm(), m.GetIndex()}
	case m.GetType() == raftpb.MsgVoteResp:
		return mark{term: m.GetTerm()}
	default:
		return mark{}
	}
}

// note remembers what this member found out, for the others.
func (l *loop) note(id uint64, is mark) {
	if l.had.learn(id, is) {
		l.gate.tell = true
	}
}

// noteVote notes a vote for this member.
func (l *loop) noteVote(m *raftpb.Message) {
	if m.GetType() == raftpb.MsgVoteResp && l.membership().find(m.GetFrom()) != nil {
		l.note(m.GetFrom(), said(m))
	}
}

// leadsStill reports whether it leads in the term that the last Ready spoke of: when raft has gone
// on meanwhile, its Progress is of another term.
func (l *loop) leadsStill() bool {
	now := l.raw.BasicStatus()
	return l.leads() && now.RaftState == etcdraft.StateLeader && now.GetTerm() == l.term
}

// noteMatch notes what the leader's Progress says. What raft assumes of the leader itself at its
// election may not be on its disk, and no more its vote, if the others were faster: that is known
// with the first entry of its term.
func (l *loop) noteMatch(id, match uint64) {
	if match > 0 && (id != l.id || match >= l.ownFirst) {
		l.note(id, mark{l.term, match})
	}
}

// tell has the others told, at most once a tick.
func (l *loop) tell() {
	if l.gate.tell {
		l.gate.tell = false
		l.cfg.Transport.Tell()
	}
}

// told takes what another member knows. Of one that is no member, it is only kept what it says of
// this one: it may be of a group that went on without this one, or that this one was forced out of.
func (l *loop) told(from uint64, had []*skep.Had) error {
	members := l.membership()
	if from == l.id || slices.Contains(members.removed, from) {
		return nil
	}
	known := members.find(from) != nil
	for _, h := range had {
		is := mark{h.GetTerm(), h.GetIndex()}
		switch {
		case h.GetMember() == l.id:
			if l.gate.own.less(is) && len(l.gate.accused) < maxHad {
				l.gate.accused[from] = is
			}
		case known && !slices.Contains(members.removed, h.GetMember()):
			l.had.learn(h.GetMember(), is)
		}
	}
	if !l.gate.open && len(l.gate.vouched) < maxHad {
		l.gate.vouched[from] = true
	}
	l.gate.news = true
	return l.guard()
}

// guard ends this member if another one knows what it has forgotten, and opens the gate when enough
// know of nothing.
func (l *loop) guard() error {
	if !l.gate.news {
		return nil
	}
	l.gate.news = false
	members := l.membership()
	for from, had := range l.gate.accused {
		if members.find(from) != nil {
			return l.forgotten(from, had)
		}
	}
	if l.gate.open || !l.leads() && !l.gate.enough(members, l.id) {
		return nil
	}
	waiting := l.gate.held
	l.gate.open, l.gate.held, l.gate.vouched = true, nil, nil
	for _, m := range waiting {
		if l.ticks-m.at > l.cfg.ElectionTicks {
			continue // its sender has given up
		}
		if err := l.stepMessage(m.Message); err != nil {
			return err
		}
	}
	return nil
}

// enough reports whether as many members have vouched as make a majority with this one. One that
// learns counts as well: it is told the same, and may vote by now.
func (g *gate) enough(members *membership, id uint64) bool {
	voters := len(members.conf.GetVoters())
	switch {
	case voters == 0:
		voters = 2 // the log does not say yet who votes: somebody else does
	case !members.voter(id):
		voters++ // it is asked when it was made one, though it does not know of it
	}
	vouched := 0
	for _, m := range members.members {
		if m.GetRaftId() != id && g.vouched[m.GetRaftId()] {
			vouched++
		}
	}
	return vouched >= voters/2
}

// hold keeps what asks for a vote, or for standing for election, while the gate is closed: the last
// such message of each sender.
func (l *loop) hold(m *raftpb.Message) bool {
	if l.gate.open {
		return false
	}
	switch m.GetType() {
	case raftpb.MsgVote, raftpb.MsgPreVote, raftpb.MsgTimeoutNow:
	default:
		return false
	}
	l.gate.held = slices.DeleteFunc(l.gate.held, func(h held) bool { return h.GetFrom() == m.GetFrom() })
	l.gate.held = append(l.gate.held, held{m, l.ticks})
	return true
}

// amnesia recognizes in what a leader sends that this member forgot what it had acknowledged: a
// leader tells a member no higher commit index than what that member said it has. Whoever leads
// is heard about what this member had, though it is no member as far as this one knows.
func (l *loop) amnesia(m *raftpb.Message) error {
	switch m.GetType() {
	case raftpb.MsgApp, raftpb.MsgHeartbeat, raftpb.MsgSnap:
	default:
		return nil
	}
	if m.GetTerm() < l.term {
		return nil
	}
	if had, accused := l.gate.accused[m.GetFrom()]; accused {
		return l.forgotten(m.GetFrom(), had)
	}
	if m.GetType() == raftpb.MsgHeartbeat && m.GetCommit() > l.last {
		return l.forgotten(m.GetFrom(), mark{m.GetTerm(), m.GetCommit()})
	}
	return nil
}

// forgotten is what Run returns when another member knows that this one had more.
func (l *loop) forgotten(by uint64, had mark) error {
	return model.Errorf(model.Precondition,
		"this manager's state is older than what it has acknowledged (its raft log ends with entry %d, in term %d; member %x knows that it had entry %d in term %d): it is a copy, was restored from one, or lost writes; if the manager that it is a copy of runs, remove the copy; else have it demoted and removed by another manager, and join again with an empty --state-dir",
		l.last, l.term, by, had.index, had.term)
}
