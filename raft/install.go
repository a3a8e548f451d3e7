package raft

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"go.etcd.io/raft/v3/raftpb"

	"skep/api"
	"skep/model"
	"skep/raft/seal"
	"skep/raft/snap"
	"skep/raft/wal"
)

// OutgoingSnapshot is a snapshot as it is sent to another member. It must be closed.
type OutgoingSnapshot struct {
	// ID names the bytes: two with the same ID have the same.
	ID string
	// Meta says of what it is a snapshot.
	Meta *raftpb.SnapshotMetadata
	// Members and Removed are the group as of then.
	Members []*api.RaftMember
	Removed []uint64
	// State is what Snapshot.WriteTo wrote. It stays readable when newer ones take the
	// place of this one.
	State io.ReadSeekCloser
}

// OpenSnapshot opens the newest snapshot, which must not be older than index.
func (n *Node) OpenSnapshot(index uint64) (*OutgoingSnapshot, error) {
	n.incoming.mu.Lock() // the file stays until it is open
	defer n.incoming.mu.Unlock()
	newest := n.mem.snapshotIndex()
	if newest == 0 || newest < index {
		return nil, fmt.Errorf("the newest raft snapshot is at %d, and one at %d is wanted", newest, index)
	}
	r, err := n.snapshots.Open(newest)
	if err != nil {
		return nil, err
	}
	return &OutgoingSnapshot{
		ID:      fmt.Sprintf("%x-%x-%x", n.id, r.Meta.Term, r.Meta.Index),
		Meta:    &raftpb.SnapshotMetadata{Index: &r.Meta.Index, Term: &r.Meta.Term, ConfState: r.Meta.Conf},
		Members: r.Meta.Members, Removed: r.Meta.Removed,
		State: &seekable{Reader: r, pace: pace{stop: n.done}},
	}, nil
}

// seekable makes a snapshot's state seekable: forward by reading, back by beginning anew.
type seekable struct {
	pace
	at int64
	*snap.Reader
}

func (s *seekable) Read(p []byte) (int, error) {
	s.on(len(p))
	n, err := s.Reader.Read(p)
	s.at += int64(n)
	return n, err
}

// Seek moves to an offset from the beginning.
func (s *seekable) Seek(offset int64, whence int) (int64, error) {
	if whence != io.SeekStart || offset < 0 {
		return s.at, errors.New("a raft snapshot is sought from its beginning only")
	}
	if offset < s.at {
		if err := s.Rewind(); err != nil {
			return s.at, err
		}
		s.at = 0
	}
	if _, err := io.CopyN(io.Discard, s, offset-s.at); err != nil {
		return s.at, fmt.Errorf("seek in a raft snapshot: %w", err)
	}
	return s.at, nil
}

// incoming are snapshots that other members send. Its lock is held, too, by whoever makes a
// snapshot the newest one or removes old ones.
type incoming struct {
	mu     sync.Mutex
	number uint64
	now    *IncomingSnapshot // not complete; a newer one takes its place
	whole  []*snap.Incoming  // complete: raft is asked, or has taken it and it is not adopted yet
	ended  bool
}

// end gives up what did not come, when nobody will take it any more.
func (i *incoming) end() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.ended = true
	if i.now != nil {
		i.now.discard()
	}
}

// oldKeys reports whether a snapshot that has come needs another key than current. One that
// is still coming and does is given up: it is sent again.
func (i *incoming) oldKeys(current seal.Key) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.now != nil && i.now.file.Key() != current {
		i.now.discard()
	}
	return slices.ContainsFunc(i.whole, func(s *snap.Incoming) bool { return s.Key() != current })
}

func (i *incoming) forget(file *snap.Incoming) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.whole = slices.DeleteFunc(i.whole, func(s *snap.Incoming) bool { return s == file })
}

// SnapshotHeader is what is said of a snapshot before its state comes.
type SnapshotHeader struct {
	// ID, Members and Removed are those of the OutgoingSnapshot at the other side.
	ID      string
	Members []*api.RaftMember
	Removed []uint64
}

// IncomingSnapshot takes the state of a snapshot, which goes to a file as it comes. Nothing
// of that is a snapshot before Commit. Its methods may be called from several goroutines;
// once another one has taken its place they fail.
type IncomingSnapshot struct {
	node    *Node
	id      string
	message *raftpb.Message // of the last call of ReceiveSnapshot
	meta    snap.Meta
	file    *snap.Incoming
	offset  int64
	ended   bool
}

var errGivenUp = errors.New("the snapshot was given up, since it failed or another one is sent")

