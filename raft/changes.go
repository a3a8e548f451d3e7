package raft

import (
	"context"
	"fmt"
	"slices"

	etcdraft "go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/model"
)

// promotable is how many entries a learner may lag behind what is committed and still be
// made a voter.
const promotable = 256

// change is a wish for another membership. Its fields are the loop's.
type change struct {
	proposal *raftpb.ConfChange
	// holds tells that nothing is left to do.
	holds func(m *membership) bool
	// check refuses it, as the group is now.
	check  func(l *loop) error
	answer chan<- error // has room; nil: nobody waits
	left   <-chan struct{}
}

func (c *change) tell(err error) {
	if c.answer != nil {
		c.answer <- err
	}
}

func (c *change) gone() bool {
	select {
	case <-c.left:
		return true
	default:
		return false
	}
}

// changes are the wishes that wait. Raft takes one change at a time.
type changes struct {
	waiting []*change
	posed   bool   // one was proposed, at an index that is not known yet
	at      uint64 // of the last one that was proposed
}

// AddMember adds a member, in a native group as a learner that the leader makes a voter
// when it has caught up, in a mixed one as a voter, and returns when that is applied here.
// A member that is there already only gets the new address. Only the leader does that: the error
// of others is of kind model.Precondition, and so is that for an id that was removed.
func (n *Node) AddMember(ctx context.Context, member *api.RaftMember) error {
	typ := raftpb.ConfChangeAddLearnerNode
	if n.cfg.Group == Mixed {
		typ = raftpb.ConfChangeAddNode
	}
	if n.members.Load().find(member.GetRaftId()) != nil {
		typ = raftpb.ConfChangeUpdateNode
	}
	return n.put(ctx, "add", typ, member)
}

// UpdateMember gives a member a new address. It returns when that is applied here.
func (n *Node) UpdateMember(ctx context.Context, member *api.RaftMember) error {
	if n.members.Load().find(member.GetRaftId()) == nil {
		return model.Errorf(model.NotFound, "update raft member %x: there is none", member.GetRaftId())
	}
	return n.put(ctx, "update", raftpb.ConfChangeUpdateNode, member)
}

func (n *Node) put(ctx context.Context, verb string, typ raftpb.ConfChangeType, member *api.RaftMember) error {
	id := member.GetRaftId()
	if id == 0 {
		return model.Errorf(model.Invalid, "%s a raft member: it has no id", verb)
	}
	cc, err := changeTo(typ, member)
	if err != nil {
		return err
	}
	err = n.change(ctx, &change{
		proposal: cc,
		holds: func(m *membership) bool {
			is := m.find(id)
			return is != nil && is.GetNodeId() == member.GetNodeId() && is.GetAddr() == member.GetAddr()
		},
		check: func(l *loop) error {
			m := l.members.Load()
			switch {
			case slices.Contains(m.removed, id):
				return model.Errorf(model.Precondition, "this id was removed from the group and never comes back: join with a new one: %w", ErrRemoved)
			case typ == raftpb.ConfChangeUpdateNode && m.find(id) == nil:
				return model.Errorf(model.NotFound, "there is no such member")
			}
			return nil
		},
	})
	return about(verb, id, err)
}

// RemoveMember removes a member, and returns when that is applied here. It is refused, with an
// error of kind model.Precondition, if too few of the others can be reached to go on.
func (n *Node) RemoveMember(ctx context.Context, id uint64) error {
	err := n.change(ctx, &change{
		proposal: &raftpb.ConfChange{Type: raftpb.ConfChangeRemoveNode.Enum(), NodeId: &id},
		holds:    func(m *membership) bool { return m.find(id) == nil },
		check:    func(l *loop) error { return l.mayRemove(id) },
	})
	return about("remove", id, err)
}

func about(verb string, id uint64, err error) error {
	if err == nil {
		return nil
	}
	return model.Errorf(model.KindOf(err), "%s raft member %x: %w", verb, id, err)
}

// changeTo returns the entry's content that makes member what typ says.
func changeTo(typ raftpb.ConfChangeType, member *api.RaftMember) (*raftpb.ConfChange, error) {
	content, err := proto.Marshal(&api.RaftMember{
		RaftId: member.GetRaftId(), NodeId: member.GetNodeId(), Addr: member.GetAddr(),
	})
	if err != nil {
		return nil, fmt.Errorf("encode a raft member: %w", err)
	}
	return &raftpb.ConfChange{Type: typ.Enum(), NodeId: new(member.GetRaftId()), Context: content}, nil
}