// ReceiveSnapshot begins to take the snapshot of a MsgSnap, or goes on with the one of that
// ID that was interrupted in this process. One at a time is taken: what another member was
// sending is given up.
func (n *Node) ReceiveSnapshot(m *raftpb.Message, header SnapshotHeader) (*IncomingSnapshot, error) {
	meta, k := m.GetSnapshot().GetMetadata(), n.known.Load()
	switch from := m.GetFrom(); {
	case slices.Contains(n.members.Load().removed, from):
		n.metrics.refused.Inc()
		return nil, ErrRemoved
	case m.GetType() != raftpb.MsgSnap, meta.GetIndex() == 0, m.GetTo() != n.id, from == n.id, from == 0:
		n.metrics.refused.Inc()
		return nil, model.Errorf(model.Invalid, "raft member %x sends a snapshot that is none, or is not for this member", from)
	case m.GetTerm() < k.term:
		return nil, model.Errorf(model.Precondition, "raft member %x sends a snapshot and does not lead any more: it led in term %d, and this is %d", from, m.GetTerm(), k.term)
	}
	n.incoming.mu.Lock()
	defer n.incoming.mu.Unlock()
	if n.incoming.ended {
		return nil, model.Errorf(model.Unavailable, "this manager has stopped")
	}
	if was := n.incoming.now; was != nil {
		if was.id == header.ID && was.meta.Index == meta.GetIndex() && was.meta.Term == meta.GetTerm() {
			was.message = m
			return was, nil
		}
		was.discard()
	}
	file := snap.Meta{
		Index: meta.GetIndex(), Term: meta.GetTerm(), Conf: raftpb.EnsureConfState(meta.GetConfState()),
		Members: header.Members, Removed: header.Removed, ID: n.id, Owner: n.cfg.NodeID, Received: true,
	}
	n.incoming.number++
	to, err := n.snapshots.Receive(file, n.incoming.number)
	if err != nil {
		return nil, err
	}
	n.incoming.now = &IncomingSnapshot{node: n, id: header.ID, message: m, meta: file, file: to}
	return n.incoming.now, nil
}

// Offset is how much of the state is there.
func (s *IncomingSnapshot) Offset() int64 {
	s.node.incoming.mu.Lock()
	defer s.node.incoming.mu.Unlock()
	return s.offset
}

// Write takes the next piece of the state. After an error the snapshot begins again with the
// next ReceiveSnapshot.
func (s *IncomingSnapshot) Write(p []byte) (int, error) {
	s.node.incoming.mu.Lock()
	defer s.node.incoming.mu.Unlock()
	if s.ended {
		return 0, errGivenUp
	}
	k, err := s.file.Write(p)
	s.offset += int64(k)
	if err != nil {
		s.end()
	}
	return k, err
}

// Commit says that all of the state is there, makes it durable and hands the message to raft. It
// returns when raft has taken it, or has no use for it since it has all that already.
func (s *IncomingSnapshot) Commit(ctx context.Context) error {
	m, err := s.finish()
	if err != nil {
		return err
	}
	o := &offer{message: m, meta: s.meta, file: s.file, answer: make(chan struct{})}
	s.node.events.put(event{offer: o})
	select {
	case <-o.answer:
	case <-s.node.done:
		return model.Errorf(model.Unavailable, "this manager has stopped")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// finish makes it durable and returns the message that it came with.
func (s *IncomingSnapshot) finish() (*raftpb.Message, error) {
	in := &s.node.incoming
	in.mu.Lock()
	defer in.mu.Unlock()
	if s.ended {
		return nil, errGivenUp
	}
	s.end()
	if err := s.file.Finish(); err != nil {
		return nil, err
	}
	in.whole = append(in.whole, s.file)
	return s.message, nil
}

// Abort gives the snapshot up.
func (s *IncomingSnapshot) Abort() {
	s.node.incoming.mu.Lock()
	defer s.node.incoming.mu.Unlock()
	s.discard()
}

// discard gives it up, with the lock held.
func (s *IncomingSnapshot) discard() {
	if !s.ended {
		s.end()
		if err := s.file.Discard(); err != nil {
			s.node.cfg.Log.Error("what was received of a raft snapshot stays until the next start", "error", err)
		}
	}
}

func (s *IncomingSnapshot) end() {
	s.ended = true
	if s.node.incoming.now == s {
		s.node.incoming.now = nil
	}
}

// offer is a snapshot that is complete, offered to raft.
type offer struct {
	message *raftpb.Message
	meta    snap.Meta
	file    *snap.Incoming
	taken   bool
	answer  chan struct{} // closed when raft has been asked
}

// take offers a snapshot to raft. What raft has no use for is removed.
func (l *loop) take(o *offer) error {
	defer close(o.answer)
	l.offered = o
	defer func() { l.offered = nil }()
	if err := l.amnesia(o.message); err != nil {
		return err
	}
	if err := l.raw.Step(o.message); err != nil {
		return fmt.Errorf("give raft a snapshot: %w", err)
	}
	for l.raw.HasReady() {
		l.handle(l.raw.Ready())
	}
	if o.taken {
		return nil
	}
	l.cfg.Log.Info("a raft snapshot of another member is not needed", "raft.index", o.meta.Index)
	l.group.Go(func() error {
		l.incoming.forget(o.file)
		if err := o.file.Discard(); err != nil {
			l.cfg.Log.Error("a raft snapshot that is not needed stays until the next start", "error", err)
		}
		return nil
	})
	return nil
}

// accept notes that raft took a snapshot: changes of membership before it, which may be about
// to be applied, are in it.
func (l *loop) accept(s *raftpb.Snapshot) {
	l.offered.taken = true
	l.restored = s.GetMetadata().GetIndex()
	l.ahead.Store(l.restored)
	l.taken.Store(l.restored, l.offered)
}

// install makes a snapshot that raft took the beginning of the log, and of the state machine.
// Wherever it is cut off, the next start goes on: once the file has its name, a log that ends
// before it begins after it.
func (n *Node) install(ctx context.Context, m *raftpb.Message) error {
	index := m.GetSnapshot().GetMetadata().GetIndex()
	v, _ := n.taken.LoadAndDelete(index)
	o, ok := v.(*offer)
	if !ok {
		return fmt.Errorf("raft wants a snapshot at entry %d installed that did not come", index)
	}
	if done, err := n.adopt(ctx, o, hardState(m)); err != nil || !done {
		return err
	}
	r := &restoring{meta: o.meta, done: make(chan error, 1)}
	n.orders.put(order{restore: r})
	select {
	case err := <-r.done:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		return nil
	}
	n.cfg.Log.Info("this manager took a raft snapshot of another member", "raft.index", index, "from", o.message.GetFrom())
	return nil
}

// adopt makes a snapshot the newest one and the beginning of the log, on disk and in memory. It
// reports false if ctx ended before.
func (n *Node) adopt(ctx context.Context, o *offer, state *wal.HardState) (bool, error) {
	if named, err := n.untilSpace(ctx, func() error { return n.name(o.file) }); err != nil || !named {
		return false, err
	}
	begun, err := n.untilSpace(ctx, func() error { return n.log.Restart(o.meta.Index, o.meta.Term, state) })
	if err != nil || !begun {
		return false, err
	}
	n.incoming.mu.Lock()
	defer n.incoming.mu.Unlock()
	n.mem.restart(n.described(o.meta))
	err = n.log.Release(o.meta.Index)
	if !n.writing.Load() { // whoever writes an older one tidies up after it
		err = errors.Join(err, n.snapshots.Tidy(o.meta.Index))
	}
	if err != nil {
		n.cfg.Log.Error("old files of the raft log stay until the next snapshot", "error", err)
	}
	return true, nil
}

// name makes what was received a snapshot.
func (n *Node) name(file *snap.Incoming) error {
	n.incoming.mu.Lock()
	defer n.incoming.mu.Unlock()
	n.incoming.whole = slices.DeleteFunc(n.incoming.whole, func(s *snap.Incoming) bool { return s == file })
	return file.Adopt()
}

// restoring is the order to restore a snapshot that was adopted.
type restoring struct {
	meta snap.Meta
	done chan error
}

// restoreReceived makes the state machine and the membership what a snapshot says.
func (a *applier) restoreReceived(ctx context.Context, r *restoring) error {
	a.elected = 0
	a.follow()
	if _, err := a.load(r.meta.Index); err != nil {
		r.done <- err
		return err
	}
	a.cfg.StateMachine.Applied(r.meta.Index, r.meta.Term)
	a.due = due{}
	a.applied.Store(r.meta.Index)
	set := make(chan struct{})
	a.events.put(event{do: func(l *loop) error {
		defer close(set)
		l.setMembers(&membership{conf: r.meta.Conf, members: r.meta.Members, removed: r.meta.Removed})
		l.publish()
		return nil
	}})
	select {
	case <-set:
		r.done <- nil
	case <-ctx.Done():
	}
	return nil
}