// change has the loop make a change and waits for it.
func (n *Node) change(ctx context.Context, c *change) error {
	answer := make(chan error, 1)
	c.answer, c.left = answer, ctx.Done()
	n.events.put(event{do: func(l *loop) error {
		l.changes.waiting = append(l.changes.waiting, c)
		return nil
	}})
	select {
	case err := <-answer:
		return err
	case <-n.done:
		if c.holds(n.members.Load()) {
			return nil
		}
		return model.Errorf(model.Unavailable, "this manager has stopped")
	case <-ctx.Done():
		return model.Errorf(model.Unavailable, "the change was not agreed on in time: %w; it may still come: ask again", context.Cause(ctx))
	}
}

// changeMembership proposes the next change that somebody waits for.
func (l *loop) changeMembership() {
	if len(l.changes.waiting) == 0 {
		return
	}
	members := l.members.Load()
	l.changes.waiting = slices.DeleteFunc(l.changes.waiting, func(c *change) bool {
		switch {
		case !l.leads():
			c.tell(model.Errorf(model.Precondition, "this manager does not lead: ask the one that does"))
		case c.holds(members):
			c.tell(nil)
		default:
			return c.gone()
		}
		return true
	})
	for len(l.changes.waiting) > 0 && l.mayChange() {
		c := l.changes.waiting[0]
		err := c.check(l)
		if err == nil {
			err = l.proposeChange(c.proposal)
			if err == nil {
				l.changes.posed = true
				return
			}
			if isDropped(err) {
				return // leadership is being handed over
			}
		}
		c.tell(err)
		l.changes.waiting = l.changes.waiting[1:]
	}
}

// mayChange reports whether no change is under way.
func (l *loop) mayChange() bool {
	return !l.changes.posed && l.commit >= l.ownFirst && l.raw.BasicStatus().Applied >= max(l.changes.at, l.ownFirst)
}

func (l *loop) proposeChange(cc *raftpb.ConfChange) error {
	data, err := proto.Marshal(cc)
	if err != nil {
		return fmt.Errorf("encode a change of members: %w", err)
	}
	return l.raw.Step(&raftpb.Message{Type: raftpb.MsgProp.Enum(), From: &l.id, Entries: []*raftpb.Entry{
		{Type: raftpb.EntryConfChange.Enum(), Data: data},
	}})
}

// mayRemove says why a member may not be removed: as many of the voters that are left as
// decide must be reachable, and as many of the present ones, which have to agree.
func (l *loop) mayRemove(id uint64) error {
	conf := l.members.Load().conf
	if !slices.Contains(conf.GetVoters(), id) {
		return nil
	}
	l.observe()
	before, after := 0, 0
	for _, voter := range conf.GetVoters() {
		if voter != l.id && !l.active(voter) {
			continue
		}
		before++
		if voter != id {
			after++
		}
	}
	n := len(conf.GetVoters())
	switch {
	case n == 1:
		return model.Errorf(model.Precondition, "it is the only manager that decides: add another one first")
	case before < n/2+1:
		return model.Errorf(model.Precondition, "only %d of %d managers can be reached, which is no majority: bring some back first", before, n)
	case after < (n-1)/2+1:
		return model.Errorf(model.Precondition, "this would lose the quorum: of the %d managers that are left, %d can be reached: bring some back first, or remove those that cannot be reached", n-1, after)
	}
	return nil
}

// promote makes voters of the learners that have caught up.
func (l *loop) promote() {
	if l.cfg.Group == Mixed || !l.mayChange() {
		return
	}
	members := l.members.Load()
	for _, id := range members.conf.GetLearners() {
		member, p := members.find(id), l.progress[id]
		if member == nil || !l.active(id) || !p.prompt || p.match == 0 || p.match+promotable < l.commit || l.promoting[id] {
			continue
		}
		cc, err := changeTo(raftpb.ConfChangeAddNode, member)
		if err != nil {
			l.cfg.Log.Error("a new raft member cannot be made one that votes", "raft.id", id, "error", err)
			continue
		}
		if l.promoting == nil {
			l.promoting = map[uint64]bool{}
		}
		l.promoting[id] = true
		l.changes.waiting = append(l.changes.waiting, &change{
			proposal: cc,
			holds: func(m *membership) bool {
				done := m.find(id) == nil || slices.Contains(m.conf.GetVoters(), id)
				if done {
					delete(l.promoting, id)
				}
				return done
			},
			check: func(*loop) error { return nil },
		})
	}
}

func isDropped(err error) bool { return err == etcdraft.ErrProposalDropped } //nolint:errorlint // raft returns it as it is
